package traffic

import (
	"strings"
	"testing"
)

func TestMarkdown(t *testing.T) {
	window := func(packets, bytes int64) Window { return Window{Count: Count{packets, bytes}} }
	r := &Result{Rows: []Row{
		{Stack: "prosody", Version: "0.12", Way: viaBOSH, Counts: map[Scenario]Window{
			Idle: window(30, 14000), BarePing: window(52, 20520),
		}},
		{Stack: "noctule", Version: "0.1", Way: viaMQTTWeb, Counts: map[Scenario]Window{
			Idle: window(40, 2800), BarePing: window(26, 2052),
		}},
	}, Missing: map[string]string{"ejabberd": "not installed\nmore"}}
	var b strings.Builder
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Time is compressed", "* prosody 0.12\n", "* ejabberd is left out: not installed\n",
		"| MQTT over WebSocket, noctule | 40 / 2800 | 0.75 / 5.00 | - | - | 84 / 5796 | 1.70 / 3.27 |",
		"| XMPP over BOSH, prosody | - | - | 52 / 20520 | 1.00 / 1.00 |",
		"| 26 / 2052 | 2.00 / 10.00 | - | - | - | - | 28 / 2052 | 1.86 / 11.25 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	b.Reset()
	inTime := &Result{Real: true}
	if err := inTime.Markdown(&b); err != nil || !strings.Contains(b.String(), "In real time") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
