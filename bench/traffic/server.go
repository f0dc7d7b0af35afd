package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	startTime = 60 * time.Second // longest time until a server listens: Erlang is slow to start
	startLook = 20 * time.Millisecond
)

// errAbsent means that a program is not installed.
var errAbsent = errors.New("traffic: not installed")

// server is a running stack.
type server struct {
	at      places
	version string
	cmd     *exec.Cmd
	ended   chan struct{}
	log     *bytes.Buffer // read it after ended
}

// launch starts a stack and waits until it listens.
func (s *stack) launch(ctx context.Context, dir string) (*server, error) {
	program, err := s.find()
	if err != nil {
		return nil, err
	}
	at, err := freePlaces()
	if err != nil {
		return nil, err
	}
	for name, text := range s.files {
		name = filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(name), 0o700)
		if err == nil {
			err = os.WriteFile(name, []byte(fill(text, dir, program, at)), 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("traffic: %w", err)
		}
	}
	var args []string
	for _, a := range s.start {
		args = append(args, fill(a, dir, program, at))
	}
	v := &server{at: at, ended: make(chan struct{}), log: new(bytes.Buffer)}
	v.version = s.versionOf(ctx, program)
	v.cmd = exec.Command(args[0], args[1:]...)
	v.cmd.Env, v.cmd.Dir = os.Environ(), dir
	for _, e := range s.env {
		v.cmd.Env = append(v.cmd.Env, fill(e, dir, program, at))
	}
	v.cmd.Stdout, v.cmd.Stderr = v.log, v.log
	if err := v.cmd.Start(); err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	go func() {
		defer close(v.ended)
		_ = v.cmd.Wait() // stop kills it
	}()
	if err := v.listening(ctx, s.ready); err != nil {
		v.stop()
		return nil, fmt.Errorf("%s: %w\n%s", s.name, err, v.log)
	}
	return v, nil
}

// find looks for the program, in the administrator's directory too.
func (s *stack) find() (string, error) {
	if s.program == "erl" {
		if found, _ := filepath.Glob(ejabberdLibs + "/ejabberd-*/ebin"); len(found) == 0 {
			return "", errAbsent
		}
	}
	for _, name := range []string{s.program, "/usr/sbin/" + s.program} {
		if path, err := exec.LookPath(name); err == nil && s.program != "" {
			return filepath.Abs(path)
		}
	}
	return "", errAbsent
}

// versionOf is the version of the package, or what our program tells.
func (s *stack) versionOf(ctx context.Context, program string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ask := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", s.name)
	if s.ours {
		ask = exec.CommandContext(ctx, program, "--version")
	}
	out, err := ask.Output()
	if err != nil {
		return "of an unknown version"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimPrefix(first, s.name+" ")
}

// listening waits until the server takes connections on its WebSocket or HTTP port, which is the last that
// each of them opens, and knows the path, if there is one: prosody listens before its modules are loaded.
func (v *server) listening(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(startLook)
	defer tick.Stop()
	for {
		if v.answers(ctx, path) {
			return nil
		}
		select {
		case <-tick.C:
		case <-v.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on %s: %w", v.at.web, ctx.Err())
		}
	}
}

// answers tells whether the server listens and knows the path.
func (v *server) answers(ctx context.Context, path string) bool {
	if path == "" {
		c, err := net.Dial("tcp4", v.at.web)
		if err != nil {
			return false
		}
		_ = c.Close() // nothing was sent
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.at.web+path, http.NoBody)
	if err != nil {
		return false
	}
	once := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := once.Do(ask)
	if err != nil {
		return false
	}
	_ = r.Body.Close() // only the status counts
	return r.StatusCode != http.StatusNotFound
}

// stop ends the server.
func (v *server) stop() {
	_ = v.cmd.Process.Kill() // it may have ended
	<-v.ended
}

// freePlaces returns addresses that nobody listens on, for servers that cannot pick a port themselves.
func freePlaces() (places, error) {
	a, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return places{}, fmt.Errorf("traffic: %w", err)
	}
	defer a.Close() //nolint:errcheck // nobody connected
	b, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return places{}, fmt.Errorf("traffic: %w", err)
	}
	defer b.Close() //nolint:errcheck // nobody connected
	return places{tcp: a.Addr().String(), web: b.Addr().String()}, nil
}
