package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// TestLinesThatToolsParse has patterns of the kind that fail2ban filters, Home Assistant and log shippers hold
// against Mosquitto 2.1's lines, and one event for each.
func TestLinesThatToolsParse(t *testing.T) {
	cert, key := certificate(t)
	port, closed, tlsPort := freePort(t), freePort(t), freePort(t)
	p := startBroker(t, fmt.Sprintf("per_listener_settings true\nlistener %d 127.0.0.1\nallow_anonymous true\n"+
		"listener %d 127.0.0.1\nallow_anonymous false\nlistener %d 127.0.0.1\nallow_anonymous true\ncertfile %s\nkeyfile %s\n"+
		"max_packet_size 1000\nlog_type all\nlog_timestamp_format %%Y-%%m-%%dT%%H:%%M:%%S", port, closed, tlsPort, cert, key))
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	alice := func(c *codec.Connect) {
		c.HasUsername, c.Username, c.KeepAlive = true, []byte("alice"), 60
		c.HasWill, c.Will = true, codec.Will{Topic: []byte("w"), Payload: []byte("gone"), QoS: 1}
	}
	a := brokertest.Connect(t, addr, "ID", codec.V311, alice)
	a.Subscribe("a/#", 1)
	a.Publish("a/b", "hello", 1, 1)
	a.Want(codec.PUBLISH, nil)
	a.Want(codec.PUBACK, nil)
	a.Ack(codec.PUBACK, 1)
	a.Publish("$SYS/no", "hello", 1, 2)
	a.Want(codec.PUBACK, nil)
	a.Send(&codec.Unsubscribe{PacketID: 9, Filters: [][]byte{[]byte("a/#")}})
	a.Want(codec.UNSUBACK, nil)
	second := brokertest.Connect(t, addr, "ID", codec.V5, nil) // takes over
	a.WantClosed()
	second.Raw([]byte{0x30, 0xFF, 0xFF, 0x7F})
	wantDisconnect(t, second, codec.PacketTooLarge)
	brokertest.Connect(t, addr, "clean", codec.V5, nil).Disconnect()
	brokertest.Connect(t, addr, "hung", codec.V31, nil).Close()
	bad := brokertest.Connect(t, addr, "bad", codec.V311, nil)
	bad.Send(&codec.Connect{Version: codec.V311, CleanStart: true, ClientID: []byte("bad")})
	bad.WantClosed()
	for _, v := range []codec.Version{codec.V311, codec.V5} {
		c, _ := greeted(t, fmt.Sprintf("127.0.0.1:%d", closed), fmt.Sprint("intruder", v), v, nil)
		c.WantClosed()
	}
	for _, first := range []string{"\x10\x05nonsense", "\x30\x05nonsense", "\x16\x03\x01\x02\x00\x01"} {
		c := brokertest.Dial(t, addr, codec.V311)
		c.Raw([]byte(first))
		c.WantClosed()
	}
	brokertest.Dial(t, addr, codec.V311).Close() // as the probes of load balancers
	runClient(t, program(t, "mosquitto_pub"), "-h", "localhost", "-p", fmt.Sprint(tlsPort), "--cafile", cert, "-t", "x",
		"-m", "x", "-i", "secure")
	const at, when = `127\.0\.0\.1:\d+`, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: `
	for _, line := range []string{
		`mosquitto version \d+\.\d+\.\d+ starting`,
		`noctule \d+\.\d+\.\d+( \([0-9a-f]{12}(-dirty)?\))? speaks as mosquitto 2\.1\.2, built with go\S+\.`,
		`Config loaded from .*test\.conf\.`,
		`Bridge support NOT available\.`,
		`Persistence support available\.`,
		`TLS support available\.`,
		`TLS-PSK support NOT available\.`,
		`Websockets support available\.`,
		`Opening ipv4 listen socket on port \d+\.`,
		`mosquitto version \d+\.\d+\.\d+ running`,
		`New connection from ` + at + ` on port ` + fmt.Sprint(port) + `\.`,
		`New client connected from ` + at + ` as ID \(p4, c1, k60, u'alice'\)\.`,
		`New client connected from ` + at + ` as ID \(p5, c1, k0\)\.`,
		`New client connected from ` + at + ` as hung \(p3, c1, k0\)\.`,
		`Will message specified \(4 bytes\) \(r0, q1\)\.`,
		`No will message specified\.`,
		`Client secure negotiated TLSv1\.3 cipher TLS_\w+`,
		`Sending CONNACK to ID \(0, 0\)`,
		`Sending CONNACK to intruder4 \(0, 5\)`,
		`Sending CONNACK to intruder5 \(0, 135\)`,
		`Client intruder4 \[` + at + `\] disconnected: not authorised\.`,
		`Client intruder5 \[` + at + `\] disconnected: not authorised\.`,
		`Client 127\.0\.0\.1 \[` + at + `\] disconnected: protocol error\.`,
		`Client 127\.0\.0\.1 \[` + at + `\] disconnected: connection closed by client\.`,
		`Received SUBSCRIBE from ID`,
		"\ta/# \\(QoS 1\\)",
		`ID 1 a/#`,
		`Sending SUBACK to ID`,
		`Received PUBLISH from ID \(d0, q1, r0, m1, 'a/b', \.\.\. \(5 bytes\)\)`,
		`Sending PUBLISH to ID \(d0, q1, r0, m1, 'a/b', \.\.\. \(5 bytes\)\)`,
		`Sending PUBACK to ID \(m1, rc0\)`,
		`Received PUBACK from ID \(Mid: 1, RC:0\)`,
		`Denied PUBLISH from ID \(d0, q1, r0, m2, '\$SYS/no', \.\.\. \(5 bytes\)\)`,
		`Received UNSUBSCRIBE from ID`,
		"\ta/#",
		`ID a/#`,
		`Sending UNSUBACK to ID`,
		`Client ID \[` + at + `\] disconnected: session taken over\.`,
		`Client ID \[` + at + `\] disconnected: oversize packet\.`,
		`Received DISCONNECT from clean`,
		`Client clean \[` + at + `\] disconnected\.`,
		`Client hung \[` + at + `\] disconnected: connection closed by client\.`,
		`Client bad \[` + at + `\] disconnected: protocol error\.`,
		`Protocol error from ` + at + `: First packet not CONNECT \(48\)\.`,
		`Client from ` + at + ` appears to be using TLS to connect to a non-TLS listener\.`,
	} {
		p.await(t, when+line+"$")
	}
	last := brokertest.Connect(t, addr, "last", codec.V311, nil)
	p.stop(t, syscall.SIGTERM)
	last.WantClosed()
	p.await(t, when+`mosquitto version \d+\.\d+\.\d+ terminating$`)
	if strings.Contains(p.lines(), "Client last [") {
		t.Error("the end of the broker has a line for each client")
	}
	// fail2ban: one pattern for the address of whoever is not let in.
	re := regexp.MustCompile(`(?m): Client .*\[?([0-9.]+):\d+\]? disconnected: not authorised\.$`)
	if n := len(re.FindAllString(p.lines(), -1)); n != 2 {
		t.Errorf("%d lines for fail2ban", n)
	}
}

// plain takes out of a debug log what differs by nature: time, ports, generated names, Mosquitto's version and
// the $SYS messages, whose order and number is each broker's own.
func plain(log string, port int) (out []string) {
	cut := regexp.MustCompile(`127\.0\.0\.1:\d+|\[A\]`)
	for line := range strings.Lines(log) {
		_, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok || strings.Contains(text, "$SYS") || strings.Contains(text, "version") || strings.Contains(text, "root") ||
			strings.Contains(text, "speaks as mosquitto") || strings.HasSuffix(text, " available.") || strings.HasPrefix(text, "Config loaded") ||
			strings.HasPrefix(text, "Opening") || strings.Contains(text, "disconnected") ||
			strings.Contains(text, "closed its connection") || strings.HasPrefix(text, "Received DISCONNECT") {
			continue // the sentences about the end are 2.1's, and mosquitto_sub does not always say DISCONNECT
		}
		text = strings.ReplaceAll(cut.ReplaceAllString(text, "A"), fmt.Sprint(port), "PORT")
		out = append(out, strings.ReplaceAll(text, "(p2,", "(p4,")) // 2.0 numbers versions otherwise
	}
	return out
}

// TestDebugLogIsMosquittos runs the same clients against Debian's mosquitto and against ours, with -v.
func TestDebugLogIsMosquittos(t *testing.T) {
	theirs, pub, sub := program(t, "mosquitto"), program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	script := func(p *process, port int) {
		at := fmt.Sprint(port)
		runClient := func(t *testing.T, program string, args ...string) { // the next only once this one's end is logged
			t.Helper()
			runClient(t, program, args...)
			p.await(t, "Client "+args[3]+" .*(disconnected|closed)")
		}
		runClient(t, pub, "-p", at, "-i", "w", "-t", "a", "-m", "x", "--will-topic", "w", "--will-payload", "ww", "--will-qos", "1")
		for _, q := range []string{"0", "1", "2"} {
			runClient(t, pub, "-p", at, "-i", "p"+q, "-t", "a/b", "-m", "hello", "-q", q, "-u", "joe")
			runClient(t, pub, "-p", at, "-i", "r"+q, "-t", "kept/"+q, "-m", "hello", "-q", q, "-r", "-V", "5")
			runClient(t, sub, "-p", at, "-i", "s"+q, "-t", "kept/"+q, "-q", q, "-C", "1", "-U", "other")
		}
		cmd := exec.Command(sub, "-p", at, "-i", "two", "-t", "x", "-t", "y/+", "-U", "x", "-E")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	var logs []string
	for _, start := range []func(conf string) *process{
		func(conf string) *process {
			p := newBroker(t, conf, "-v")
			p.cmd.Path, p.cmd.Args[0] = theirs, theirs
			return p
		},
		func(conf string) *process { return newBroker(t, conf, "-v") },
	} {
		port := freePort(t)
		p := start(fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nsys_interval 0", port))
		p.start(t)
		script(p, port)
		p.await(t, `Client two .*(disconnected|closed)`)
		p.stop(t, syscall.SIGTERM)
		lines := plain(p.lines(), port)
		logs = append(logs, strings.Join(lines, "\n"))
	}
	if logs[0] != logs[1] {
		t.Errorf("theirs\n%s\nours\n%s", logs[0], logs[1])
	}
}

// logTopics subscribes to all log topics and returns a function that reads until a payload comes: what has
// come since the subscription's own line.
func logTopics(t *testing.T, addr string) (until func(payload string) string) {
	t.Helper()
	c := brokertest.Connect(t, addr, "log", codec.V311, nil)
	c.Send(&codec.Subscribe{PacketID: 1, Filters: []codec.Filter{{Name: []byte("$SYS/broker/log/#"), QoS: 2}}})
	read := func(payload string) string {
		var b strings.Builder
		for {
			h, body, err := c.Next()
			if err != nil {
				t.Fatalf("%v after %s", err, b.String())
			}
			if h.Type != codec.PUBLISH {
				continue
			}
			var m codec.Publish
			if err := m.Parse(h.Flags, body, codec.V311); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s retain %t qos %d: %s\n", m.Topic, m.Retain, m.QoS, m.Payload)
			if string(m.Payload) == payload {
				return b.String()
			}
		}
	}
	read("T: log 2 $SYS/broker/log/#") // ours may have lines about the connection before
	return read
}

// TestLogTopicIsMosquittos compares what a subscriber of $SYS/broker/log sees.
func TestLogTopicIsMosquittos(t *testing.T) {
	theirs, pub, sub := program(t, "mosquitto"), program(t, "mosquitto_pub"), program(t, "mosquitto_sub")
	var seen []string
	for _, path := range []string{theirs, binary} {
		port := freePort(t)
		p := newBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest topic\n"+
			"log_dest stderr\nlog_type all\nsys_interval 0\nlog_timestamp_format T", port))
		p.cmd.Path, p.cmd.Args[0] = path, path
		p.start(t)
		at := fmt.Sprint(port)
		until := logTopics(t, "127.0.0.1:"+at)
		runClient(t, pub, "-p", at, "-i", "p", "-t", "x", "-m", "x", "-u", "joe")
		p.await(t, "Client p .*(disconnected|closed)") // connections are not the same loop's
		runClient(t, sub, "-p", at, "-i", "s", "-t", "x", "-U", "y", "-E")
		text := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(until("T: s y"), "A")
		text = strings.NewReplacer(at, "PORT", "(p2,", "(p4,", "Client p [A] disc", "Client p disc").Replace(text)
		seen = append(seen, text)
		p.stop(t, syscall.SIGTERM)
	}
	if seen[0] != seen[1] || !strings.Contains(seen[0], "$SYS/broker/log/N retain false qos 2: T: New client") ||
		!strings.Contains(seen[0], "$SYS/broker/log/M/unsubscribe retain false qos 2: T: s y\n") {
		t.Errorf("theirs\n%s\nours\n%s", seen[0], seen[1])
	}
}

// sysTopics are the topics below $SYS and the form of their values.
func sysTopics(t *testing.T, path string) map[string]string {
	t.Helper()
	port := freePort(t)
	p := newBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nsys_interval 1", port))
	p.cmd.Path, p.cmd.Args[0] = path, path
	p.start(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	brokertest.Connect(t, addr, "one", codec.V311, nil)
	c := brokertest.Connect(t, addr, "two", codec.V311, nil)
	c.Subscribe("$SYS/#", 0)
	out := map[string]string{}
	form := regexp.MustCompile(`\d+`)
	for i := 0; out["$SYS/broker/clients/maximum"] == "" && i < 1000; i++ {
		h, body, err := c.Next()
		if err != nil || h.Type != codec.PUBLISH {
			t.Fatalf("%v %v", h.Type, err)
		}
		var m codec.Publish
		if err := m.Parse(h.Flags, body, codec.V311); err != nil {
			t.Fatal(err)
		}
		value := string(m.Payload)
		if !strings.HasSuffix(string(m.Topic), "/version") {
			value = form.ReplaceAllString(value, "N")
		}
		out[string(m.Topic)] = value
	}
	p.stop(t, syscall.SIGTERM)
	return out
}

// TestSysTopicsAreMosquittos compares topics and forms. 2.1, which we follow, has three more than Debian's 2.0.
func TestSysTopicsAreMosquittos(t *testing.T) {
	theirs, ours := sysTopics(t, program(t, "mosquitto")), sysTopics(t, binary)
	if v := ours["$SYS/broker/version"]; v != "mosquitto version 2.1.2" {
		t.Errorf("version %q", v)
	}
	// Programs that are built for tests know of no commit, or of a changed one.
	own := regexp.MustCompile(`^\d+\.\d+\.\d+( \([0-9a-f]{12}(-dirty)?\))?$`)
	if v := ours["$SYS/broker/noctule/version"]; !own.MatchString(v) {
		t.Errorf("version of noctule %q", v)
	}
	delete(ours, "$SYS/broker/noctule/version")
	for _, topic := range []string{"packet/out/count", "packet/out/bytes", "connections/socket/count"} {
		if ours["$SYS/broker/"+topic] != "N" {
			t.Errorf("%s is %q", topic, ours["$SYS/broker/"+topic])
		}
		delete(ours, "$SYS/broker/"+topic)
	}
	var topics []string
	for _, m := range []map[string]string{theirs, ours} {
		delete(m, "$SYS/broker/version")
		for k := range m {
			topics = append(topics, k)
		}
	}
	slices.Sort(topics)
	for _, k := range slices.Compact(topics) {
		if theirs[k] != ours[k] {
			t.Errorf("%s: theirs %q, ours %q", k, theirs[k], ours[k])
		}
	}
}

// TestLogTopicExpires has an MQTT 5 subscriber, who is told of the 20 s.
func TestLogTopicExpires(t *testing.T) {
	_, addr := withConf(t, "log_dest topic\nlog_dest stderr")
	c := brokertest.Connect(t, addr, "log", codec.V5, nil)
	c.Subscribe("$SYS/broker/log/N", 2)
	brokertest.Connect(t, addr, "other", codec.V311, nil)
	var m codec.Publish
	c.Want(codec.PUBLISH, &m)
	if e, ok := m.Properties.Uint(codec.MessageExpiry); !ok || e < 19 || e > 21 || m.QoS != 2 || m.Retain {
		t.Errorf("%+v", m)
	}
}

func TestLogFormatJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.log")
	port := freePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p := newBroker(t, fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\nlog_format json\n"+
		"allow_duplicate_messages true\nlog_dest stderr\nlog_dest file %s\nlog_type all", port, file))
	p.launch(t, `"mosquitto version 2\.1\.2 running"`)
	brokertest.Connect(t, addr, `we"ird`, codec.V5, nil)
	p.await(t, `^\{"time":"[-0-9T:.+Z]+","level":"notice","msg":"New client connected from 127\.0\.0\.1:\d+ as we\\"ird \(p5, c1, k0\)\."\}$`)
	p.stop(t, syscall.SIGTERM)
	for line := range strings.Lines(p.lines()) { // those of before the log was opened, too
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil || !strings.HasSuffix(string(raw), `"level":"information","msg":"mosquitto version 2.1.2 terminating"}`+"\n") {
		t.Errorf("%v %s", err, raw)
	}
}

func TestLogDestDLTIsToldAndIgnored(t *testing.T) {
	p, _ := withConf(t, "log_dest dlt\nlog_dest stderr")
	p.await(t, `^\d+: Warning: log_dest dlt is not supported, nothing is sent to DLT\.$`)
}
