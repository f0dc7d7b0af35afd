package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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

// markName is an environment variable of a broker's processes; its value is their directory. Also what left
// the process group, like a daemon, has it.
const markName = "NOCTULE_BENCH_DIR"

// outputFile is the file in the broker's directory that gets what it prints.
const outputFile = "bench-output.txt"

// process is a running broker.
type process struct {
	cmd   *exec.Cmd
	dir   string
	tcp   string
	ws    string
	ended chan struct{}
}

// describe finds a broker's version, or why it cannot run.
func (h *host) describe(ctx context.Context, b Broker) Peer {
	p := Peer{Name: b.Name, Hash: b.hash(), Start: b.Start, Environment: b.Environment, Files: b.Files}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		p.Missing = err.Error()
		return p
	}
	defer sweep(dir)                                  // RabbitMQ's leaves epmd
	fill := h.fill(dir, []string{"1", "2", "3", "4"}) // nothing listens on them
	for _, path := range b.Needs {
		if _, err := os.Stat(fill.Replace(path)); err != nil {
			p.Missing = err.Error()
			return p
		}
	}
	if _, err := exec.LookPath(strings.Fields(fill.Replace(b.Start))[0]); err != nil {
		p.Missing = err.Error()
		return p
	}
	args := strings.Fields(fill.Replace(b.Version))
	if len(args) == 0 {
		return p
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the user's commands
	cmd.Env = append(b.environment(fill), markName+"="+dir)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput() // some print their version and fail
	line := versionLine(string(out), b.Name)
	p.Version = line
	if err != nil && line == "" {
		p.Missing = err.Error()
	}
	return p
}

// versionLine is the first line that begins with the broker's name, or else the first: what speaks as another
// broker, as noctule does, names that one first.
func versionLine(out, name string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if len(line) > len(name) && strings.EqualFold(line[:len(name)], name) && line[len(name)] == ' ' {
			return line
		}
	}
	return first
}

// fill makes what puts values into the texts of a broker.
func (h *host) fill(dir string, ports []string) *strings.Replacer {
	return strings.NewReplacer("{dir}", dir, "{peers}", h.opts.Peers,
		"{tcp}", ports[0], "{ws}", ports[1], "{port3}", ports[2], "{port4}", ports[3])
}

func (b *Broker) environment(fill *strings.Replacer) []string {
	env := os.Environ()
	for _, e := range b.Environment {
		env = append(env, fill.Replace(e))
	}
	return env
}

// start starts a broker and waits until it listens.
func (h *host) start(ctx context.Context, b Broker) (*process, error) {
	p, err := h.launch(b)
	if err != nil {
		return nil, fmt.Errorf("bench: %s: %w", b.Name, err)
	}
	wait := time.Duration(cmp.Or(b.StartWait, 10)) * time.Second
	for _, address := range []string{p.tcp, p.ws} {
		if address == p.ws && !b.WebSocket {
			continue
		}
		if err := p.listens(ctx, address, wait); err != nil {
			raw, _ := os.ReadFile(filepath.Join(p.dir, outputFile)) // only for the error's text
			p.stop()
			return nil, fmt.Errorf("bench: %s: %w: %s", b.Name, err, lastLine(string(raw)))
		}
	}
	return p, nil
}

// launch starts the broker's process in a directory of its own.
func (h *host) launch(b Broker) (*process, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	p := &process{
		dir: dir, ended: make(chan struct{}),
		tcp: net.JoinHostPort("127.0.0.1", ports[0]), ws: net.JoinHostPort("127.0.0.1", ports[1]),
	}
	fill := h.fill(dir, ports)
	args := strings.Fields(fill.Replace(b.Start))
	p.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // the user's command; stop ends it
	p.cmd.Dir = dir
	p.cmd.Env = append(b.environment(fill), markName+"="+dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.begin(p, b.Files, fill); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	go func() { // ends with the process; stop waits for it
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// begin writes the broker's files and starts its command, whose output goes to a file: a pipe would be held
// open by what the command leaves behind.
func (h *host) begin(p *process, files map[string]string, fill *strings.Replacer) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	output, err := os.Create(filepath.Join(p.dir, outputFile))
	if err != nil {
		return err
	}
	defer output.Close() //nolint:errcheck // the child has its own
	p.cmd.Stdout, p.cmd.Stderr = output, output
	return h.startPinned(p.cmd)
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

// Stopping: a broker that is asked to end gets stopGrace, and what it left behind killGrace to be gone.
const (
	stopGrace = 5 * time.Second
	killGrace = 5 * time.Second
)

// stop ends the broker and all it started, and waits until nothing is left of it.
func (p *process) stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	t := time.NewTimer(stopGrace)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
	sweep(p.dir)
}

// sweep kills the processes of the broker whose directory it is, waits until they are gone, and removes it.
func sweep(dir string) {
	for begun := time.Now(); time.Since(begun) < killGrace; time.Sleep(10 * time.Millisecond) {
		left := marked(dir)
		if len(left) == 0 {
			break
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = os.RemoveAll(dir)
}

// marked finds the processes of the broker whose directory it is.
func marked(dir string) []int {
	mark := []byte("\x00" + markName + "=" + dir + "\x00")
	paths, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well formed
	var pids []int
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil { // another user's, or gone
			continue
		}
		if !bytes.Contains(slices.Concat([]byte{0}, raw, []byte{0}), mark) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// connectGrace is how long a broker may take to connect all clients of a scenario.
const connectGrace = time.Minute

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
	longest := connectGrace + s.Plan.Hold + s.Plan.Warmup + s.Plan.Duration + s.Plan.Drain
	ctx, cancel := context.WithTimeoutCause(ctx, longest, errTooSlow)
	defer cancel()
	r, err := Run(ctx, t, s.Plan, Options{PID: p.cmd.Process.Pid})
	if err == nil {
		err = r.unusable(s.Memory)
	} else if errors.Is(context.Cause(ctx), errTooSlow) {
		err = errTooSlow
	}
	return r, err
}

var errTooSlow = fmt.Errorf("clients were not connected within %v", connectGrace)

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
