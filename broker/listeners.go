package broker

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"noctule/codec"
)

// counted is the counter of a listener's clients of a version.
func (l *Listener) counted(v codec.Version) *atomic.Int64 { return &l.connected[v-codec.V31] }

// label is the listener's name in metrics.
func (l *Listener) label() string { return l.Addr().String() }

// metrics is a snapshot. Any goroutine.
func (l *Listener) metrics() ListenerMetrics {
	m := ListenerMetrics{Name: l.label(), Net: l.net.Stats()}
	for i := range m.Connected {
		m.Connected[i] = l.connected[i].Load()
	}
	m.CertificateEnd = CertificateEnd(l.Options().Net.TLS)
	return m
}

// add counts a listener that had the same address before m.
func (m *ListenerMetrics) add(old *ListenerMetrics) {
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

// listenerMetrics is a snapshot of all listeners, those that have been closed included: what came in there
// stays connected, and counters do not go back.
func (b *Broker) listenerMetrics() []ListenerMetrics {
	b.mu.Lock()
	listeners := b.mu.listeners[:len(b.mu.listeners):len(b.mu.listeners)]
	b.mu.Unlock()
	out := make([]ListenerMetrics, 0, len(listeners))
	at := make(map[string]int, len(listeners))
	for _, l := range listeners {
		m := l.metrics()
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
