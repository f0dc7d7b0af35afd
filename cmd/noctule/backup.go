package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"noctule/broker/store/bolt"
	"noctule/internal/swapfile"
)

// A running broker has its file locked, so it gives backups itself: whoever connects to a socket beside the
// file gets a copy of it as it is at that moment. The socket is its owner's.

// backupPatience is how long a reader of a backup may stand still: the file cannot use pages again meanwhile.
const backupPatience = 30 * time.Second

func backupSocket(path string) string { return path + ".sock" }

// socketMost is the longest path that the address of a unix socket takes everywhere.
const socketMost = 100

// shortName is another path of a socket, for an address, where its own is too long: by way of its directory,
// which is open until done is called.
func shortName(path string) (name string, done func(), err error) {
	if len(path) <= socketMost {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() {
		_ = dir.Close() // only held
	}, nil
}

// listenUnix listens on a socket that its owner alone may open.
func listenUnix(path string) (l net.Listener, done func(), err error) {
	name, done, err := shortName(path)
	if err != nil {
		return nil, nil, err
	}
	if l, err = net.Listen("unix", name); err != nil {
		done()
		return nil, nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		err = errors.Join(err, l.Close())
		done()
		return nil, nil, err
	}
	return l, done, nil
}

// dialUnix connects to a socket.
func dialUnix(path string) (net.Conn, error) {
	name, done, err := shortName(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.Dial("unix", name)
}

// serveBackups answers on the socket until stop is called. Without a socket the broker runs all the same.
func (c *command) serveBackups(db *bolt.Store, path string) (stop func()) {
	name := backupSocket(path)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a broker that was killed
		c.log.Warn("Warning: no backups of the running broker: " + err.Error())
		return func() {}
	}
	l, done, err := listenUnix(name)
	if err != nil {
		c.log.Warn("Warning: no backups of the running broker: " + err.Error())
		return func() {}
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { // ends with the copy, or when its reader stands still
				err := db.Backup(&patient{conn})
				if err != nil {
					c.log.Warn("Warning: a backup was broken off: " + err.Error())
				}
				_ = conn.Close() // nothing more to say
			})
		}
	})
	return func() {
		_ = l.Close() // the program ends
		wg.Wait()
		done()
	}
}

// patient gives each write to a connection its time.
type patient struct{ conn net.Conn }

func (p *patient) Write(b []byte) (n int, err error) {
	if err := p.conn.SetWriteDeadline(time.Now().Add(backupPatience)); err != nil {
		return 0, err
	}
	return p.conn.Write(b)
}

// backup copies the file of a broker, which may run, to a new file, and checks the copy.
func backup(path, to string) (err error) {
	part := to + ".part"
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part) // it is not whole
		}
	}()
	if conn, dialErr := dialUnix(backupSocket(path)); dialErr == nil {
		_, err = io.Copy(out, conn)
		err = errors.Join(err, conn.Close())
	} else {
		err = copyClosed(path, out)
	}
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	s, err := bolt.Open(part, bolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("the copy is not whole: %w", err)
	}
	if err := errors.Join(errors.Join(s.Check()...), s.Close()); err != nil {
		return fmt.Errorf("the copy is not whole: %w", err)
	}
	return swapfile.Replace(part, to)
}

// copyClosed copies the file of a broker that does not run.
func copyClosed(path string, out io.Writer) error {
	if err := mustBeOurs(path); err != nil {
		return err
	}
	s, err := bolt.Open(path, bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(s.Backup(out), s.Close())
}
