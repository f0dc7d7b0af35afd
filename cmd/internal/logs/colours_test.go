package logs

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"noctule/broker"
	"noctule/cmd/internal/conf"
)

// TestColours: they are on the stream that has them, and nowhere else.
func TestColours(t *testing.T) {
	for _, json := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "log")
		var stdout, stderr bytes.Buffer
		h, err := New(conf.Log{Dest: []string{"stdout", "stderr"}, File: file, JSON: json}, Options{
			Verbose: true, Stdout: &stdout, Stderr: &stderr,
			Colours: func(w io.Writer) bool { return w == &stdout },
		})
		if err != nil {
			t.Fatal(err)
		}
		say(t, h, broker.LevelError, "e")
		say(t, h, broker.LevelWarning, "w")
		say(t, h, broker.LevelNotice, "n")
		say(t, h, broker.LevelInfo, "i")
		say(t, h, broker.LevelDebug, "d")
		say(t, h, broker.LevelSubscribe, "s")
		h.Close()
		want := "\x1b[31me\x1b[m\n\x1b[33mw\x1b[m\nn\ni\n\x1b[2md\x1b[m\n\x1b[2ms\x1b[m\n"
		if json {
			want = stderr.String()
		}
		if stdout.String() != want {
			t.Errorf("json %t: %q, want %q", json, stdout.String(), want)
		}
		if text := read(t, file); text != stderr.String() || bytes.Contains(stderr.Bytes(), []byte("\x1b")) {
			t.Errorf("json %t: the file has %q, stderr %q", json, text, stderr.String())
		}
	}
}
