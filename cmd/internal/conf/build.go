package conf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"noctule/broker"
)

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
	hosts := []string{l.Host}
	if l.Interface != "" {
		var err error
		if hosts, err = interfaceHosts(l.Interface); err != nil {
			return nil, err
		}
	}
	var out []broker.ListenerOptions
	for _, h := range hosts {
		for _, network := range l.networks(h) {
			o.Net.Network, o.Net.Address = network, net.JoinHostPort(h, strconv.Itoa(l.Port))
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no address for port %d", l.Port)
	}
	return out, nil
}

// networks is which families a host is listened on: both for the wildcard and for names, as two sockets.
func (l *Listener) networks(host string) []string {
	if ip := net.ParseIP(host); ip != nil {
		network := "tcp6"
		if ip.To4() != nil {
			network = "tcp4"
		}
		if l.Domain != "" && l.Domain != network {
			return nil
		}
		return []string{network}
	}
	if l.Domain != "" {
		return []string{l.Domain}
	}
	return []string{"tcp4", "tcp6"}
}

func interfaceHosts(name string) ([]string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("bind_interface %s: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("bind_interface %s: %w", name, err)
	}
	var out []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		h := n.IP.String()
		if n.IP.To4() == nil && n.IP.IsLinkLocalUnicast() {
			h += "%" + name
		}
		out = append(out, h)
	}
	return out, nil
}

// tlsConfig loads the files of a TLS listener.
func (l *Listener) tlsConfig() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("Unable to load server certificate \"%s\" and key \"%s\": %w", l.CertFile, l.KeyFile, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	switch l.TLSVersion {
	case "", "tlsv1.2":
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
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	if l.RequireCertificate {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}
