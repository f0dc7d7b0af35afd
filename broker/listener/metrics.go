package listener

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"noctule/wsnet"
)

// Metrics is a snapshot of one listener. Listeners of the same address, after each other, count as one.
type Metrics struct {
	// Name is the address and port it listens on, or the path of its unix socket.
	Name string
	// Connected is its clients that are connected, by protocol version: 3.1, 3.1.1 and 5.
	Connected [versions]int64
	// CertificateEnd is when its TLS certificate, or one of the chain that it shows, ends first; zero without
	// TLS.
	CertificateEnd time.Time
	// Net is what was counted before CONNECT.
	Net wsnet.ListenerStats
}

// versions is the number of protocol versions.
const versions = 3

// VersionText names one of Metrics.Connected.
func VersionText(i int) string { return [versions]string{"3.1", "3.1.1", "5"}[i] }

// Metrics is a snapshot. Any goroutine.
func (l *Listener) Metrics() Metrics {
	m := Metrics{Name: l.Addr().String(), Net: l.net.Stats()}
	for i := range m.Connected {
		m.Connected[i] = l.connected[i].Load()
	}
	m.CertificateEnd = CertificateEnd(l.Options().Net.TLS)
	return m
}

// add counts a listener that had the same address before m.
func (m *Metrics) add(old *Metrics) {
	for i, n := range old.Connected {
		m.Connected[i] += n
	}
	m.Net.Open += old.Net.Open
	m.Net.Accepted += old.Net.Accepted
	for i, n := range old.Net.Refused {
		m.Net.Refused[i] += n
	}
	for i, n := range old.Net.TLS {
		m.Net.TLS[i] += n
	}
}

// Metrics is a snapshot of all listeners, those that have been closed included: what came in there stays
// connected, and counters do not go back.
func (s *Set) Metrics() []Metrics {
	listeners := s.All()
	out := make([]Metrics, 0, len(listeners))
	at := make(map[string]int, len(listeners))
	for _, l := range listeners {
		m := l.Metrics()
		if i, again := at[m.Name]; again {
			m.add(&out[i])
			out[i] = m
			continue
		}
		at[m.Name] = len(out)
		out = append(out, m)
	}
	return out
}

// CertificateEnd is when the certificate of a TLS server, or one of the chain that it shows, ends first; zero
// without one.
func CertificateEnd(cfg *tls.Config) (end time.Time) {
	if cfg == nil {
		return end
	}
	for i := range cfg.Certificates {
		for _, der := range cfg.Certificates[i].Certificate {
			c, err := x509.ParseCertificate(der)
			if err == nil && (end.IsZero() || c.NotAfter.Before(end)) {
				end = c.NotAfter
			}
		}
	}
	return end
}
