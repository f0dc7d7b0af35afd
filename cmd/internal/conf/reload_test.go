package conf

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker"
)

// reload reads a text, changes the file and reads it again. It checks that the old configuration is as it was.
func reload(t *testing.T, before, after string) (old, next *Config, notes []string, err error) {
	t.Helper()
	f := write(t, t.TempDir(), "t.conf", before)
	old = complete(t, f)
	was := *complete(t, f)
	was.Options.Log = old.Options.Log
	write(t, filepath.Dir(f), "t.conf", after)
	next, list, err := old.Reload([]string{f}, nil)
	for _, n := range list {
		notes = append(notes, n.Text)
		if n.Level != broker.LevelNotice {
			t.Errorf("%s has level %s", n.Text, n.Level)
		}
	}
	if !reflect.DeepEqual(*old, was) {
		t.Errorf("the old configuration changed\n%+v, was\n%+v", *old, was)
	}
	if (err == nil) != (next != nil) {
		t.Errorf("configuration %v and error %v", next, err)
	}
	return old, next, notes, err
}

func TestReloadErrors(t *testing.T) {
	const moved = "It is not currently possible to add/remove listeners when reloading the config file."
	tests := []struct{ before, after, want string }{
		{"listener 1", "listener 1\n\nnonsense", "Unknown configuration variable 'nonsense'.\nError found at t.conf:3."},
		{"listener 1", "listener 1\nmax_qos 3", "'max_qos' must be between 0 and 2 inclusive.\nError found at t.conf:2."},
		{"listener 1", "listener 1\ncertfile x", "Both certfile and keyfile must be provided to enable a TLS listener.\nError found at t.conf:2."},
		{"listener 1", "listener 1\nlistener 2", moved + "\nError found at t.conf:2."},
		{"listener 1", "listener 1\nlistener 1 127.0.0.1", moved + "\nError found at t.conf:2."},
		{"listener 1\nlistener 2", "listener 1", moved + " Removed: 2."},
		{"listener 1", "listener 2", moved + " Removed: 1."},
		{"listener 1 127.0.0.1", "listener 1 ::1", moved + " Removed: 1 127.0.0.1."},
		{"listener 0 /a", "listener 0 /b", moved + " Removed: 0 /a."},
		{"listener 1", "", moved + " Removed: 1."},
		{"listener 1", "max_qos 1\nlistener 1", moved},
		{"listener 1", "listener 1\nplugin /x.so", "Unable to load plugin \"/x.so\".\nError found at t.conf:2."},
	}
	for _, tt := range tests {
		_, _, notes, err := reload(t, tt.before, tt.after)
		got := ""
		if err != nil {
			head, tail, _ := strings.Cut(err.Error(), "Error found at ")
			got = head
			if tail != "" {
				got += "Error found at " + tail[strings.LastIndex(tail, "/")+1:]
			}
		}
		if got != "Error: "+tt.want || notes != nil {
			t.Errorf("%q to %q:\n got %q %v\nwant %q", tt.before, tt.after, got, notes, tt.want)
		}
	}
}

func TestReloadApplies(t *testing.T) {
	old, next, notes, err := reload(t,
		"listener 1\nmax_qos 1\nmax_connections 5\nlistener 2\nallow_anonymous true\nsys_interval 5",
		"log_type debug\nlistener 2\nmax_topic_alias 7\nlistener 1\nmax_connections 6\nsys_interval 6\nqueue_qos0_messages true")
	if err != nil || notes != nil {
		t.Fatal(err, notes)
	}
	if got, want := shapes(old), "1 anonymous qos1 max5; 2 anonymous"; got != want {
		t.Errorf("old %s, want %s", got, want)
	}
	if got, want := shapes(next), "1 max6; 2"; got != want {
		t.Errorf("new %s, want %s", got, want)
	}
	if next.Listeners[1].MaxTopicAlias != 7 || next.Options.SysInterval != 6*time.Second || !next.Options.QueueQoS0 || !next.Log.Types["debug"] {
		t.Errorf("%+v", next)
	}
}

// TestReloadKeeps changes every setting that needs a restart: each keeps its value, and a note says so.
func TestReloadKeeps(t *testing.T) {
	before := `per_listener_settings true
listener 1
listener 2
certfile x
keyfile y
`
	after := `per_listener_settings true
user a
pid_file b
admin_listener c
max_inflight_bytes 1
max_inflight_messages 1
max_keepalive 1
max_packet_size 100
max_queued_bytes 1
max_queued_messages 1
retain_available false
set_tcp_nodelay false
websockets_headers_size 100
listener 1
certfile x
keyfile y
cafile z
require_certificate true
protocol websockets
socket_domain ipv4
bind_interface lo
max_qos 1
listener 2
max_qos 1
`
	old, next, notes, err := reload(t, before, after)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, k := range []string{
		"admin_listener", "max_inflight_bytes", "max_inflight_messages", "max_keepalive",
		"max_packet_size", "max_queued_bytes", "max_queued_messages", "pid_file", "retain_available", "user",
		"certfile of listener 1", "bind_interface of listener 1", "protocol of listener 1",
		"set_tcp_nodelay of listener 1", "socket_domain of listener 1", "websockets_headers_size of listener 1",
		"certfile of listener 2", "set_tcp_nodelay of listener 2", "websockets_headers_size of listener 2",
	} {
		want = append(want, "The new value of "+k+" takes effect after a restart.")
	}
	if !slices.Equal(notes, want) {
		t.Errorf("notes\n%s, want\n%s", strings.Join(notes, "\n"), strings.Join(want, "\n"))
	}
	next.Notes = nil
	for i := range next.Listeners {
		if next.Listeners[i].MaxQoS != 1 {
			t.Errorf("max_qos %d", next.Listeners[i].MaxQoS)
		}
		next.Listeners[i].MaxQoS, next.Listeners[i].at = 2, old.Listeners[i].at
		next.Listeners[i].lines = old.Listeners[i].lines
	}
	old.Notes, next.lines = nil, old.lines
	if !reflect.DeepEqual(next, old) {
		t.Errorf("is\n%+v, want\n%+v", next, old)
	}
}

// TestKeptFields holds that what keeps its value has one that can be copied, and that nothing else has.
func TestKeptFields(t *testing.T) {
	same := map[string]bool{"retained_persistence": true, "tls_keyform": true} // as persistence; as pem, always
	for key, d := range directives() {
		if (d.field != nil || same[key]) != (d.reload == restart) {
			t.Errorf("%s: reload %d, field %v", key, d.reload, d.field != nil)
		}
		switch of := d.field.(type) {
		case nil:
		case func(*Config) any:
			wantKept(t, key, of)
		case func(*Listener) any:
			wantKept(t, key, of)
		default:
			t.Errorf("%s: field is a %T", key, of)
		}
	}
}

func wantKept[T any](t *testing.T, key string, of func(*T) any) {
	t.Helper()
	var a, b T
	fill(reflect.ValueOf(of(&a)).Elem())
	if got := keep(&a, &b); !slices.Equal(got, []string{key}) || !reflect.DeepEqual(a, b) {
		t.Errorf("%s: %v", key, got)
	}
}

// fill gives a setting another value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	default:
		v.SetInt(1)
	}
}

// TestBrokerReloads holds the table against what a running broker takes over: an option that a directive sets either
// keeps its value or counts at once, in both.
func TestBrokerReloads(t *testing.T) {
	taken := map[string]bool{}
	for _, name := range broker.Reloadable() {
		taken[name] = true
	}
	kept := map[string]bool{"MaxQueuedMemory": true, "PersistenceSync": true} // made of other fields, which are kept
	for key, d := range directives() {
		of, ok := d.field.(func(*Config) any)
		if !ok {
			continue
		}
		var c Config
		at := reflect.ValueOf(of(&c)).Pointer()
		o := reflect.ValueOf(&c.Options).Elem()
		for i := range o.NumField() {
			if f := o.Type().Field(i); o.Field(i).Addr().Pointer() == at {
				kept[f.Name] = true
				if taken[f.Name] {
					t.Errorf("%s keeps its value, and a broker takes another one over", key)
				}
			}
		}
	}
	program := map[string]bool{ // the program's own, which no directive sets
		"Loops": true, "Portable": true, "MaxBufferedBytes": true, "MemoryUsed": true, "Hashing": true, "Version": true,
		"Features": true, "MaxAdmissions": true, "Controls": true, "Guard": true, "Describe": true,
		"RequestsByUsername": true, "Store": true, "Clock": true, "Log": true, "FlushLog": true,
		"Ended": true, "Stored": true,
	}
	for f := range reflect.TypeFor[broker.Options]().Fields() {
		if f.IsExported() && !taken[f.Name] && !kept[f.Name] && !program[f.Name] {
			t.Errorf("a broker keeps its %s, and no directive says so", f.Name)
		}
	}
}
