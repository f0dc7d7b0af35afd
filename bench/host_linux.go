package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func today() string { return time.Now().Format(time.DateOnly) }

// host starts brokers and pins processors.
type host struct{ opts CompareOptions }

// pin keeps the generator, whose threads all come from those there are now, on its processor.
func (h *host) pin() error {
	if h.opts.GeneratorCPU < 0 {
		return nil
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := setCPU(tid, h.opts.GeneratorCPU); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("bench: processor %d: %w", h.opts.GeneratorCPU, err)
		}
	}
	return nil
}

func setCPU(tid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(tid, &set)
}

// process is a running broker.
type process struct {
	cmd    *exec.Cmd
	dir    string
	tcp    string
	ws     string
	output bytes.Buffer
	ended  chan struct{}
}

// describe finds a broker's version, or why it cannot run.
func (h *host) describe(ctx context.Context, b Broker) Peer {
	p := Peer{Name: b.Name, Hash: b.hash()}
	fill := strings.NewReplacer("{peers}", h.opts.Peers)
	args := strings.Fields(fill.Replace(b.Start))
	if _, err := exec.LookPath(args[0]); err != nil {
		p.Missing = err.Error()
		return p
	}
	if b.Version == "" {
		return p
	}
	args = strings.Fields(fill.Replace(b.Version))
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput() //nolint:gosec // the user's commands
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	p.Version = line
	if err != nil && line == "" {
		p.Missing = err.Error()
	}
	return p
}

// start starts a broker and waits until it listens.
func (h *host) start(ctx context.Context, b Broker) (*process, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	p := &process{
		dir: dir, ended: make(chan struct{}),
		tcp: net.JoinHostPort("127.0.0.1", ports[0]), ws: net.JoinHostPort("127.0.0.1", ports[1]),
	}
	fill := strings.NewReplacer("{dir}", dir, "{tcp}", ports[0], "{ws}", ports[1], "{peers}", h.opts.Peers)
	for name, text := range b.Files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
			return nil, err
		}
	}
	args := strings.Fields(fill.Replace(b.Start))
	p.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // the user's command; stop ends it
	p.cmd.Dir = dir
	p.cmd.Env = os.Environ()
	for _, e := range b.Environment {
		p.cmd.Env = append(p.cmd.Env, fill.Replace(e))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.startPinned(p.cmd); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("bench: %s: %w", b.Name, err)
	}
	go func() { // ends with the process; stop waits for it
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	wait := time.Duration(max(b.StartWait, 10)) * time.Second
	for _, address := range []string{p.tcp, p.ws} {
		if address == p.ws && !b.WebSocket {
			continue
		}
		if err := p.listens(ctx, address, wait); err != nil {
			p.stop()
			return nil, fmt.Errorf("bench: %s: %w: %s", b.Name, err, lastLine(p.output.String()))
		}
	}
	return p, nil
}

// startPinned starts a command on the broker's processor: a child inherits its thread's.
func (h *host) startPinned(cmd *exec.Cmd) error {
	if h.opts.BrokerCPU < 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := setCPU(0, h.opts.BrokerCPU); err != nil {
		return err
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// listens waits until address takes connections.
func (p *process) listens(ctx context.Context, address string, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("does not listen: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return errors.New("ended")
		case <-every.C:
		}
	}
}

// stop ends the broker and all it started.
func (p *process) stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
	_ = os.RemoveAll(p.dir)
}

// once runs one scenario on a fresh broker.
func (h *host) once(ctx context.Context, b Broker, s *Scenario) (*Report, error) {
	p, err := h.start(ctx, b)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	t := Target{Address: p.tcp, KeepAlive: 300}
	if s.WebSocket {
		t.Address, t.WebSocket, t.Path = p.ws, true, b.Path
	}
	r, err := Run(ctx, t, s.Plan, Options{PID: p.cmd.Process.Pid})
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d clients could not connect", r.Failed)
	}
	return r, err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// freePorts finds ports that nobody listens on.
func freePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
		if err != nil {
			return nil, err
		}
		defer ln.Close() //nolint:errcheck // nothing was written
		_, ports[i], err = net.SplitHostPort(ln.Addr().String())
		if err != nil {
			return nil, err
		}
	}
	return ports, nil
}
