package conf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"noctule/broker"
	"noctule/cmd/internal/tlsconf"
)

// lookupTimeout bounds the look-up of a listener's host name.
const lookupTimeout = 10 * time.Second

// Load reads the TLS files of a listener and returns its options, without where it listens.
func (l *Listener) Load() (broker.ListenerOptions, error) {
	o := l.ListenerOptions
	o.Net.ProxyProtocol, o.Net.ProxyRequireTLS = l.ProxyProtocol, l.ProxyRequireTLS
	o.Net.ProxyFrom = l.ProxyFrom
	o.Net.ProxyRequireCertificate = l.ProxyProtocol == 2 && l.RequireCertificate
	if l.CertFile != "" {
		cfg, revoked, err := l.loadTLS()
		if err != nil {
			return o, err
		}
		o.Net.TLS = cfg
		if len(revoked) > 0 {
			o.Revoked = revoked.Include
		}
	}
	return o, nil
}

// Blame is the directive of a listener that an error of Load or Sockets is about, "listener" where none is
// named.
func (l *Listener) Blame(err error) (key string, at []Place) {
	key = "listener"
	if d := (*tlsconf.DirectiveError)(nil); errors.As(err, &d) {
		key = d.Key
	}
	return key, l.At(key)
}

// Warning is what the log should say of a listener that can be opened; "" nothing.
func (l *Listener) Warning() string {
	if l.CAPath == "" || !l.RequireCertificate || !tlsconf.Unhashed(l.CAPath) {
		return ""
	}
	return fmt.Sprintf("Warning: capath \"%s\" has no file that is named by the hash of its certificate:"+
		" run `openssl rehash` on it.", l.CAPath)
}

// Sockets turns a listener line into what the broker listens on: one entry per address family. It reads
// certificates and looks interfaces up, so its errors are those of starting a listener, not of the file.
func (l *Listener) Sockets() ([]broker.ListenerOptions, error) {
	o, err := l.Load()
	if err != nil {
		return nil, err
	}
	return l.socketsOf(o)
}

// Addresses is Sockets without reading certificates.
func (l *Listener) Addresses() ([]broker.ListenerOptions, error) {
	return l.socketsOf(l.ListenerOptions)
}

func (l *Listener) socketsOf(o broker.ListenerOptions) ([]broker.ListenerOptions, error) {
	if l.Port == 0 {
		o.Net.Network, o.Net.Address, o.Net.UnixMode = "unix", l.Host, 0o660
		return []broker.ListenerOptions{o}, nil
	}
	addrs, err := l.addresses()
	if err != nil {
		return nil, err
	}
	var out []broker.ListenerOptions
	for _, a := range addrs {
		o.Net.Network = "tcp6"
		if a.Is4() {
			o.Net.Network = "tcp4"
		}
		if l.Domain != "" && l.Domain != o.Net.Network {
			continue
		}
		o.Net.Address = netip.AddrPortFrom(a, uint16(l.Port)).String()
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no address for port %d", l.Port)
	}
	return out, nil
}

// addresses are those of the host and of the interface: both wildcards where neither is named.
func (l *Listener) addresses() ([]netip.Addr, error) {
	if l.Interface != "" {
		return l.interfaceAddresses()
	}
	if l.Host == "" || l.Host == "*" {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	}
	if a, err := netip.ParseAddr(l.Host); err == nil { // a look-up adds 0.0.0.0 to ::
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", l.Host)
	if err != nil {
		return nil, fmt.Errorf("listener %d %s: %w", l.Port, l.Host, err)
	}
	var out []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

// interfaceAddresses are the addresses of bind_interface, or the one of them that the listener names.
func (l *Listener) interfaceAddresses() ([]netip.Addr, error) {
	i, err := net.InterfaceByName(l.Interface)
	if err != nil {
		return nil, fmt.Errorf("bind_interface %s: %w", l.Interface, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("bind_interface %s: %w", l.Interface, err)
	}
	var out []netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := p.Addr()
		if l.Host != "" && l.Host != ip.String() {
			continue
		}
		if ip.IsLinkLocalUnicast() && ip.Is6() {
			ip = ip.WithZone(l.Interface)
		}
		out = append(out, ip)
	}
	if len(out) == 0 && l.Host != "" {
		return nil, fmt.Errorf("Interface address for %s does not match specified listener address (%s).",
			l.Interface, l.Host)
	}
	return out, nil
}

// loadTLS loads the files of a TLS listener.
func (l *Listener) loadTLS() (*tls.Config, tlsconf.Revocations, error) {
	m := tlsconf.Material{
		CertFile: l.CertFile, KeyFile: l.KeyFile, CAFile: l.CAFile, CAPath: l.CAPath, CRLFile: l.CRLFile,
		Ciphers: l.Ciphers, CiphersTLS13: l.CiphersTLS13, TLSVersion: l.TLSVersion,
		RequireCertificate: l.RequireCertificate, NoDateChecks: l.DisableCertDateChecks,
	}
	if !l.Net.WebSocket {
		m.ALPN = []string{"mqtt"}
	}
	return tlsconf.Load(m)
}
