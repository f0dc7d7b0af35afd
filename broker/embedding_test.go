package broker_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const embedding = "../docs/embedding.md"

// blocks are the pieces of a document in one language, without indentation.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	raw, err := os.ReadFile(embedding)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\\n(.*?)^```$").FindAllStringSubmatch(string(raw), -1) {
		list = append(list, m[1])
	}
	return list
}

// flat is code without indentation.
func flat(code string) string {
	return regexp.MustCompile(`(?m)^\s+`).ReplaceAllString(code, "")
}

// TestEmbeddingDocument: what the document shows is in examples, which are compiled and run; but for the
// whole program, which TestEmbeddedElsewhere builds.
func TestEmbeddingDocument(t *testing.T) {
	examples, n := "", 0
	for _, file := range []string{"example_test.go", "presub/feature_test.go"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		examples += flat(string(raw))
	}
	for _, code := range blocks(t, "go") {
		if strings.HasPrefix(code, "package main") {
			continue
		}
		n++
		if !strings.Contains(examples, flat(code)) {
			t.Errorf("not in example_test.go:\n%s", code)
		}
	}
	if n < 6 {
		t.Errorf("%d pieces of code were found", n)
	}
}

// TestEmbeddedElsewhere follows the document in a module outside: its program is built with a checkout in the
// place of the module, and by a go.work; and it runs. Nothing is fetched that this module has not fetched.
func TestEmbeddedElsewhere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the document's commands are of a Unix shell")
	}
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	commands := blocks(t, "sh")
	var programs []string // the house, and what its operators do
	for _, code := range blocks(t, "go") {
		if strings.HasPrefix(code, "package main") {
			programs = append(programs, strings.Replace(code, "127.0.0.1:1883", "127.0.0.1:0", 1))
		}
	}
	if len(programs) != 2 || len(commands) != 1 || !strings.Contains(commands[0], "../noctule") {
		t.Fatalf("the document has other pieces: %q", commands)
	}
	// The checkout by its own path: what is compiled already need not be again.
	for name, script := range map[string]string{
		"replace": commands[0] + "go build -o run ./operator\ngo mod vendor\ngo list -deps . >/dev/null\n",
		"go.work": "go mod init example.org/house\ngo work init . ../noctule\ngo build\ngo build -o run ./operator\n",
	} {
		script = strings.ReplaceAll(script, "../noctule", checkout)
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "house")
			for i, folder := range []string{dir, filepath.Join(dir, "operator")} {
				if err := os.Mkdir(folder, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(programs[i]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			sh := exec.Command("sh", "-e", "-c", script)
			sh.Dir = dir
			sh.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=")
			if out, err := sh.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, script, out)
			}
			runHouse(t, filepath.Join(dir, "house"))
			out, err := exec.Command(filepath.Join(dir, "run")).CombinedOutput()
			if want := "passed on to 1 and heard: on\nkitchen has 1 subscription\nkicked: true true\n" +
				"event: connected\nevent: subscribed\nevent: disconnected\n"; err != nil || string(out) != want {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// runHouse runs the program until it listens, and interrupts it.
func runHouse(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, listening := bufio.NewScanner(log), false
	for !listening && lines.Scan() {
		listening = strings.Contains(lines.Text(), "listening on 127.0.0.1:")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	for lines.Scan() { // to the end, so that it can be waited for
	}
	if err := cmd.Wait(); err != nil || !listening {
		t.Errorf("it listened: %t, %v", listening, err)
	}
}
