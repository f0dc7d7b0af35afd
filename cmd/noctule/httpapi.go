package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/auth"
	"noctule/cmd/internal/conf"
	"noctule/codec"
)

// api is one listener with protocol http_api. Its settings can be replaced while it runs.
type api struct {
	index   int // of the listener in the configuration
	servers []*admin.Server
	gate    apiGate

	// Atomic:
	tls atomic.Pointer[tls.Config]
}

// apiGate lets HTTP clients in by the rules of MQTT clients of the same listener. To an ACL, the URL's path
// is a topic to read, and the client id is http-api.
type apiGate struct {
	b *broker.Broker // checks passwords among those of MQTT clients

	// Atomic:
	options atomic.Pointer[broker.ListenerOptions]
}

// Allows implements admin.Gate.
func (g *apiGate) Allows(ctx context.Context, l admin.Login) (bool, error) {
	const clientID = "http-api"
	o := g.options.Load()
	if o.Policy == nil {
		return o.AllowAnonymous, nil // whatever name they give
	}
	login := auth.Login{
		ClientID: clientID, Username: l.Username, HasUsername: l.Named, HasPassword: l.Named,
		Password: []byte(l.Password), Address: l.Address,
		Local: !l.Address.IsValid() || l.Address.IsLoopback(),
	}
	switch r := g.b.CheckLogin(ctx, o.Policy, login); r {
	case codec.Success:
		perms := o.Policy.Permissions(clientID, l.Username, l.Named)
		return perms.Allows(auth.Read, []byte(l.Path)), nil
	case codec.NotAuthorized:
		return false, nil
	default:
		return false, fmt.Errorf("the password was not checked: %s", r)
	}
}

// set gives it new settings.
func (a *api) set(o broker.ListenerOptions) {
	a.gate.options.Store(&o)
	if o.Net.TLS == nil {
		return
	}
	t := o.Net.TLS.Clone() // Mosquitto's asks for no certificate
	t.ClientAuth, t.ClientCAs, t.VerifyConnection, t.GetConfigForClient = tls.NoClientCert, nil, nil, nil
	a.tls.Store(t)
}

// openAPI opens the sockets of one listener with protocol http_api. The one that local only mode brings along
// must not keep a second broker of the machine from starting.
func (s *service) openAPI(index int) error {
	l := &s.cfg.Listeners[index]
	sockets, err := l.Sockets()
	if err != nil {
		return err
	}
	a := &api{index: index, gate: apiGate{b: s.b}}
	s.apis = append(s.apis, a)
	a.set(sockets[0])
	s.info("Opening http api listen socket on port %d.", l.Port)
	err = openEach(sockets, func(o broker.ListenerOptions) error {
		cfg := admin.APIConfig{
			Network: o.Net.Network, Address: o.Net.Address, Mode: o.Net.UnixMode, Dir: l.HTTPDir,
			Version: compatible, Listeners: s.listed, Gate: &a.gate,
		}
		if o.Net.TLS != nil {
			cfg.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return a.tls.Load(), nil
			}}
		}
		server, err := admin.StartAPI(cfg, s.b)
		if err == nil {
			a.servers = append(a.servers, server)
		}
		return err
	})
	if err != nil && l.Implied {
		s.log.Warn(fmt.Sprintf("Warning: there is no http api: %v", err))
		return nil
	}
	return err
}

// closeAPIs ends what openAPI has opened.
func (s *service) closeAPIs() {
	ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
	defer cancel()
	for _, a := range s.apis {
		for _, server := range a.servers {
			_ = server.Close(ctx) // the program ends
		}
	}
}

// listed is what the API tells of the listeners: the settings in force. Any goroutine.
func (s *service) listed() []admin.APIListener { return *s.told.Load() }

// tell has the API tell of the listeners of cfg.
func (s *service) tell() {
	list := apiListeners(s.cfg.Listeners)
	s.told.Store(&list)
}

// apiListeners is what the API tells of some listeners.
func apiListeners(list []conf.Listener) (out []admin.APIListener) {
	for i := range list {
		l := &list[i]
		a := admin.APIListener{
			Port: l.Port, Protocol: l.Protocol, TLS: l.CertFile != "", AllowAnonymous: l.AllowAnonymous,
			MutualTLS: l.RequireCertificate,
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
