package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// presubBroker starts the binary with a presub.yaml and returns its TCP and WebSocket ports and its admin URL.
func presubBroker(t *testing.T, yaml string) (p *process, tcp, ws, url string) {
	t.Helper()
	dir := t.TempDir()
	file, tokens := filepath.Join(dir, "presub.yaml"), filepath.Join(dir, "tokens")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokens, []byte("# who may\ncrm sesame-open-sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tcp, ws = fmt.Sprint(freePort(t)), fmt.Sprint(freePort(t))
	p = startBroker(t, fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nlistener %s 127.0.0.1\nprotocol websockets\n"+
		"allow_anonymous true\nadmin_listener 127.0.0.1:0\npresub_file %s\nadmin_token_file %s\nlog_type all", tcp, ws, file, tokens))
	line := p.await(t, "Opening admin listen socket on .*$")
	return p, tcp, ws, "http://" + strings.TrimSuffix(line[strings.LastIndex(line, " ")+1:], ".")
}

// output is a program whose lines are read as they come.
type output struct {
	t     *testing.T
	lines *bufio.Scanner
}

func runLines(t *testing.T, cmd *exec.Cmd) *output {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a script has children
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return &output{t: t, lines: bufio.NewScanner(out)}
}

func (o *output) want(pattern string) {
	o.t.Helper()
	if !o.lines.Scan() {
		o.t.Fatalf("the program has ended; want %s", pattern)
	}
	if line := o.lines.Text(); !regexp.MustCompile(pattern).MatchString(line) {
		o.t.Fatalf("line %q, want %s", line, pattern)
	}
}

// TestBrowserNeverSubscribes has MQTT.js over WebSocket get its messages without a SUBSCRIBE.
func TestBrowserNeverSubscribes(t *testing.T) {
	node, pub := program(t, "node"), program(t, "mosquitto_pub")
	if !isFile("testdata/node/node_modules/mqtt/package.json") {
		if os.Getenv("CI") == "true" {
			t.Fatal("MQTT.js is not installed")
		}
		t.Skip("MQTT.js is not installed: run npm ci in cmd/noctule/testdata/node")
	}
	p, tcp, ws, url := presubBroker(t, `
tenant: {value: e1}
providers:
  - name: own
    static: {topics: [{topic: /e/%e/im/u/%u, qos: 1}, {topic: /e/%e/notice/u/%u, qos: 1}]}
`)
	js := runLines(t, exec.Command(node, "testdata/node/silent.js", "ws://127.0.0.1:"+ws, "web1", "u1", "3"))
	js.want("^connected$")
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e1/im/u/u1", "-m", "hello")
	js.want("^/e/e1/im/u/u1 hello$")
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e1/notice/u/u1", "-m", "notice")
	js.want("^/e/e1/notice/u/u1 notice$")

	// A server adds it to a group.
	body := `{"topics":[{"topic":"/e/e1/im/g/g1","qos":1}]}`
	if got := request(t, "PUT", url+"/api/v1/sessions/web1/subscriptions", body); !strings.Contains(got, `"state":"new"`) {
		t.Fatal(got)
	}
	code, text := outcome(t, "presub", "explain", "-u", url, "-t", tokenFile(t), "web1", "/e/e1/im/g/g1")
	if code != 0 || !strings.Contains(text, "of api:crm, QoS 1") || !strings.Contains(text, "It gets 1 of each message") {
		t.Errorf("explain: %d %s", code, text)
	}
	for want, args := range map[int]string{
		exitConfig: "presub explain -u " + url + " -t /nowhere/token web1 x", 1: "presub explain -u http://127.0.0.1:1 web1 x",
	} {
		if code, text = outcome(t, strings.Fields(args)...); code != want || !strings.HasPrefix(text, "Error: ") {
			t.Errorf("%s: %d %s", args, code, text)
		}
	}
	if code, text = outcome(t, "presub", "explain", "-u", url, "web1", "x"); code != 1 || !strings.Contains(text, "token") {
		t.Errorf("explain without a token: %d %s", code, text)
	}
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e1/im/g/g1", "-m", "all")
	js.want("^/e/e1/im/g/g1 all$")
	p.await(t, `Pre-subscription: replace by "crm" at http, clientid "web1", origin "api:crm", topics 1, sessions 1, revision \d+, outcome "1 new"`)
	if regexp.MustCompile(`Received SUBSCRIBE from web1`).MatchString(p.lines()) {
		t.Error("the client has subscribed")
	}
	if strings.Contains(p.lines(), "sesame") {
		t.Error("the log has a token")
	}
}

func tokenFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte("sesame-open-sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func request(t *testing.T, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sesame-open-sesame")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestPaperScript runs the script of docs/presub.md: the login comes before the CONNECT.
func TestPaperScript(t *testing.T) {
	pub, stdbuf := program(t, "mosquitto_pub"), program(t, "stdbuf")
	for _, name := range []string{"mosquitto_sub", "mosquitto_rr", "curl"} {
		program(t, name)
	}
	doc, err := os.ReadFile("../../docs/presub.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(string(doc), "```sh\n")
	script, _, ok2 := strings.Cut(script, "```")
	if !ok || !ok2 || strings.Count(script, "\n") > 10 {
		t.Fatalf("the script is not there, or longer than ten lines:\n%s", script)
	}
	file := filepath.Join(t.TempDir(), "pre_sub.sh")
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	lists := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, "/")
		_ = json.NewEncoder(w).Encode([]map[string]any{{"topic": "/e/e1/im/u/" + id, "qos": 1}, {"topic": "/e/e1/im/g/g1"}})
	}))
	t.Cleanup(lists.Close)
	p, tcp, _, _ := presubBroker(t, "control: {usernames: [agent]}\n")
	cmd := exec.Command(stdbuf, "-oL", "sh", file, "e1")
	cmd.Env = append(os.Environ(), "PORT="+tcp, "LISTS="+lists.URL)
	pre := runLines(t, cmd)
	p.await(t, `pre_sub 1 /e/e1/connect/new$`)
	// c1 has logged in and is not connected yet.
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e1/connect/new", "-m", "c1")
	pre.want(`^\{"clientid":"c1","revision":0,"results":\[\{"topic":"/e/e1/im/u/c1","code":1,"state":"pending"\},`)
	// Who is not the agent cannot ask.
	entry := `{"clientid":"c1","action":"subscribe","topics":[{"topic":"#"}]}`
	runClient(t, pub, "-p", tcp, "-u", "mallory", "-q", "1", "-t", "$CONTROL/presub/v1", "-m", entry)
	p.await(t, `Pre-subscription: denied by "mallory" at mqtt`)
	sub := exec.Command(stdbuf, "-oL", program(t, "mosquitto_sub"), "-p", tcp, "-i", "c1", "-v", "-t", "only/this")
	c1 := runLines(t, sub)
	p.await(t, `c1 0 only/this$`)
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e1/im/u/c1", "-m", "hello")
	c1.want("^/e/e1/im/u/c1 hello$")
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "other", "-m", "no")
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e1/im/g/g1", "-m", "group")
	c1.want("^/e/e1/im/g/g1 group$")
}

// TestConnectTopic has the broker itself do what the script does.
func TestConnectTopic(t *testing.T) {
	pub, sub, stdbuf := program(t, "mosquitto_pub"), program(t, "mosquitto_sub"), program(t, "stdbuf")
	p, tcp, _, _ := presubBroker(t, `
connect: {topic: /e/+/connect/new, usernames: [agent]}
providers:
  - name: own
    static: {topics: [{topic: /e/%e/im/u/%c, qos: 1}]}
`)
	acks := runLines(t, exec.Command(stdbuf, "-oL", sub, "-p", tcp, "-i", "acks", "-u", "agent", "-v", "-t", "/e/e7/connect/new/ack"))
	p.await(t, `acks 0 /e/e7/connect/new/ack$`)
	c1 := runLines(t, exec.Command(stdbuf, "-oL", sub, "-p", tcp, "-i", "c1", "-v", "-t", "none"))
	p.await(t, `c1 0 none$`)
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e7/connect/new", "-m", "c1") // nobody
	runClient(t, pub, "-p", tcp, "-u", "agent", "-q", "1", "-t", "/e/e7/connect/new", "-m", "c1")
	acks.want(`^/e/e7/connect/new/ack \{"clientid":"c1","revision":\d+,"results":\[\{"topic":"/e/e7/im/u/c1","code":1,"state":"new"\}\]\}$`)
	runClient(t, pub, "-p", tcp, "-q", "1", "-t", "/e/e7/im/u/c1", "-m", "hello")
	c1.want("^/e/e7/im/u/c1 hello$")
	runClient(t, pub, "-p", tcp, "-u", "agent", "-q", "1", "-t", "/e/e7/connect/new", "-m", "{")
	acks.want(`"code":153,"error":`)
	runClient(t, pub, "-p", tcp, "-u", "agent", "-q", "1", "-t", "/e/e7/connect/new", "-m", "later")
	acks.want(`"state":"pending"`)
	c2 := runLines(t, exec.Command(stdbuf, "-oL", sub, "-p", tcp, "-i", "later", "-v", "-t", "none"))
	acks.want(`"clientid":"later".*"state":"new"`)
	p.await(t, `later 0 none$`)
	_ = c2
}

func TestPresubFileIsChecked(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "presub.yaml")
	if err := os.WriteFile(file, []byte("providers:\n  - name: x\n    statc: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := confFile(t, "listener 0 "+filepath.Join(dir, "s")+"\npresub_file "+file+"\nuser root\n")
	if code, text := outcome(t, "-c", conf); code != exitConfig || !strings.Contains(text, file+": [3:5]") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := outcome(t, "check", conf); code != exitConfig || !strings.Contains(text, file+": [3:5]") {
		t.Errorf("check: %d %s", code, text)
	}
}

// TestRightByAccessRule gives the right to ask by a rule that names the topic; one for everything does not.
func TestRightByAccessRule(t *testing.T) {
	rr, stdbuf := program(t, "mosquitto_rr"), program(t, "stdbuf")
	dir := t.TempDir()
	passwords, acl, yaml := filepath.Join(dir, "pw"), filepath.Join(dir, "acl"), filepath.Join(dir, "presub.yaml")
	for i, name := range []string{"crm", "ann"} {
		args := []string{"passwd", "-b", passwords, name, "secret"}
		if i == 0 {
			args = []string{"passwd", "-c", "-b", passwords, name, "secret"}
		}
		if code, text := outcome(t, args...); code != 0 {
			t.Fatal(text)
		}
	}
	rules := "user crm\ntopic write $CONTROL/presub/v1\ntopic read $CONTROL/presub/v1/response\nuser ann\ntopic readwrite #\n"
	for name, text := range map[string]string{acl: rules, yaml: "providers: []\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := fmt.Sprint(freePort(t))
	p := startBroker(t, fmt.Sprintf("listener %s 127.0.0.1\npassword_file %s\nacl_file %s\npresub_file %s\nlog_type all",
		port, passwords, acl, yaml))
	ann := runLines(t, exec.Command(stdbuf, "-oL", program(t, "mosquitto_sub"), "-p", port, "-u", "ann", "-P", "secret", "-i", "ann",
		"-v", "-t", "own"))
	p.await(t, `ann 0 own$`)
	entry := `{"clientid":"ann","action":"subscribe","topics":[{"topic":"given"},{"topic":"$CONTROL/x"}]}`
	got := runClient(t, rr, "-p", port, "-u", "crm", "-P", "secret", "-q", "1", "-W", "20", "-t", "$CONTROL/presub/v1",
		"-e", "$CONTROL/presub/v1/response", "-m", entry)
	if !strings.Contains(got, `{"topic":"given","code":0,"state":"new"},{"topic":"$CONTROL/x","code":135,"state":"absent"}`) {
		t.Error(got)
	}
	runClient(t, program(t, "mosquitto_pub"), "-p", port, "-u", "ann", "-P", "secret", "-q", "1", "-t", "$CONTROL/presub/v1", "-m", entry)
	p.await(t, `Denied PUBLISH from .*CONTROL/presub/v1`)
	runClient(t, program(t, "mosquitto_pub"), "-p", port, "-u", "ann", "-P", "secret", "-q", "1", "-t", "given", "-m", "hello")
	ann.want("^given hello$")
	if strings.Contains(p.lines(), `by "ann"`) {
		t.Error("ann was heard")
	}
}
