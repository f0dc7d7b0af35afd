//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"noctule/bench"
	"noctule/codec"
)

// targetFlags say where the broker is.
type targetFlags struct {
	URL        string   `short:"u" placeholder:"URL" default:"mqtt://127.0.0.1:1883" help:"${url}"`
	Version    int      `short:"V" enum:"3,4,5" default:"4" help:"MQTT: 3 (3.1), 4 (3.1.1) or 5."`
	Username   string   `short:"U" placeholder:"NAME" help:"User name."`
	Password   string   `short:"P" placeholder:"PASSWORD" env:"NOCTULE_BENCH_PASSWORD" help:"Password."`
	UserFile   string   `type:"existingfile" placeholder:"FILE" help:"File of user:password lines, dealt to the clients in turn."`
	KeepAlive  uint16   `short:"k" default:"300" help:"Keep Alive in seconds."`
	Persistent bool     `help:"Sessions that outlive connections; they are ended with the run."`
	Keep       bool     `name:"keep-sessions" help:"Leave the sessions of --persistent behind."`
	Prefix     string   `placeholder:"TEXT" help:"Start of client ids; by default command, host and a random part."`
	CAFile     string   `name:"cafile" type:"existingfile" placeholder:"FILE" help:"PEM file of certificate authorities."`
	Cert       string   `type:"existingfile" placeholder:"FILE" help:"PEM file of the client's certificate."`
	Key        string   `type:"existingfile" placeholder:"FILE" help:"PEM file of its key."`
	Insecure   bool     `help:"Accept any certificate."`
	Will       string   `placeholder:"TOPIC" help:"Topic of a Will with every client; %i is its number."`
	WillQoS    uint8    `name:"will-qos" placeholder:"QOS" help:"Quality of service of the Will; 0 without."`
	WillRetain bool     `help:"The Will is retained."`
	Source     []string `placeholder:"ADDRESS" help:"Local addresses to connect from; on loopback they are chosen when needed."`
}

// loadFlags say how much.
type loadFlags struct {
	QoS      uint8         `name:"qos" short:"q" default:"0" help:"QoS of messages and subscriptions."`
	Size     int           `short:"s" default:"64" help:"Payload in bytes."`
	Rate     float64       `short:"r" placeholder:"N" help:"Messages per second and publisher, sent when due; without, as --window allows."`
	Window   int           `short:"w" default:"32" help:"${window}"`
	Topic    string        `default:"bench" help:"Root of the topics."`
	Retain   bool          `help:"Publish retained messages."`
	Limit    uint32        `short:"L" placeholder:"N" help:"Messages per publisher; 0: no limit."`
	Warmup   time.Duration `default:"2s" help:"Publishing before the measurement."`
	Duration time.Duration `short:"d" default:"10s" help:"Length of the measurement."`
}

// runFlags say how.
type runFlags struct {
	Connrate   int           `short:"R" placeholder:"N" help:"Connections per second; 0: as fast as they go."`
	Concurrent int           `default:"200" help:"Connections being made at a time."`
	Hold       time.Duration `help:"Rest between connecting and publishing."`
	Drain      time.Duration `default:"10s" help:"Longest wait at the end for what is under way."`
	Threads    int           `default:"1" help:"Event loops of the generator."`
	OwnFiles   bool          `help:"A table of open files per thread, to pass the limit of open files."`
	PID        int           `name:"pid" placeholder:"PID" help:"The broker's process here, to account its use."`
	Syscalls   bool          `help:"Count the broker's system calls with perf, which slows it down."`
	JSON       string        `name:"json" placeholder:"FILE" help:"Write the report as JSON; -: to stdout."`
	CSV        string        `name:"csv" placeholder:"FILE" help:"Write a row per second."`
	HTML       string        `name:"html" placeholder:"FILE" help:"Write the report with plots, as one file."`
	Prometheus string        `placeholder:"HOST:PORT" help:"Serve metrics there while the run lasts."`
	Fail       []string      `sep:"none" placeholder:"CONDITION" help:"${fail}"`
	Quiet      bool          `help:"No progress lines."`
}

// flags are all of them.
type flags struct {
	targetFlags `group:"Broker:"`
	loadFlags   `group:"Load:"`
	runFlags    `group:"Run:"`
}

// output is where a command writes.
type output struct {
	stdout, stderr io.Writer
	args           []string // the command line, for the disclosure
	command        string   // its first word
}

// target makes the library's Target of the flags.
func (f *targetFlags) target(command string, clients int) (bench.Target, error) {
	t := bench.Target{
		Version: codec.Version(f.Version), Username: f.Username, Password: f.Password,
		KeepAlive: f.KeepAlive, Persistent: f.Persistent, Prefix: f.Prefix,
	}
	if t.Prefix == "" {
		t.Prefix = ownPrefix(command, t.Version)
	}
	if err := f.clients(&t); err != nil {
		return t, err
	}
	u, err := url.Parse(f.URL)
	if !strings.Contains(f.URL, "://") { // host:port alone
		u, err = url.Parse("mqtt://" + f.URL)
	}
	if err != nil {
		return t, fmt.Errorf("%w --url: %w", errUsage, err)
	}
	port, secure := "1883", false
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "ssl":
		port, secure = "8883", true
	case "ws":
		port, t.WebSocket = "80", true
	case "wss":
		port, secure, t.WebSocket = "443", true, true
	case "unix":
		t.Unix, t.Address = true, u.Path
		return t, nil
	default:
		return t, fmt.Errorf("%w --url: unknown scheme %q", errUsage, u.Scheme)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	t.Address, t.Path = u.Hostname()+":"+port, u.Path
	if u.Hostname() == "" {
		return t, fmt.Errorf("%w --url: no host in %q", errUsage, f.URL)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.Is6() {
		t.Address = netip.AddrPortFrom(ip, 0).String()
		t.Address = t.Address[:len(t.Address)-1] + port
	}
	if secure {
		if t.TLS, err = f.tls(u.Hostname()); err != nil {
			return t, err
		}
	}
	return t, f.sources(&t, clients)
}

// ownPrefix is the start of client ids that no other run has: two that had the same would throw each other
// out. In MQTT 3.1 an id has at most 23 characters, of which seven are for the client's number.
func ownPrefix(command string, version codec.Version) string {
	random := strings.ToLower(rand.Text()[:6])
	host, _ := os.Hostname() // without one the random part has to do
	host, _, _ = strings.Cut(host, ".")
	if version == codec.V31 || host == "" {
		return command[:min(len(command), 8)] + "-" + random
	}
	return fmt.Sprintf("%s-%.16s-%s", command, host, random)
}

// clients sets what the clients say of themselves.
func (f *targetFlags) clients(t *bench.Target) error {
	if f.WillQoS > 2 {
		return fmt.Errorf("%w --will-qos: it is at most 2", errUsage)
	}
	if f.Will != "" {
		t.Will = &bench.Will{Topic: f.Will, QoS: f.WillQoS, Retain: f.WillRetain}
	}
	if f.UserFile == "" {
		return nil
	}
	raw, err := os.ReadFile(f.UserFile)
	if err != nil {
		return err
	}
	if t.Users, err = parseUsers(string(raw)); err != nil {
		return fmt.Errorf("%w --user-file: %w", errUsage, err)
	}
	return nil
}

func (f *targetFlags) tls(host string) (*tls.Config, error) {
	//nolint:gosec // asked for by --insecure
	cfg := &tls.Config{ServerName: host, InsecureSkipVerify: f.Insecure}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w --cafile: no certificate in %s", errUsage, f.CAFile)
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// perSource is how many connections go from one local address to one port.
const perSource = 25000

// sources chooses local addresses: those given, or 127.0.0.x when one has too few ports.
func (f *targetFlags) sources(t *bench.Target, clients int) error {
	for _, s := range f.Source {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("%w --source: %w", errUsage, err)
		}
		t.Sources = append(t.Sources, a)
	}
	host, err := netip.ParseAddrPort(t.Address)
	enough := len(t.Sources) > 0 || clients <= perSource
	if err != nil || enough || !host.Addr().Is4() || !host.Addr().IsLoopback() {
		return nil //nolint:nilerr // a name: the system chooses
	}
	for i := 0; i*perSource < clients; i++ {
		t.Sources = append(t.Sources, netip.AddrFrom4([4]byte{127, 0, byte(1 + i/250), byte(1 + i%250)}))
	}
	return nil
}

// load makes the library's Load of the flags.
func (f *loadFlags) load() bench.Load {
	return bench.Load{
		QoS: f.QoS, Size: f.Size, Rate: f.Rate, Window: f.Window, Topic: f.Topic, Retain: f.Retain,
		Limit: f.Limit, Warmup: f.Warmup, Duration: f.Duration,
	}
}

// shape puts into a plan how it is to be run.
func (f *runFlags) shape(plan bench.Plan) bench.Plan {
	plan.ConnectRate, plan.Concurrent, plan.Hold = f.Connrate, f.Concurrent, f.Hold
	plan.Drain, plan.Threads, plan.OwnFiles = f.Drain, f.Threads, f.OwnFiles
	return plan
}

// runner is a kind of run of the library.
type runner func(ctx context.Context, target bench.Target, opts bench.Options) (*bench.Report, error)

// do runs a plan and tells what came of it.
func (f *flags) do(ctx context.Context, o *output, plan bench.Plan, clients int) error {
	return f.perform(ctx, o, clients,
		func(ctx context.Context, t bench.Target, opts bench.Options) (*bench.Report, error) {
			return bench.Run(ctx, t, f.shape(plan), opts)
		})
}

// perform runs something, tells what came of it, and judges it.
func (f *flags) perform(ctx context.Context, o *output, clients int, run runner) error {
	target, err := f.target(o.command, clients)
	if err != nil {
		return err
	}
	gates, err := f.gates()
	if err != nil {
		return err
	}
	w, err := f.watch(o, clients)
	if err != nil {
		return err
	}
	report, err := run(ctx, target, bench.Options{
		PID: f.PID, Each: w.second, Syscalls: f.Syscalls, KeepSessions: f.Keep, AskVersion: true,
	})
	err = errors.Join(err, w.close())
	if report == nil {
		return err
	}
	return errors.Join(err, f.tell(o, report), alive(report), checkAll(gates, report))
}

// alive tells of a run whose figures are none, as nobody was there.
func alive(r *bench.Report) error {
	if r.Error != "" { // said already
		return nil
	}
	why := ""
	for _, text := range slices.Sorted(maps.Keys(r.Failures)) {
		why = ": " + text
		break
	}
	switch {
	case r.Connected == 0:
		return fmt.Errorf("nobody connected%s", why)
	case r.Ended >= r.Connected && r.Return == nil:
		return fmt.Errorf("all %d connections were ended before the run was over%s", r.Connected, why)
	case r.Return != nil && r.Return.Cut > 0 && r.Return.Returned == 0:
		return fmt.Errorf("of %d clients nobody came back%s", r.Return.Cut, why)
	}
	return nil
}

// tell writes the report wherever it is wanted.
func (f *runFlags) tell(o *output, report *bench.Report) error {
	var errs []error
	if f.JSON != "" {
		errs = append(errs, o.json(f.JSON, report))
	}
	if f.HTML != "" {
		errs = append(errs, writeHTML(f.HTML, o.args, report))
	}
	if f.JSON != "-" {
		errs = append(errs, report.Print(o.stdout))
	}
	return errors.Join(errs...)
}

func (o *output) json(path string, report *bench.Report) error {
	raw, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if path == "-" {
		_, err = o.stdout.Write(raw)
		return err
	}
	return os.WriteFile(path, raw, 0o644) //nolint:gosec // a report is no secret
}
