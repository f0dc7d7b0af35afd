package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"noctule/admin"
	"noctule/broker/brokertest"
	"noctule/codec"
)

// answer is what a URL answers.
func answer(t *testing.T, url string) (code int, text string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// watched is a broker that has something to show under every name, and the URL of its admin listener.
func watched(t *testing.T, more string) (p *process, port int, url string) {
	t.Helper()
	port, secure, http1 := freePort(t), freePort(t), freePort(t)
	dir := t.TempDir()
	cert, key := certificate(t)
	presub := filepath.Join(dir, "presub.yaml")
	if err := os.WriteFile(presub, []byte("providers:\n  - name: list\n    static:\n      topics: [{topic: news}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p = startBroker(t, persistent(port, dir)+fmt.Sprintf(
		"listener %d 127.0.0.1\nallow_anonymous true\ncertfile %s\nkeyfile %s\nadmin_listener 127.0.0.1:%d\npresub_file %s\n%s",
		secure, cert, key, http1, presub, more))
	c := brokertest.Connect(t, fmt.Sprint("127.0.0.1:", port), "c", codec.V311, nil)
	c.Subscribe("a", 1)
	c.Publish("a", "x", 0, 0)
	c.WantPublish("a", "x")
	return p, port, fmt.Sprint("http://127.0.0.1:", http1)
}

// TestMetricsAreClean holds /metrics of a running broker to Prometheus's rules and to docs/metrics.md.
func TestMetricsAreClean(t *testing.T) {
	_, _, url := watched(t, "")
	_, page := answer(t, url+"/metrics")
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	documented := map[string]string{}
	for _, g := range admin.Metrics() {
		for _, d := range g.Defs {
			documented[d.Name] = string(d.Kind)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (noctule_\S+) (\S+)$`).FindAllStringSubmatch(page, -1) {
		if documented[m[1]] != m[2] {
			t.Errorf("%s is a %s, and documented as %q", m[1], m[2], documented[m[1]])
		}
		delete(documented, m[1])
	}
	for name := range documented { // vectors without a value yet are not there
		if !strings.HasPrefix(name, "noctule_presub_") && !strings.HasPrefix(name, "noctule_auth_") {
			t.Errorf("no %s", name)
		}
	}
	promtool := program(t, "promtool")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

const alerts = "../../deploy/prometheus/alerts.yml"

// TestAlertsNameMetrics: what the alerts ask for is there.
func TestAlertsNameMetrics(t *testing.T) {
	text := readFile(t, alerts)
	known := map[string]bool{}
	for _, g := range admin.Metrics() {
		for _, d := range g.Defs {
			known[d.Name] = true
			if d.Kind == "histogram" {
				known[d.Name+"_bucket"] = true
			}
		}
	}
	names := regexp.MustCompile(`noctule_[a-z_]+`).FindAllString(text, -1)
	if len(names) < 10 {
		t.Fatalf("only %q", names)
	}
	for _, name := range names {
		if !known[name] {
			t.Errorf("%s is no metric", name)
		}
	}
}

// TestAlerts has promtool check the alerts, and play them.
func TestAlerts(t *testing.T) {
	promtool := program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Dir(alerts)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}

// TestPrometheusScrapes has a real server scrape the broker, with the alerts, and ask it.
func TestPrometheusScrapes(t *testing.T) {
	server := program(t, "prometheus")
	_, _, target := watched(t, "")
	rules, err := filepath.Abs(alerts)
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), freePort(t)
	conf := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\nrule_files: [%s]\n"+
		"scrape_configs: [{job_name: noctule, static_configs: [{targets: [%q]}]}]\n", rules, strings.TrimPrefix(target, "http://"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(server, "--config.file", conf, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", fmt.Sprint("127.0.0.1:", port), "--log.level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	at := fmt.Sprint("http://127.0.0.1:", port)
	for query, want := range map[string]string{
		`up{job="noctule"}`: "1", `sum(noctule_connections{version="3.1.1"})`: "1", `noctule_sessions`: "1",
		`sum(noctule_disconnects_total)`:                                            "0",
		`noctule_loop_lag_seconds_count > bool 3`:                                   "1", // probes come by themselves
		`count(noctule_messages_dropped_total)`:                                     "7",
		`count(ALERTS{alertname="NoctuleCertificateEnds"})`:                         "1", // the certificate is for an hour; it is pending
		`count(ALERTS{alertname!="NoctuleCertificateEnds"})`:                        "",
		`sum(noctule_tls_handshake_failures_total) + 1`:                             "1",
		`noctule_config_last_reload_successful`:                                     "1",
		`time() - noctule_config_last_reload_success_timestamp_seconds < bool 3600`: "1",
	} {
		eventually(t, query, func() bool {
			got, ok := queried(at, query)
			return ok && got == want
		})
	}
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			query := grafanaVariables.Replace(q.Expr)
			eventually(t, p.Title+": "+query, func() bool {
				got, ok := queried(at, query)
				// These have no series before somebody asks.
				idle := strings.Contains(query, "noctule_presub_") || strings.Contains(query, "noctule_auth_")
				return ok && (got != "" || idle)
			})
		}
	}
}

// queried is the first value that Prometheus answers with, "" if there is none.
func queried(at, query string) (value string, ok bool) {
	resp, err := http.Get(at + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil { // it starts
		return "", false
	}
	defer resp.Body.Close()
	var a struct {
		Status string `json:"status"`
		Data   struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if json.NewDecoder(resp.Body).Decode(&a) != nil || a.Status != "success" {
		return "", false
	}
	if len(a.Data.Result) > 0 {
		value = fmt.Sprint(a.Data.Result[0].Value[1])
	}
	return value, true
}

// full keeps a broker from writing its file, until it is called again.
func full(t *testing.T, p *process, port int, on bool) {
	t.Helper()
	l := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if on {
		l.Cur = 12288
	}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &l, nil); err != nil {
		t.Fatal(err)
	}
	if !on {
		p.await(t, "Persistent state can be written again")
		return
	}
	c := brokertest.Connect(t, fmt.Sprint("127.0.0.1:", port), "d", codec.V5, nil)
	c.Send(&codec.Publish{Retain: true, Topic: []byte("r"), Payload: make([]byte, 10000)})
	p.await(t, "Persistent state cannot be written")
}

// TestReadiness: a broker that cannot write is not ready, and lives.
func TestReadiness(t *testing.T) {
	p, port, url := watched(t, "")
	health := func(path string, code int, want string) {
		t.Helper()
		if got, text := answer(t, url+path); got != code || !strings.HasPrefix(text, want) {
			t.Errorf("%s: %d %s", path, got, text)
		}
	}
	health("/healthz", 200, "ok\n")
	health("/readyz", 200, "ok\n")
	full(t, p, port, true)
	health("/healthz", 200, "ok\n")
	health("/readyz", 503, "persistent state cannot be written: store: ")
	full(t, p, port, false)
	health("/readyz", 200, "ok\n")
}

// TestHAProxyAsksForReadiness runs HAProxy as docs/metrics.md has it: it sends nobody to a broker that is not
// ready.
func TestHAProxyAsksForReadiness(t *testing.T) {
	haproxy := program(t, "haproxy")
	p, port, url := watched(t, "")
	_, text, ok := strings.Cut(readFile(t, "../../docs/metrics.md"), "\n    backend mqtt\n")
	text, _, ok2 := strings.Cut(text, "\n\n")
	if !ok || !ok2 {
		t.Fatal("docs/metrics.md has no backend mqtt")
	}
	text = strings.NewReplacer("10.0.0.1:1883", fmt.Sprint("127.0.0.1:", port), "9884", url[strings.LastIndex(url, ":")+1:],
		"inter 2s", "inter 20ms").Replace(text)
	front := freePort(t)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"+
		"frontend f\n bind 127.0.0.1:%d\n default_backend mqtt\nbackend mqtt\n%s\n", front, text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(haproxy, "-db", "-f", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	served := func() bool {
		c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", front))
		if err != nil {
			return false
		}
		defer c.Close()
		connect := codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("through")}
		_, _ = c.Write(connect.Append(nil, codec.V311))
		n, err := c.Read(make([]byte, 4))
		return n == 4 && err == nil
	}
	eventually(t, "a client through HAProxy", served)
	full(t, p, port, true)
	eventually(t, "no client through HAProxy", func() bool { return !served() })
	full(t, p, port, false)
	eventually(t, "a client through HAProxy again", served)
}

// TestReloadIsMeasured: a reload that fails is seen, one that succeeds brings new certificates, of HTTPS too.
func TestReloadIsMeasured(t *testing.T) {
	cert, key := certificate(t)
	secure, api, http1 := freePort(t), freePort(t), freePort(t)
	pair := fmt.Sprintf("certfile %s\nkeyfile %s\nallow_anonymous true\n", cert, key)
	good := fmt.Sprintf("listener %d 127.0.0.1\n%slistener %d 127.0.0.1\nprotocol http_api\n%sadmin_listener 127.0.0.1:%d\nuser root\n",
		secure, pair, api, pair, http1)
	p := newBroker(t, good)
	p.start(t)
	conf := p.cmd.Args[2]
	page := func() string {
		_, text := answer(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", http1))
		return text
	}
	value := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^noctule_` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(page())
		if m == nil {
			t.Fatalf("no %s", name)
		}
		return m[1]
	}
	reload := func(text, line string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.await(t, line)
	}
	const ok, at = "config_last_reload_successful", "config_last_reload_success_timestamp_seconds"
	ends := []string{
		fmt.Sprintf("tls_certificate_not_after_timestamp_seconds{listener=\"127.0.0.1:%d\"}", secure),
		fmt.Sprintf("tls_certificate_not_after_timestamp_seconds{listener=\"127.0.0.1:%d\"}", api),
	}
	started := value(at)
	if value(ok) != "1" {
		t.Error("the start does not count")
	}
	reload(good+"nonsense\n", "was not reloaded")
	if value(ok) != "0" || value(at) != started {
		t.Errorf("%s at %s, started %s", value(ok), value(at), started)
	}
	before := []string{value(ends[0]), value(ends[1])}
	other, otherKey := certificate(t) // it ends some seconds later
	raw, err := tls.LoadX509KeyPair(other, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	reload(strings.NewReplacer(cert, other, key, otherKey).Replace(good), "Configuration reloaded")
	if value(ok) != "1" || value(at) == started {
		t.Errorf("%s at %s, started %s", value(ok), value(at), started)
	}
	for i, name := range ends {
		var v float64
		if _, err := fmt.Sscan(value(name), &v); err != nil || int64(v) != raw.Leaf.NotAfter.Unix() {
			t.Errorf("%s %s, before %s, want %d", name, value(name), before[i], raw.Leaf.NotAfter.Unix())
		}
	}
	distrust := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	if c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", secure), distrust); err == nil {
		_ = c.Close()
		t.Error("a certificate of nobody is trusted")
	}
	failed := fmt.Sprintf("tls_handshake_failures_total{listener=\"127.0.0.1:%d\",reason=\"server_certificate\"}", secure)
	eventually(t, failed, func() bool { return value(failed) == "1" })
}
