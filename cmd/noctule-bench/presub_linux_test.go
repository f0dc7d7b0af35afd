package main

import (
	"strings"
	"testing"
	"time"
)

// The scenario counts what the real broker and its own webservice show: lists at once, after an outage, and by
// the connect topic.
func TestPresubScenario(t *testing.T) {
	_, broker := binaries(t)
	t.Run("lists", func(t *testing.T) { presubGoesWell(t, broker) })
	t.Run("falls short", func(t *testing.T) { presubFallsShort(t, broker) })
}

func presubGoesWell(t *testing.T, broker string) {
	t.Helper()
	run := []string{"presub", "--noctule", broker, "--latency=5ms", "--topics=3"}
	r := report(t, append(run, "-c300", "--concurrent=300", "--logins=200")...)
	g := r.Granted
	if g.AtOnce+g.Later != 300 || g.Empty+g.Refused+g.Twice != 0 || g.Proven != 300 || g.Latency.Count != 300 {
		t.Errorf("at once: %+v", g)
	}
	if l := g.Logins; l.Sent != 200 || l.Answers != 200 || l.Codes["0"] != 200 || l.Acks["Success"] != 200 {
		t.Errorf("logins: %+v", l)
	}
	if u := g.Supply; u.Requests < 500 || u.Asked != u.Requests || u.Most > 64 {
		t.Errorf("webservice: %+v", u)
	}
	if r.Broker.ResidentPerClient <= 0 {
		t.Error("no memory a client")
	}

	g = report(t, append(run, "-c100", "--concurrent=100", "--transport=ws", "--batch=10", "--down=500ms")...).Granted
	if g.AtOnce != 0 || g.Later != 100 || g.Told != 100 || g.Empty != 0 || g.Proven != 100 || g.AtOnceDown != 0 {
		t.Errorf("webservice away: %+v", g)
	}
	if g.SinceBack <= 0 || g.Time < 500*time.Millisecond || g.Supply.Requests > g.Supply.Asked {
		t.Errorf("webservice away: %+v", g)
	}
}

// What falls short ends the program with 1, and what is refused is told with its reason.
func presubFallsShort(t *testing.T, broker string) {
	t.Helper()
	run := []string{"presub", "--noctule", broker, "--quiet", "-c5", "--concurrent=5", "--conns=1"}
	code, out, log := command(t, append(run, "--latency=1m", "--provider=budget: 100ms", "--patience=1s")...)
	if code != exitFailed || !strings.Contains(log, "5 clients were let in and never got their list") {
		t.Errorf("a webservice that hangs: exit code %d\n%s\n%s", code, out, log)
	}
	code, out, log = command(t, append(run, "--latency=300ms", "--provider=max_waiting: 1",
		"--provider=on_overload: quota_exceeded")...)
	if code != exitOK || !strings.Contains(out, "refused by the broker: Quota exceeded") {
		t.Errorf("a short queue: exit code %d\n%s\n%s", code, out, log)
	}
	for text, args := range map[string][]string{
		"--pid": {"presub", "--pid=1"}, "--noctule": {"presub", "--noctule=/nowhere/noctule"},
		"nothing negative": {"presub", "-c0"},
	} {
		if code, _, log := command(t, args...); code == exitOK || !strings.Contains(log, text) {
			t.Errorf("%v: exit code %d, %s", args, code, log)
		}
	}
}
