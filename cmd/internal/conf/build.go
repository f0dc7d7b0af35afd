package conf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"noctule/broker"
)

// lookupTimeout bounds the look-up of a listener's host name.
const lookupTimeout = 10 * time.Second

// Sockets turns a listener line into what the broker listens on: one entry per address family. It reads
// certificates and looks interfaces up, so its errors are those of starting a listener, not of the file.
func (l *Listener) Sockets() ([]broker.ListenerOptions, error) {
	o := l.ListenerOptions
	if l.CertFile != "" {
		cfg, err := l.tlsConfig()
		if err != nil {
			return nil, err
		}
		o.Net.TLS = cfg
	}
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
	if l.Host == "" {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
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

// tlsConfig loads the files of a TLS listener.
func (l *Listener) tlsConfig() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("Unable to load server certificate \"%s\" and key \"%s\": %w",
			l.CertFile, l.KeyFile, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	switch l.TLSVersion {
	case "", "tlsv1.2":
	case "tlsv1.1":
		cfg.MinVersion = tls.VersionTLS11
	case "tlsv1.3":
		cfg.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("Unsupported tls_version \"%s\".", l.TLSVersion)
	}
	if l.CAFile == "" && l.CAPath == "" {
		if l.RequireCertificate {
			return nil, errors.New("require_certificate needs cafile or capath")
		}
		return cfg, nil
	}
	cfg.ClientCAs = x509.NewCertPool()
	files := []string{}
	if l.CAFile != "" {
		files = append(files, l.CAFile)
	}
	if l.CAPath != "" {
		more, _ := filepath.Glob(filepath.Join(l.CAPath, "*"))
		files = append(files, more...)
	}
	found := false
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("Unable to load CA certificates: %w", err)
		}
		found = cfg.ClientCAs.AppendCertsFromPEM(pem) || found
	}
	if !found {
		return nil, errors.New("no CA certificate in cafile or capath")
	}
	if l.RequireCertificate { // otherwise Mosquitto does not ask for one
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}
