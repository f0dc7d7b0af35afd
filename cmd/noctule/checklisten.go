package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// taken is an address that the configuration has a use for.
type taken struct {
	network string // tcp4, tcp6 or unix
	addr    netip.AddrPort
	path    string
	name    string // of the listener
	at      []conf.Place
}

// clashes reports whether the start cannot open t as well as o.
func (t *taken) clashes(o *taken) bool {
	if t.network != o.network {
		return false
	}
	if t.network == "unix" {
		return t.path == o.path
	}
	a, b := t.addr.Addr(), o.addr.Addr()
	return t.addr.Port() == o.addr.Port() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// twiceError is the error of an address that the configuration uses twice.
type twiceError struct{ other *taken }

// Error implements error.
func (e twiceError) Error() string {
	if len(e.other.at) == 0 {
		return fmt.Sprintf("the same as %s", e.other.name)
	}
	p := e.other.at[0]
	return fmt.Sprintf("the same as %s at %s:%d", e.other.name, p.File, p.Line)
}

// listeners tries the addresses of all listeners.
func (k *checking) listeners() {
	opened := make([]bool, len(k.cfg.Listeners))
	for i := range k.cfg.Listeners {
		l := &k.cfg.Listeners[i]
		k.httpDir(l)
		err := k.listener(l)
		opened[i] = err == nil
		key := ""
		if l.Interface != "" {
			key = "bind_interface"
		}
		name := "listener " + l.Name()
		switch {
		case err == nil, l.Implied:
		case isInUse(err):
			k.inUse(l.At(), name)
		case spared(k.cfg, i, func(o int) bool { return opened[o] }):
			k.warns(l.At(), "port %d is not open on %s: %v.", l.Port, l.Host, err)
		default:
			k.fails(l.At(key), "%s: %s.", name, strings.TrimPrefix(k.bindText(l, err), name+": "))
		}
	}
}

// isInUse reports whether somebody else has an address: not this configuration, and no file.
func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// inUse says that somebody else has an address. That is no fault of the configuration, and as a rule it is
// the broker that the start is to replace, or that runs with this very file.
func (k *checking) inUse(at []conf.Place, name string) {
	k.notes(at, "%s: the address is in use now: as long as that is so, another broker does not start.", name)
}

// bindText says why an address cannot be had, and what helps.
func (k *checking) bindText(l *conf.Listener, err error) string {
	const privileged = 1024
	if !errors.Is(err, fs.ErrPermission) || l.Port == 0 || l.Port >= privileged {
		return err.Error()
	}
	return fmt.Sprintf("%v for user %s: ports below 1024 need CAP_NET_BIND_SERVICE, "+
		"as in deploy/noctule.service", err, k.who.name)
}

// listener tries the addresses of one listener, as service.listen opens them.
func (k *checking) listener(l *conf.Listener) error {
	sockets, err := l.Addresses()
	if err != nil {
		return err
	}
	return openEach(sockets, func(o broker.ListenerOptions) error {
		t := taken{network: o.Net.Network, name: "listener " + l.Name(), at: l.At()}
		if t.network == "unix" {
			t.path = filepath.Clean(o.Net.Address)
			if reason := k.unwritableDir(filepath.Dir(t.path)); reason != "" {
				return errors.New(reason)
			}
		} else {
			t.addr = netip.MustParseAddrPort(o.Net.Address)
		}
		return k.take(t, o.Net.Address)
	})
}

// take tries an address that the configuration does not use yet.
func (k *checking) take(t taken, address string) error {
	for i := range k.sockets {
		if t.clashes(&k.sockets[i]) {
			return twiceError{&k.sockets[i]}
		}
	}
	err := broker.Vacant(t.network, address)
	if t.network == "unix" && errors.Is(err, syscall.EADDRINUSE) { // a socket would give way
		return errors.New("there is a file that is no socket")
	}
	if err == nil || errors.Is(err, syscall.EADDRINUSE) {
		k.sockets = append(k.sockets, t)
	}
	return err
}

// admin tries the address of admin_listener, which is both families' where it names none.
func (k *checking) admin() {
	if k.cfg.Admin == "" {
		return
	}
	at := k.cfg.At("admin_listener")
	err := k.adminAddress(at)
	switch {
	case isInUse(err):
		k.inUse(at, "admin_listener")
	case err != nil:
		k.fails(at, "admin_listener %s: %v.", k.cfg.Admin, err)
	}
}

func (k *checking) adminAddress(at []conf.Place) error {
	addr, err := net.ResolveTCPAddr("tcp", k.cfg.Admin)
	if err != nil {
		return err
	}
	t := taken{name: "admin_listener", at: at}
	hosts := []netip.Addr{addr.AddrPort().Addr().Unmap()}
	if addr.IP == nil || addr.IP.IsUnspecified() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var errs []error
	for _, h := range hosts {
		t.network, t.addr = "tcp6", netip.AddrPortFrom(h, uint16(addr.Port))
		if h.Is4() {
			t.network = "tcp4"
		}
		if err := k.take(t, net.JoinHostPort(h.String(), strconv.Itoa(addr.Port))); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(hosts) && missingFamily(errors.Join(errs...)) {
		return nil
	}
	return errors.Join(errs...)
}
