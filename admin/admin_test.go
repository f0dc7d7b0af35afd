package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/listener"
	"noctule/broker/store"
	"noctule/internal/latency"
	"noctule/internal/version"
	"noctule/wsnet"
)

const patience = 20 * time.Second

// source gives numbers that differ from each other; hold, if set, delays them.
type source struct {
	asked chan struct{} // told of each request, if not nil
	hold  chan struct{} // waited for, if not nil

	dead, unready error
}

// Alive implements Source.
func (s source) Alive() error { return s.dead }

// Ready implements Source.
func (s source) Ready() error { return s.unready }

// Metrics implements Source.
func (s source) Metrics(ctx context.Context) broker.Metrics {
	if s.asked != nil {
		s.asked <- struct{}{}
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
		}
	}
	m := broker.Metrics{
		Uptime: 1.5, Connections: 2, Sessions: 3, Subscriptions: 4, SharedSubscriptions: 5, Retained: 6,
		QueuedMessages: 7, QueuedBytes: 8, QueuedDiskBytes: 37, QueueReads: 38, InflightMessages: 9, PacketsReceived: 10, PacketsSent: 11,
		BytesReceived: 12, BytesSent: 13, PublishReceived: 14, PublishSent: 15, PublishBytesReceived: 16,
		PublishBytesSent: 17, SessionsExpired: 18, RetainedBytes: 30, MemoryUsed: 31, MemoryLimit: 32, MemoryShort: true,
		MemoryRefused: 33, SubscriptionsRefused: 68, Connects: 34, SysDropped: 35, Granted: 26, Sets: 27, PendingRequests: 28, PendingExpired: 29,
		Hashing: auth.PoolStats{
			Checked: 30, Failed: 31, Throttled: 32, RefusedFull: 33, RefusedPeer: 34, Waiting: 35, Remembered: 36,
		},
		Admissions: broker.AdmissionStats{Waiting: 45, Refused: 46, GaveWay: 47},
		Denials:    broker.BanStats{Entries: 52, Denied: 53, Refused: 54},
		Store: store.Stats{
			Commits: 12, Posts: 40, Bytes: 41, Errors: 42, Pending: 43, Failing: true, Seconds: 44.5,
			Counts: [12]int64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		},
		Net: wsnet.Stats{
			Open: 19, Accepted: 20, Refused: 21, Reads: 22, Writes: 23, Turns: 24, HandshakesTimedOut: 25, GaveWay: 48,
			InputBytes: 49, InputGaveWay: 50,
			LoopLag: latency.Counts{Limits: []float64{.001, 1}, Each: []int64{2, 1, 1}, Sum: 2.6},
		},
	}
	for i := range m.Dropped {
		m.Dropped[i] = int64(100 + i)
	}
	for i := range m.Disconnects {
		m.Disconnects[i] = int64(200 + i)
	}
	for i := range m.ConnectsRefused {
		m.ConnectsRefused[i] = int64(300 + i)
	}
	m.Listeners = []listener.Metrics{
		{Name: "127.0.0.1:8883", Connected: [3]int64{61, 62, 63}, CertificateEnd: time.Unix(1_850_000_000, 0)},
		{Name: "/run/mqtt", Connected: [3]int64{64, 65, 66}},
	}
	for i := range m.Listeners {
		n := &m.Listeners[i].Net
		n.Open, n.Accepted = int64(70+i), int64(80+i)
		for c := range n.Refused {
			n.Refused[c] = int64(400 + 20*i + c)
		}
		for f := range n.TLS {
			n.TLS[f] = int64(500 + 20*i + f)
		}
	}
	return m
}

// program gives numbers of its own.
func program() Program {
	return Program{
		LogLinesDropped: 36, StoreFile: true, StoreFileLost: 51, Configured: time.UnixMilli(1_800_000_000_500),
		Certificates: []Certificate{
			{Listener: "[::]:8443", End: time.Unix(1_900_000_000, 0)}, {Listener: "127.0.0.1:8883", End: time.Unix(1, 0)},
		},
	}
}

func start(t *testing.T, src Source) (s *Server, url string) {
	t.Helper()
	s, err := Start("127.0.0.1:0", program)
	if err != nil {
		t.Fatal(err)
	}
	s.Use(src)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s, "http://" + s.Addr().String()
}

// ask makes one request on a connection of its own.
func ask(t *testing.T, method, url string) (resp *http.Response, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if resp, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(raw)
}

func TestMetricsPassPromlint(t *testing.T) {
	_, url := start(t, source{})
	resp, body := ask(t, http.MethodGet, url+"/metrics")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %s", resp.Status)
	}
	if mt, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mt != "text/plain" ||
		params["version"] != "0.0.4" {
		t.Errorf("content type %q", resp.Header.Get("Content-Type"))
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsShowTheBrokersNumbers(t *testing.T) {
	_, url := start(t, source{})
	_, body := ask(t, http.MethodGet, url+"/metrics")
	want := map[string]string{
		"uptime_seconds": "1.5", "sessions": "3", "subscriptions": "4", "shared_subscriptions": "5",
		"retained_messages": "6", "queued_messages": "7", "queued_bytes": "8", "queued_disk_bytes": "37", "queue_reads_waiting": "38", "inflight_messages": "9",
		"packets_received_total": "10", "packets_sent_total": "11", "received_bytes_total": "12", "sent_bytes_total": "13",
		"messages_received_total": "14", "messages_sent_total": "15", "message_received_bytes_total": "16",
		"message_sent_bytes_total": "17", "sessions_expired_total": "18", "socket_reads_total": "22",
		"socket_writes_total": "23", "loop_turns_total": "24", "loop_lag_seconds_sum": "2.6", "loop_lag_seconds_count": "4",
		"loop_lag_seconds_bucket{le=\"0.001\"}": "2", "loop_lag_seconds_bucket{le=\"1\"}": "3",
		"loop_lag_seconds_bucket{le=\"+Inf\"}": "4",
		"store_posts_total":                    "40", "store_written_bytes_total": "41", "store_errors_total": "42",
		"store_pending_bytes": "43", "store_failing": "1",
		"store_commit_seconds_sum": "44.5", "store_commit_seconds_count": "12",
		"retained_bytes": "30", "memory_used_bytes": "31", "memory_limit_bytes": "32", "memory_short": "1",
		"subscriptions_refused_total": "68",
		"connects_total":              "34", "sys_messages_dropped_total": "35",
		"log_lines_dropped_total": "36", "store_file_lost_total": "51",
		"config_last_reload_successful": "1", "config_last_reload_success_timestamp_seconds": "1.8000000005e+09",
		`tls_certificate_not_after_timestamp_seconds{listener="127.0.0.1:8883"}`: "1.85e+09",
		`tls_certificate_not_after_timestamp_seconds{listener="[::]:8443"}`:      "1.9e+09",
		"granted_subscriptions": "26", "subscription_sets": "27", "pending_requests": "28",
		"pending_requests_expired_total": "29",
		"logins_checked_total":           "30", "logins_failed_total": "31", "logins_throttled_total": "32",
		"logins_refused_total": "67", "logins_waiting": "35", "login_addresses_remembered": "36",
		"bans": "52", "bans_matched_total": "53", "bans_refused_total": "54",
		"admissions_waiting": "45", "admissions_refused_total": "46", "admissions_gave_way_total": "47",
		"connections_gave_way_total": "48", "input_bytes": "49", "connections_input_gave_way_total": "50",
	}
	for i, bound := range []string{
		"0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "+Inf",
	} {
		want[fmt.Sprintf("store_commit_seconds_bucket{le=%q}", bound)] = fmt.Sprint(i + 1)
	}
	for i := range broker.EndReasons {
		want[fmt.Sprintf("disconnects_total{reason=%q}", i)] = fmt.Sprint(200 + int(i))
	}
	for i := range broker.RefusalReasons {
		want[fmt.Sprintf("connects_refused_total{reason=%q}", i)] = fmt.Sprint(300 + int(i))
	}
	for i, name := range []string{"127.0.0.1:8883", "/run/mqtt"} {
		of := fmt.Sprintf("{listener=%q", name)
		want["sockets"+of+"}"], want["connections_accepted_total"+of+"}"] = fmt.Sprint(70+i), fmt.Sprint(80+i)
		for v, version := range []string{"3.1", "3.1.1", "5"} {
			want[fmt.Sprintf("connections%s,version=%q}", of, version)] = fmt.Sprint(61 + 3*i + v)
		}
		for c := range wsnet.RefusalCauses {
			if c != wsnet.CauseTLS && c != wsnet.CauseGaveWay {
				want[fmt.Sprintf("connections_refused_total%s,reason=%q}", of, c)] = fmt.Sprint(400 + 20*i + int(c))
			}
		}
		for f := range wsnet.TLSFailures {
			want[fmt.Sprintf("tls_handshake_failures_total%s,reason=%q}", of, f)] = fmt.Sprint(500 + 20*i + int(f))
		}
	}
	for i := range broker.DropReasons {
		want[fmt.Sprintf("messages_dropped_total{reason=%q}", i)] = fmt.Sprint(100 + int(i))
	}
	i := version.Read()
	want[fmt.Sprintf("build_info{commit=%q,goversion=%q,version=%q}", i.Commit, i.Go, i.Version)] = "1"
	for name, value := range want {
		if !strings.Contains(body, "\nnoctule_"+name+" "+value+"\n") {
			t.Errorf("no noctule_%s %s", name, value)
		}
	}
	for line := range strings.Lines(body) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "noctule_"), " ")
		if strings.HasPrefix(line, "noctule_") && want[name] == "" {
			t.Errorf("not tested here: %s", line)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
}

func TestPaths(t *testing.T) {
	_, url := start(t, source{})
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/healthz", 405, "Method Not Allowed\n"},
		{"POST", "/metrics", 405, "Method Not Allowed\n"},
		{"GET", "/", 404, "404 page not found\n"},
		{"GET", "/metrics/x", 404, "404 page not found\n"},
		{"GET", "/debug/pprof/", 404, "404 page not found\n"},
	} {
		resp, body := ask(t, tt.method, url+tt.path)
		if resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s %s: %s %q", tt.method, tt.path, resp.Status, body)
		}
		if ct := resp.Header.Get("Content-Type"); body != "" && ct != "text/plain; charset=utf-8" {
			t.Errorf("%s %s: content type %q", tt.method, tt.path, ct)
		}
	}
}

// TestScrapesAreBounded asks for metrics while as many requests as may run wait for the broker.
func TestScrapesAreBounded(t *testing.T) {
	src := source{asked: make(chan struct{}), hold: make(chan struct{})}
	_, url := start(t, src)
	answers := make(chan int, scrapesMax)
	for range scrapesMax {
		go func() {
			resp, _ := ask(t, http.MethodGet, url+"/metrics")
			answers <- resp.StatusCode
		}()
		<-src.asked
	}
	if resp, body := ask(t, http.MethodGet, url+"/metrics"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %s %s", resp.Status, body)
	}
	if resp, _ := ask(t, http.MethodGet, url+"/healthz"); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %s", resp.Status)
	}
	close(src.hold)
	for range scrapesMax {
		if code := <-answers; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	s, _ := start(t, source{})
	if _, err := Start(s.Addr().String(), nil); err == nil || !strings.HasPrefix(err.Error(), "admin: listen") {
		t.Errorf("%v", err)
	}
}

// TestCloseWaitsForRequests closes the server while a scrape waits: it is answered, new ones are refused.
func TestCloseWaitsForRequests(t *testing.T) {
	src := source{asked: make(chan struct{}), hold: make(chan struct{})}
	s, url := start(t, src)
	answer := make(chan string, 1)
	go func() {
		resp, _ := ask(t, http.MethodGet, url+"/metrics")
		answer <- resp.Status
	}()
	<-src.asked
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	for { // until the listener is closed
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case err := <-closed:
		t.Fatalf("Close does not wait: %v", err)
	default:
	}
	close(src.hold)
	if got := <-answer; got != "200 OK" {
		t.Errorf("the request ends with %s", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestCloseEndsRequests closes the server without patience.
func TestCloseEndsRequests(t *testing.T) {
	src := source{asked: make(chan struct{}), hold: make(chan struct{})}
	s, url := start(t, src)
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Get(url + "/metrics")
		if err == nil {
			_ = resp.Body.Close()
		}
		failed <- err
	}()
	<-src.asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	close(src.hold)
}
