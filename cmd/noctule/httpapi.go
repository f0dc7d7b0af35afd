package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/auth"
	"noctule/cmd/internal/conf"
)

// apiServer is an API listener that runs. A reload stores new options.
type apiServer struct {
	*admin.Server
	gate *apiGate
}

// apiGate lets HTTP clients in by the rules of MQTT clients of the same listener. To an ACL, the URL's path
// is a topic to read, and the client id is http-api.
type apiGate struct {
	options atomic.Pointer[broker.ListenerOptions]
}

// Allows implements admin.Gate.
func (g *apiGate) Allows(l admin.Login) bool {
	const clientID = "http-api"
	o := g.options.Load()
	if o.Policy == nil {
		return o.AllowAnonymous // whatever name they give
	}
	login := auth.Login{
		ClientID: clientID, Username: l.Username, HasUsername: l.Named, HasPassword: l.Named,
		Password: []byte(l.Password), Address: l.Address,
	}
	return o.Policy.Authenticate(&login) &&
		o.Policy.Permissions(clientID, l.Username, l.Named).Allows(auth.Read, []byte(l.Path))
}

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
		gate := &apiGate{}
		gate.options.Store(&o)
		api := admin.APIConfig{
			Network: o.Net.Network, Address: o.Net.Address, Mode: o.Net.UnixMode, TLS: o.Net.TLS,
			Dir: l.HTTPDir, Version: compatible, Listeners: apiListeners(cfg.Listeners),
			Gate: gate,
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
			c.apis = append(c.apis, apiServer{s, gate})
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
