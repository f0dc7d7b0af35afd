package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"noctule/admin"
	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// anonymousGate is the gate of an API listener without passwords: as with MQTT clients, everybody may come in
// if anonymous clients may, whatever name they give.
type anonymousGate bool

// Allows implements admin.Gate.
func (g anonymousGate) Allows(admin.Login) bool { return bool(g) }

// listenAPI opens the sockets of one listener with protocol http_api. The one that local only mode brings
// along must not keep a second broker of the machine from starting.
func (c *command) listenAPI(b *broker.Broker, cfg *conf.Config, l *conf.Listener) error {
	sockets, err := l.Sockets()
	if err != nil {
		return err
	}
	opened := 0
	var last error
	for _, o := range sockets {
		api := admin.APIConfig{
			Network: o.Net.Network, Address: o.Net.Address, Mode: o.Net.UnixMode, TLS: o.Net.TLS,
			Dir: l.HTTPDir, Version: compatible, Listeners: apiListeners(cfg.Listeners),
			Gate: anonymousGate(o.AllowAnonymous),
		}
		if api.TLS != nil {
			api.TLS = api.TLS.Clone()
			api.TLS.ClientAuth = 0 // Mosquitto's asks for no certificate
		}
		if opened == 0 {
			c.info("Opening http api listen socket on port %d.", l.Port)
		}
		s, err := admin.StartAPI(api, b)
		switch {
		case err == nil:
			opened++
			c.apis = append(c.apis, s)
		case errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EADDRNOTAVAIL):
			last = err // a machine without one of the families
		case l.Implied:
			c.log.Warn(fmt.Sprintf("Warning: there is no http api: %v", err))
			return nil
		default:
			return err
		}
	}
	if opened == 0 {
		return last
	}
	return nil
}

// closeAPIs ends what listenAPI has opened.
func (c *command) closeAPIs() {
	ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
	defer cancel()
	for _, s := range c.apis {
		_ = s.Close(ctx) // the program ends
	}
}

// apiListeners is what the API tells of the listeners.
func apiListeners(list []conf.Listener) (out []admin.APIListener) {
	for i := range list {
		l := &list[i]
		a := admin.APIListener{
			Port: l.Port, Protocol: l.Protocol, TLS: l.CertFile != "", AllowAnonymous: l.AllowAnonymous,
			MutualTLS: l.CertFile != "" && l.RequireCertificate,
		}
		if l.Port == 0 {
			a.Path = l.Host
		}
		if l.Protocol == "http_api" {
			a.Protocol = "httpapi"
		}
		out = append(out, a)
	}
	return out
}
