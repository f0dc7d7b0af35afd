package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// docs is where the documents are, seen from here.
const docs = "../../docs/"

// block is a fenced block of a document.
type block struct{ heading, lang, text string }

// blocksOf reads the fenced blocks of a document.
func blocksOf(t *testing.T, name string) (list []block) {
	t.Helper()
	heading, in := "", false
	var b block
	for line := range strings.Lines(readFile(t, name)) {
		lang, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && in:
			list, in = append(list, b), false
		case fence:
			b, in = block{heading: heading, lang: lang}, true
		case in:
			b.text += line
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimSpace(line[3:])
		}
	}
	if in {
		t.Fatalf("a block of %s has no end", name)
	}
	return list
}

// readyAfter waits for what a line put in the background: the ports of the last configuration.
const readyAfter = `for port in $(sed -n 's/^listener \([0-9]*\).*/\1/p' *.conf); do
  for i in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break; sleep 0.05; done
done
`

// others makes a directory of a test one that other users may go into.
func others(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// reader runs blocks as a reader would: one after the other in a shell of an ordinary user, on ports that are free.
type reader struct {
	dir   string
	env   []string
	ports *strings.Replacer
}

func newReader(t *testing.T) *reader {
	t.Helper()
	dir := others(t)
	raw := readFile(t, binary)
	if err := os.WriteFile(filepath.Join(dir, "noctule"), []byte(raw), 0o755); err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, port := range []string{"1883", "9001", "9884", "8080"} {
		pairs = append(pairs, port, fmt.Sprint(freePort(t)))
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return &reader{dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "NOCTULE="+top, "GOFLAGS=-mod=mod",
		"GOPROXY=off", "GONOSUMDB=*", "GONOSUMCHECK=1", "GOTOOLCHAIN=local"), strings.NewReplacer(pairs...)}
}

// run runs the blocks of a heading and checks what is said to be printed.
func (r *reader) run(t *testing.T, list []block, ordinary bool) {
	t.Helper()
	var script strings.Builder
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n")
	var want []string
	for _, b := range list {
		switch b.lang {
		case "sh":
			text := r.ports.Replace(b.text)
			if strings.HasSuffix(text, " &\n") {
				text += readyAfter
			}
			script.WriteString(text)
		case "text":
			want = append(want, strings.Split(strings.TrimSpace(b.text), "\n")...)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.Env = filepath.Join(r.dir, "reader"), r.env
	if err := os.Mkdir(cmd.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 && ordinary { // as root the broker would become another user, who may not read all this
		const nobody = 65534
		if err := os.Chown(cmd.Dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, patience
	err := cmd.Run()
	rest := out.String()
	for _, line := range want {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Errorf("%q is not printed", line)
			continue
		}
		rest = after
	}
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// needs are programs of a document's blocks that are not ours.
func needs(t *testing.T, list []block) {
	t.Helper()
	program(t, "bash")
	for _, name := range []string{"mosquitto_pub", "mosquitto_sub", "curl"} {
		uses := regexp.MustCompile(`\b` + name + ` -`)
		if slices.ContainsFunc(list, func(b block) bool { return b.lang == "sh" && uses.MatchString(b.text) }) {
			program(t, name)
		}
	}
}

// TestDocumentsRun runs every shell block of the documents for those who arrive.
func TestDocumentsRun(t *testing.T) {
	for _, name := range []string{"getting-started.md", "security.md"} {
		list := blocksOf(t, docs+name)
		for len(list) > 0 {
			n := 1
			for n < len(list) && list[n].heading == list[0].heading {
				n++
			}
			part := list[:n]
			list = list[n:]
			t.Run(name+" "+part[0].heading, func(t *testing.T) {
				needs(t, part)
				newReader(t).run(t, part, part[0].heading != "Go programmer")
			})
		}
	}
}

// page is the page of a document: what stands between its first line and END, or the end of its block.
func page(t *testing.T, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(readFile(t, name), "<!doctype html>")
	end := strings.Index(rest, "</script>\nEND")
	if end < 0 {
		end = strings.Index(rest, "</script>\n```")
	}
	if !found || end < 0 {
		t.Fatalf("no page in %s", name)
	}
	return "<!doctype html>" + rest[:end] + "</script>\n"
}

// The page of the documents, in a browser: it connects and shows what is retained, in ten lines.
func TestPageOfTheDocuments(t *testing.T) {
	text := page(t, docs+"getting-started.md")
	if readme := page(t, "../../README.md"); readme != text || strings.Count(text, "\n") > 10 {
		t.Errorf("README's page has %d lines, and is that of getting-started.md: %t", strings.Count(readme, "\n"), readme == text)
	}
	chromium := program(t, "chromium")
	mqtt := "testdata/node/node_modules/mqtt/dist/mqtt.min.js"
	if !isFile(mqtt) {
		if os.Getenv("CI") == "true" {
			t.Fatal("MQTT.js is not installed")
		}
		t.Skip("MQTT.js is not installed: run npm ci in cmd/noctule/testdata/node")
	}
	dir, tcp, ws, web := t.TempDir(), freePort(t), freePort(t), freePort(t)
	text = strings.Replace(text, "9001", fmt.Sprint(ws), 1)
	text = regexp.MustCompile(`https://unpkg.com/.*mqtt.min.js`).ReplaceAllString(text, "mqtt.min.js")
	text += `<script>client.on("message", () => client.publish("seen", log.textContent))</script>` // what it shows
	for name, content := range map[string]string{"index.html": text, "mqtt.min.js": readFile(t, mqtt)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startBroker(t, fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\n"+
		"listener %d 127.0.0.1\nprotocol http_api\nhttp_dir %s", tcp, ws, web, dir))
	c := brokertest.Dial(t, fmt.Sprintf("127.0.0.1:%d", tcp), codec.V5)
	c.Connack("shell", nil)
	c.Subscribe("seen", 0)
	c.Send(&codec.Publish{Topic: []byte("chat/shell"), Payload: []byte("hello, page"), Retain: true})
	openPage(t, chromium, fmt.Sprintf("http://127.0.0.1:%d/", web))
	c.WantPublish("seen", "connected\nchat/shell: hello, page\n")
}

// Every line of a log that troubleshooting.md quotes is one that the program, or Go's TLS, can write.
func TestQuotedLinesExist(t *testing.T) {
	source := programText(t)
	variable := regexp.MustCompile(`\.\.\.|: |, |\. |"|\n`)
	lines := 0
	for _, b := range blocksOf(t, docs+"troubleshooting.md") {
		if b.lang != "log" {
			continue
		}
		for line := range strings.Lines(b.text) {
			lines++
			for _, part := range variable.Split(line, -1) {
				if part = strings.Trim(part, " ()[]:,."); len(part) > 2 && !strings.Contains(source, part) {
					t.Errorf("no program text has %q of %s", part, line)
				}
			}
		}
	}
	for line := range strings.Lines(readFile(t, docs+"troubleshooting.md")) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.Contains(cells[2], "`") && !strings.Contains(line, "| OpenSSL |") {
			for _, quoted := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(cells[2], -1) {
				lines++
				for part := range strings.SplitSeq(quoted[1], ": ") {
					if !strings.Contains(source, part) {
						t.Errorf("no program text has %q of %s", part, quoted[1])
					}
				}
			}
		}
	}
	if lines < 30 {
		t.Errorf("%d lines were looked for", lines)
	}
}

// programText is what stands in the sources, Go's own TLS and X.509 included, with strings in one piece and in
// the words of the log.
func programText(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	std := filepath.Join(strings.TrimSpace(string(out)), "src", "crypto")
	for _, dir := range []string{
		"../../broker", "../../wsnet", "../../internal", "..", filepath.Join(std, "tls"), filepath.Join(std, "x509"),
	} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				b.WriteString(readFile(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{syscall.EADDRINUSE, syscall.EACCES, ws.ErrHandshakeBadUpgrade} {
		b.WriteString(strings.ReplaceAll(err.Error(), `"`, "'") + "\n") // as the log has it
	}
	return regexp.MustCompile(`"\s*\+\s*"`).ReplaceAllString(b.String(), "")
}
