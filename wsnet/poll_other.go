//go:build !linux

package wsnet

import (
	"errors"
	"net"
)

func newPoller(l *Loop, _ bool) (poller, error) { return newChanPoller(l), nil }

func prepareFiles() {}

// listenNative and socketOf belong to loops that own file descriptors; Listen and startTLS do not come
// here.
func (ln *Listener) listenNative() error { return ln.listenNet() }

func socketOf(net.Conn) (int, error) { return 0, errors.ErrUnsupported }

func (ln *Listener) newFileConn(int) *Conn { return nil } // see socketOf

// filesMax is how many files the process may open; here it is a guess.
func filesMax() uint64 { return 2 * defaultGuests }

// vacantTCP listens, for a moment: there is no other way to all systems.
func vacantTCP(network, address string) error {
	nl, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	return nl.Close()
}
