package main

import (
	"context"
	"sync/atomic"
	"time"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/listener"
)

// operators is the HTTP server for operators, and what it shows of the program.
type operators struct {
	command *command
	server  *admin.Server // nil without admin_listener

	// Atomic:
	database     atomic.Pointer[fileWatch]
	configured   atomic.Int64 // when the configuration in force was read, Unix ms
	failed       atomic.Bool  // a later one could not be
	certificates atomic.Pointer[[]admin.Certificate]
}

// openOperators starts the server, if address is not empty. It says that the broker is starting until ready
// is called.
func (c *command) openOperators(address string, parts []admin.Part) (*operators, error) {
	o := &operators{command: c}
	o.reloaded(true, nil)
	if address == "" {
		return o, nil
	}
	var err error
	if o.server, err = admin.Start(address, o.program, parts...); err != nil {
		return nil, err
	}
	c.info("Opening admin listen socket on %s.", o.server.Addr())
	return o, nil
}

// program is what /metrics shows beside the broker's numbers. Any goroutine.
func (o *operators) program() admin.Program {
	p := admin.Program{
		LogLinesDropped: o.command.handler.Dropped(),
		Configured:      time.UnixMilli(o.configured.Load()),
		ReloadFailed:    o.failed.Load(),
	}
	if w := o.database.Load(); w != nil {
		p.StoreFile, p.StoreFileLost = true, w.times.Load()
	}
	if list := o.certificates.Load(); list != nil {
		p.Certificates = *list
	}
	return p
}

// reloaded notes how an attempt to read the configuration has ended: whether it is in force, and what is
// wrong.
func (o *operators) reloaded(inForce bool, err error) {
	if inForce {
		o.configured.Store(time.Now().UnixMilli())
	}
	o.failed.Store(err != nil)
}

// show notes the certificates of the listeners with protocol http_api.
func (o *operators) show(apis []*api) {
	var list []admin.Certificate
	for _, a := range apis {
		for _, server := range a.servers {
			list = append(list, admin.Certificate{
				Listener: server.Addr().String(), End: listener.CertificateEnd(a.tls.Load()),
			})
		}
	}
	o.certificates.Store(&list)
}

// ready says that the start has finished.
func (o *operators) ready(b *broker.Broker) {
	if o.server != nil {
		o.server.Use(b)
	}
}

// close ends the server.
func (o *operators) close() {
	if o.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
	defer cancel()
	_ = o.server.Close(ctx) // the program ends
}
