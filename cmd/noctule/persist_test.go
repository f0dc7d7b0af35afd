//go:build !windows

package main

import (
	"bytes"
	bin "encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// persistent is a configuration with persistence in dir.
func persistent(port int, dir string) string {
	return fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s\n", port, dir)
}

// sample copies a file that Debian's mosquitto has written. A session that was to expire a day later does so a
// day from now.
func sample(t *testing.T, name, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../broker/store/mosquitto/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	const written = 1795721093
	expiry := bin.LittleEndian.AppendUint64(nil, written)
	tomorrow := bin.LittleEndian.AppendUint64(nil, uint64(time.Now().Add(24*time.Hour).Unix()))
	raw = bytes.ReplaceAll(raw, expiry, tomorrow)
	file := filepath.Join(dir, "mosquitto.db")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// own is our file beside a mosquitto.db.
func own(theirs string) string { return filepath.Join(filepath.Dir(theirs), "noctule.db") }

// A file of Debian's mosquitto is read at the first start, its messages reach mosquitto_sub, and it stays as it
// was.
func TestMosquittoDatabaseIsImported(t *testing.T) {
	sub := program(t, "mosquitto_sub")
	port, dir := freePort(t), t.TempDir()
	file := sample(t, "debian-2.0.11-v6.db", dir)
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := startBroker(t, persistent(port, dir))
	p.await(t, `Imported 3 sessions with 3 subscriptions and 7 messages, and 3 retained messages\.`)
	p.await(t, `mosquitto\.db stays as it is; from now on the database is .*/noctule\.db\.`)
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, original) {
		t.Errorf("the original has changed: %v", err)
	}
	at := []string{"-h", "127.0.0.1", "-p", fmt.Sprint(port), "-W", "10"}
	got := runClient(t, sub, append(at, "-c", "-i", "old", "-q", "1", "-t", "queue/#", "-C", "3", "-F", "%t %p")...)
	if want := "queue/1 one\nqueue/2 two\nqueue/r both\n"; got != want {
		t.Errorf("the session got %q", got)
	}
	got = runClient(t, sub, append(at, "-V", "5", "-t", "retained/#", "-C", "2", "-F", "%t %p %R")...)
	if !strings.Contains(got, "retained/a ra") || !strings.Contains(got, "retained/b rb r/t") {
		t.Errorf("retained: %q", got)
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
	p = startBroker(t, persistent(port, dir))
	if text := p.lines(); strings.Contains(text, ": Imported ") || strings.Contains(text, "NOT used") || !strings.Contains(text, "Restored 3 sessions") {
		t.Error(text)
	}
}

// What is no database of ours or of Mosquitto's stops the start and is left alone.
func TestForeignDatabaseStopsTheStart(t *testing.T) {
	for name, content := range map[string]string{
		"text": strings.Repeat("not a database\n", 10), "version 4": "\x00\xB5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x04",
		"cut off": "\x00\xB5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x02\x00\x00",
		"sqlite":  "SQLite format 3\x00" + strings.Repeat("x", 100),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "mosquitto.db")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			code, text := outcome(t, "-c", confFile(t, persistent(freePort(t), dir)+"user root\n"))
			if code != exitConfig || !strings.Contains(text, "Couldn't open database") || strings.Contains(text, "goroutine") {
				t.Errorf("exit %d: %s", code, text)
			}
			if now, _ := os.ReadFile(file); string(now) != content {
				t.Error("the file has changed")
			}
			if list, _ := os.ReadDir(dir); len(list) != 1 {
				t.Errorf("%v was left", list)
			}
		})
	}
}

func TestSaveOnSignal(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	p := startBroker(t, persistent(port, dir)+"persistence_file other.db\npersistence_sync interval\n")
	c := brokertest.Connect(t, fmt.Sprint("127.0.0.1:", port), "c", codec.V311, nil)
	c.Send(&codec.Publish{Topic: []byte("r"), Payload: []byte("x"), Retain: true, QoS: 1, PacketID: 1})
	c.Want(codec.PUBACK, nil)
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	p.await(t, `Saving in-memory database to .*other\.db\.noctule\.`)
	if _, err := os.Stat(filepath.Join(dir, "other.db.noctule")); err != nil {
		t.Error(err)
	}
}

// The tools: a backup of the running broker, and of it all the others.
func TestDatabaseTools(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	theirs := sample(t, "debian-2.0.11-inflight-v6.db", dir)
	file := own(theirs)
	p := startBroker(t, persistent(port, dir))
	tool := func(want int, args ...string) string {
		t.Helper()
		code, text := outcome(t, append([]string{"db"}, args...)...)
		if code != want {
			t.Errorf("db %s: exit %d: %s", strings.Join(args, " "), code, text)
		}
		return text
	}
	copied := filepath.Join(dir, "copy.db")
	tool(exitOK, "backup", file, copied)
	for _, args := range [][]string{{"check", theirs}, {"backup", theirs, copied + "x"}} {
		if text := tool(exitListener, args...); !strings.Contains(text, "of Mosquitto; that of noctule is noctule.db") {
			t.Error(text)
		}
	}
	if text := tool(exitListener, "check", file); !strings.Contains(text, "in use by another process") {
		t.Error(text)
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
	tool(exitOK, "backup", file, filepath.Join(dir, "cold.db"))
	for _, name := range []string{copied, file} {
		if text := tool(exitOK, "check", name); !strings.Contains(text, "no problems") {
			t.Error(text)
		}
		tool(exitOK, "stats", name)
		if text := tool(exitOK, "dump", name); !strings.Contains(text, `client "sub1"`) || !strings.Contains(text, "packet id 4 message") {
			t.Error(text)
		}
	}
	first := tool(exitOK, "export", copied)
	if !json.Valid([]byte(first)) {
		t.Error(first)
	}
	jsonFile := filepath.Join(dir, "state.json")
	tool(exitOK, "export", copied, jsonFile)
	again := filepath.Join(dir, "again.db")
	if text := tool(exitOK, "import", again, jsonFile); !strings.Contains(text, "3 sessions") {
		t.Error(text)
	}
	tool(exitListener, "import", again, jsonFile) // it exists
	if second := tool(exitOK, "export", again); len(second) != len(first) {
		t.Errorf("was %s\nis %s", first, second)
	}
	tool(exitOK, "compact", again)
	tool(exitOK, "check", again)
	for _, args := range [][]string{{}, {"check"}, {"nothing", file}, {"check", file, "x"}, {"import", "x"}} {
		tool(exitConfig, args...)
	}
	tool(exitListener, "check", filepath.Join(dir, "not there"))
	if _, err := os.Stat(filepath.Join(dir, "not there")); err == nil {
		t.Error("check has made a file")
	}
	if err := os.Truncate(copied, 8192); err != nil {
		t.Fatal(err)
	}
	if text := tool(exitConfig, "check", copied); strings.Contains(text, "goroutine") {
		t.Error(text)
	}
}
