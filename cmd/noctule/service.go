package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/auth"
	"noctule/cmd/internal/conf"
)

// service is a broker with its listeners, run by a configuration. One goroutine uses it, and others what is
// atomic.
type service struct {
	*command
	flags   flags
	cfg     *conf.Config // in force
	b       *broker.Broker
	keys    *os.File             // of --tls-keylog; nil without
	sockets [][]*broker.Listener // of each of cfg's listeners
	apis    []*api               // of listeners with protocol http_api
	tree    printing
	pre     *presubscription // nil: nothing is configured
	sources *logins

	database  *fileWatch // the persistent state; nil: none
	operators *operators

	// Atomic:
	told atomic.Pointer[[]admin.APIListener] // what the HTTP API tells of cfg's listeners
}

// open starts everything that listens.
func (s *service) open(policies []*auth.Policy) error {
	if s.cfg.LocalOnly {
		s.log.Warn("Starting in local only mode. " +
			"Connections will only be possible from clients running on this machine.")
		s.log.Warn("Create a configuration file which defines a listener to allow remote access.")
	}
	s.tell()
	s.sockets = make([][]*broker.Listener, len(s.cfg.Listeners))
	for i := range s.cfg.Listeners {
		l := &s.cfg.Listeners[i]
		l.Policy = policies[i]
		err := sameSocket(s.cfg.Listeners, i)
		switch {
		case err != nil:
		case l.Protocol == "http_api":
			err = s.openAPI(i)
		default:
			s.sockets[i], err = s.listen(l)
		}
		if err != nil && spared(s.cfg, i, func(o int) bool { return len(s.sockets[o]) > 0 }) {
			s.log.Warn(fmt.Sprintf("Warning: port %d is not open on %s: %v", l.Port, l.Host, err))
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// spared reports whether the start can do without a listener that cannot be opened: in local only mode one of
// the two loopback addresses of a port is enough, whatever is wrong with the other; IPv6 may be switched off.
func spared(cfg *conf.Config, index int, opened func(i int) bool) bool {
	l := &cfg.Listeners[index]
	if !cfg.LocalOnly || l.Protocol == "http_api" {
		return false
	}
	for i := range cfg.Listeners {
		o := &cfg.Listeners[i]
		if i != index && o.Port == l.Port && o.Protocol == l.Protocol && (i > index || opened(i)) {
			return true // opened, or still to come
		}
	}
	return false
}

// openEach opens the sockets of one listener, one at least: a machine may lack one of the address families.
func openEach(sockets []broker.ListenerOptions, open func(broker.ListenerOptions) error) error {
	var last error
	opened := 0
	for _, o := range sockets {
		switch err := open(o); {
		case err == nil:
			opened++
		case missingFamily(err):
			last = err
		default:
			return err
		}
	}
	if opened == 0 {
		return last
	}
	return nil
}

// sameSocket refuses the path of a unix socket that an earlier listener has: it would be taken from that one.
func sameSocket(list []conf.Listener, index int) error {
	l := &list[index]
	for i := range list[:index] {
		if o := &list[i]; l.Port == 0 && o.Port == 0 && filepath.Clean(o.Host) == filepath.Clean(l.Host) {
			return fmt.Errorf("listener %s is there twice", l.Name())
		}
	}
	return nil
}

// listen opens the sockets of one listener, with a log line for each.
func (s *service) listen(l *conf.Listener) (opened []*broker.Listener, err error) {
	sockets, err := l.Sockets()
	if err != nil {
		return nil, err
	}
	if w := l.Warning(); w != "" {
		s.log.Warn(w)
	}
	err = openEach(sockets, func(o broker.ListenerOptions) error {
		if o.Net.TLS != nil && s.keys != nil {
			o.Net.TLS.KeyLogWriter = s.keys
		}
		if o.Net.Network == "unix" {
			s.info("Opening unix listen socket on path %s.", o.Net.Address)
		} else {
			family := strings.Replace(o.Net.Network, "tcp", "v", 1)
			s.info("Opening ip%s listen socket on port %d.", family, l.Port)
		}
		one, err := s.b.Listen(o)
		if err == nil {
			opened = append(opened, one)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// missingFamily reports an error of a machine without one of the address families.
func missingFamily(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// operate opens what listens and waits for signals.
func (s *service) operate(policies []*auth.Policy, signals chan os.Signal) int {
	defer s.closeAPIs()
	if err := s.open(policies); err != nil {
		s.fail(err)
		return exitListener
	}
	s.operators.database.Store(s.database)
	s.operators.show(s.apis)
	s.operators.ready(s.b)
	s.info("mosquitto version %s running", compatible)
	if err := notify("READY=1"); err != nil {
		s.fail(fmt.Errorf("Unable to tell systemd: %w", err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go watchdog(ctx, s.b) // ends with ctx
	go pace(ctx)          // ends with ctx
	if s.database != nil {
		go s.database.run(ctx) // ends with ctx
	}
	tasks := make(chan os.Signal, cap(signals))
	go sort(signals, tasks, cancel) // ends with the program
	for sig := range tasks {
		if ctx.Err() == nil {
			s.handle(ctx, sig)
		}
	}
	_ = notify("STOPPING=1") // nothing depends on it
	return exitOK
}

// sort passes signals on until one of them ends the program: then it calls end, so that what is under way is
// given up, and closes tasks. Signals that come while tasks is full are lost, as are those of the system.
func sort(signals <-chan os.Signal, tasks chan<- os.Signal, end func()) {
	defer close(tasks)
	for sig := range signals {
		if isEnd(sig) {
			end()
			return
		}
		select {
		case tasks <- sig:
		default:
		}
	}
}
