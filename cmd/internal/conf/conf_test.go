package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// write makes a file below the test's directory.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	f := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// parse reads a text that must be good.
func parse(t *testing.T, text string, ports ...int) *Config {
	t.Helper()
	c, err := Parse([]string{write(t, t.TempDir(), "t.conf", text)}, ports)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return c
}

// refusal is the error of a text, with the file's path left out.
func refusal(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	_, err := Parse([]string{write(t, dir, "t.conf", text)}, nil)
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), dir+"/", "")
}

// TestErrorTexts has every text that the parser can say, for the last line of a file.
func TestErrorTexts(t *testing.T) {
	tests := []struct{ text, want string }{
		{"nonsense 1", "Unknown configuration variable 'nonsense'."},
		{"nonsense", "Unknown configuration variable 'nonsense'."},
		{"Listener 1883", "Unknown configuration variable 'Listener'."},
		{"listener\t1883", "Unknown configuration variable 'listener\t1883'."},
		{" # comment", "Unknown configuration variable '#'."},
		{"\xef\xbb\xbflistener 1883", "Unknown configuration variable '\xef\xbb\xbflistener'."},

		{"allow_anonymous", "Empty 'allow_anonymous' value in configuration."},
		{"allow_anonymous   ", "Empty 'allow_anonymous' value in configuration."},
		{"allow_anonymous yes", "Invalid 'allow_anonymous' value (yes)."},
		{"allow_anonymous TRUE", "Invalid 'allow_anonymous' value (TRUE)."},
		{"allow_anonymous 2", "Invalid 'allow_anonymous' value (2)."},
		{"allow_anonymous true#", "Invalid 'allow_anonymous' value (true#)."},

		{"listener", "Empty 'listener port' value in configuration."},
		{"listener 100000", "Invalid 'port' value (100000)."},
		{"listener -1", "Invalid 'port' value (-1)."},
		{"listener mqtt", "'listener port' value not a number."},
		{"listener 0", "A listener with port 0 must provide a Unix socket path."},
		{"listener 0 # path", "A listener with port 0 must provide a Unix socket path."},
		{"port 0", "Invalid 'port' value (0)."},
		{"port 65536", "Invalid 'port' value (65536)."},
		{"bind_address 127.0.0.1\nbind_address 127.0.0.1", "Duplicate 'default listener bind_address' value in configuration."},
		{"protocol", "Empty 'protocol' value in configuration."},
		{"protocol coap", "Invalid 'protocol' value (coap)."},
		{"socket_domain", "Empty 'socket_domain' value in configuration."},
		{"socket_domain ipx", "Invalid 'socket_domain' value \"ipx\" in configuration."},
		{"bind_interface lo\nbind_interface lo", "Duplicate 'bind_interface' value in configuration."},
		{"max_qos 3", "'max_qos' must be between 0 and 2 inclusive."},
		{"maximum_qos -1", "'max_qos' must be between 0 and 2 inclusive."},
		{"max_topic_alias 10", "The 'max_topic_alias' option requires a listener to be defined first."},
		{"websockets_origin x", "The 'websockets_origin' option requires a listener to be defined first."},
		{"listener_allow_anonymous true", "The 'listener_allow_anonymous' option requires a listener to be defined first."},
		{"mount_point x/", "The 'mount_point' option requires a listener to be defined first."},
		{"listener 1\nmax_topic_alias 65536", "Invalid 'max_topic_alias' value in configuration."},
		{"listener 1\nmax_topic_alias_broker -1", "Invalid 'max_topic_alias_broker' value in configuration."},
		{"listener 1\ntls_version x\ntls_version x", "Duplicate 'tls_version' value in configuration."},

		{"max_connections many", "'max_connections' value not a number."},
		{"max_connections 1_000", "'max_connections' value not a number."},
		{"max_connections 0b11", "'max_connections' value not a number."},
		{"max_connections 0o11", "'max_connections' value not a number."},
		{"max_connections 08", "'max_connections' value not a number."},
		{"max_connections 5x", "'max_connections' value not a number."},
		{"max_connections 5\t# five", "'max_connections' value not a number."},
		{"max_connections 2147483648", "'max_connections' value out of range."},
		{"max_connections 99999999999999999999", "'max_connections' value out of range."},
		{"max_inflight_messages 65536", "'max_inflight_messages' must be <= 65535."},
		{"max_packet_size 19", "'max_packet_size' must be >= 20."},
		{"max_packet_size 4294967296", "'max_packet_size' value out of range."},
		{"message_size_limit 268435456", "Invalid 'message_size_limit' value (268435456)."},
		{"max_keepalive 65536", "Invalid 'max_keepalive' value (65536)."},
		{"max_keepalive -1", "Invalid 'max_keepalive' value (-1)."},
		{"sys_interval 65536", "Invalid 'sys_interval' value (65536)."},
		{"websockets_headers_size 65536", "Packet buffer size must be between 0 and 65535 inclusive."},
		{"packet_buffer_size -1", "Packet buffer size must be between 0 and 65535 inclusive."},
		{"persistent_client_expiration", "Empty 'persistent_client_expiration' value in configuration."},
		{"persistent_client_expiration 1", "Invalid 'persistent_client_expiration' duration in configuration."},
		{"persistent_client_expiration d", "Invalid 'persistent_client_expiration' duration in configuration."},
		{"persistent_client_expiration -1d", "Invalid 'persistent_client_expiration' duration in configuration."},
		{"auto_id_prefix " + strings.Repeat("x", 51), "'auto_id_prefix' length must be <= 50."},
		{"auto_id_prefix x\nauto_id_prefix x", "Duplicate 'auto_id_prefix' value in configuration."},
		{"listener 1\nlistener_auto_id_prefix x\nlistener_auto_id_prefix x", "Duplicate 'listener_auto_id_prefix' value in configuration."},
		{"allow_anonymous true\nper_listener_settings true", "per_listener_settings must be set before any other security settings."},

		{"log_dest", "Empty 'log_dest' value in configuration."},
		{"log_dest printer", "Invalid 'log_dest' value (printer)."},
		{"log_dest file", "Empty \"log_dest file\" value in configuration."},
		{"log_dest file  ", "Empty \"log_dest file\" value in configuration."},
		{"log_dest file a\nlog_dest file b", "Duplicate \"log_dest file\" value."},
		{"log_facility 8", "Invalid 'log_facility' value (8)."},
		{"log_facility -1", "Invalid 'log_facility' value (-1)."},
		{"log_type", "Empty 'log_type' value in configuration."},
		{"log_type info", "Invalid 'log_type' value (info)."},
		{"log_timestamp_format %F\nlog_timestamp_format %T", "Duplicate 'log_timestamp_format' value in configuration."},
		{"pid_file a\npid_file b", "Duplicate 'pid_file' value in configuration."},
		{"pid_file", "Empty 'pid_file' value in configuration."},
		{"pid_file a\xff", "Malformed UTF-8 in configuration."},
		{"pid_file " + strings.Repeat("x", 65536), "Invalid 'pid_file' value: longer than 65535 bytes."},
		{"include_dir", "Empty 'include_dir' value in configuration."},
		{"include_dir /does/not/exist", "Unable to open include_dir '/does/not/exist'."},

		{"address 127.0.0.1", "The 'address' option requires a bridge to be defined first."},
		{"plugin_opt_x y", "The 'plugin_opt_x' option requires plugin/global_plugin/plugin_load to be defined first."},
		{"auth_opt_x y", "The 'auth_opt_x' option requires plugin/global_plugin/plugin_load to be defined first."},

		{"persistent_client_expiration 0d", "Invalid 'persistent_client_expiration' duration in configuration."},
		{"retain_expiry_interval 0", "retain_expiry_interval must be >= 1."},
		{"memory_limit -1", "Invalid 'memory_limit' value (-1)."},
		{"persistence_sync never", "Invalid 'persistence_sync' value (never)."},
		{"log_format xml", "Invalid 'log_format' value (xml)."},
		{"accept_protocol_versions 5", "The 'accept_protocol_versions' option requires a listener to be defined first."},
		{"port 1\naccept_protocol_versions 5", "The 'accept_protocol_versions' option requires a listener to be defined first."},
		{"listener 1\naccept_protocol_versions , ", "Empty 'accept_protocol_versions' value in configuration."},
		{"listener 1\naccept_protocol_versions 6 v5", "Invalid 'accept_protocol_versions' value (6 v5)."},
		{"listener 1\nmount_point test/+/", "Invalid 'mount_point' value (test/+/). Does it contain a wildcard character?"},
		{"listener 1\nenable_proxy_protocol 0", "enable_proxy_protocol must be 1 or 2."},
		{"listener 1\nenable_proxy_protocol 3", "enable_proxy_protocol must be 1 or 2."},
		{"listener 1\nproxy_protocol_from", "Empty 'proxy_protocol_from' value in configuration."},
		{"listener 1\nproxy_protocol_from 192.0.2.1 proxy", "Invalid 'proxy_protocol_from' value (proxy)."},
		{"listener 1\nproxy_protocol_from 192.0.2.1/33", "Invalid 'proxy_protocol_from' value (192.0.2.1/33)."},
		{
			"listener 1\nproxy_protocol_from 192.0.2.1/24",
			"Invalid 'proxy_protocol_from' value (192.0.2.1/24): did you mean 192.0.2.0/24?",
		},
		{
			"listener 1\nproxy_protocol_from ::ffff:192.0.2.1",
			"Invalid 'proxy_protocol_from' value (::ffff:192.0.2.1): did you mean 192.0.2.1/32?",
		},
		{"listener 1\nhttp_dir /does/not/exist", "Unable to open http_dir '/does/not/exist'."},
		{"listener 1\npsk_hint x\ncertfile y", "Cannot use both certificate and psk encryption in a single listener."},
		{"listener 1\npsk_hint x\ncafile y", "Cannot use both certificate and psk encryption in a single listener."},
		{"per_listener_settings true\nlistener 1\ncertfile y\npsk_file z", "Cannot use both certificate and psk encryption in a single listener."},
		{"per_listener_settings true\nallow_anonymous true", "The 'allow_anonymous' option requires a listener to be defined first."},
		{"per_listener_settings true\npassword_file x", "The 'password_file' option requires a listener to be defined first."},

		{"plugin", "Empty 'plugin' value in configuration."},
		{"plugin /x.so\nplugin_opt_ab y", "Invalid 'plugin_opt_' config option."},
		{"plugin /x.so\nplugin_opt_test", "Empty 'test' value in configuration."},
		{"plugin_load", "Empty 'plugin_load' value in configuration."},
		{"plugin_load a", "Missing plugin path for plugin name 'a'."},
		{"plugin_load a /x.so\nplugin_load a /y.so", "Duplicate plugin name 'a'."},
		{"listener 1\nplugin_use a", "Plugin 'a' not previously loaded."},
		{"plugin_use a", "The 'plugin_use' option requires a listener to be defined first."},
		{"auth_plugin_deny_special_chars true", "An auth_plugin_deny_special_chars option exists in the config file without a plugin."},

		{"connection", "Empty 'connection' value in configuration."},
		{"connection b\nconnection b", "Duplicate bridge name 'b'."},
	}
	for _, tt := range tests {
		want := fmt.Sprintf("Error: %s\nError found at t.conf:%d.", tt.want, 3+strings.Count(tt.text, "\n"))
		if got := refusal(t, "# comment\n\n"+tt.text+"\n"); got != want {
			t.Errorf("%.80q:\n got %.200s\nwant %s", tt.text, got, want)
		}
	}
}

// TestEveryDirective says of each directive alone that its value is missing.
func TestEveryDirective(t *testing.T) {
	others := map[string]string{
		"listener": "listener port", "bind_address": "default listener bind_address", "plugin_opt_*": "", "auth_opt_*": "",
		"clientid": "bridge remote clientid", "remote_clientid": "bridge remote clientid",
		"username": "bridge remote_username", "remote_username": "bridge remote_username",
		"password": "bridge remote_password", "remote_password": "bridge remote_password",
		"local_clientid": "bridge local clientd", "local_username": "bridge local_username",
		"local_password": "bridge local_password", "bridge_tcp_keepalive": "bridge_tcp_keepalive_idle",
		"plugin_use": "plugin_use",
	}
	for key, d := range directives() {
		name, ok := others[key]
		if !ok {
			name = key
		}
		want := fmt.Sprintf("Error: Empty '%s' value in configuration.\nError found at t.conf:4.", name)
		text := "connection x\nplugin_load x /x.so\nlistener 1\n" + key
		switch {
		case strings.Contains(key, " "), name == "":
			continue
		case key == "address" || key == "addresses":
			want = "Error: Empty address value in configuration.\nError found at t.conf:4."
		case d.set == nil:
			n := parse(t, key).Notes
			if len(n) != 1 || !strings.HasPrefix(n[0].Text, "Warning: ") || !strings.Contains(n[0].Text, key) {
				t.Errorf("%s: notes %v", key, n)
			}
			continue
		}
		if got := refusal(t, text); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

// samples are lines that are good, for all directives but those in full.conf; where a line needs others,
// they come before.
func samples(t *testing.T) map[string]string {
	t.Helper()
	const plugin = "plugin /mosquitto_dynamic_security.so\n"
	out := map[string]string{
		"tls_engine": "tls_engine x", "tls_engine_kpass_sha1": "tls_engine_kpass_sha1 00", "tls_keyform engine": "tls_keyform engine",
		"psk_hint": "psk_hint x", "psk_file": "psk_file x", "packet_buffer_size": "packet_buffer_size 1",
		"log_dest dlt": "log_dest dlt", "log_dest topic": "log_dest topic", "log_format json": "log_format json",
		"persistence true": "persistence true", "enable_control_api true": "enable_control_api true",
		"dhparamfile": "dhparamfile x", "retry_interval": "retry_interval 1", "websockets_log_level": "websockets_log_level 1",
		"auth_plugin_deny_special_chars":       "plugin /mosquitto_acl_file.so\nplugin_opt_acl_file x\nauth_plugin_deny_special_chars true",
		"protocol http_api":                    "protocol http_api",
		"plugin mosquitto_dynamic_security.so": plugin,
		"plugin mosquitto_sparkplug_aware.so":  "plugin /usr/lib/mosquitto_sparkplug_aware.so",
		"plugin mosquitto_persist_sqlite.so":   "global_plugin mosquitto_persist_sqlite.so",
		"plugin go-auth.so":                    "plugin /lib/go-auth.so\nplugin_opt_backends redis",
		"plugin mosquitto-go-auth.so":          "plugin /lib/mosquitto-go-auth.so\nplugin_opt_backends redis",
		"plugin mosquitto_password_file.so":    "plugin /lib/mosquitto_password_file.so\nplugin_opt_password_file /x",
		"plugin mosquitto_acl_file.so":         "plugin /lib/mosquitto_acl_file.so\nplugin_opt_acl_file /x",
		"log_format":                           "log_format text", "enable_control_api": "enable_control_api false",
		"retained_persistence": "retained_persistence false", "listener": "listener 1",
		"include_dir": "include_dir testdata/empty.d",
	}
	for line := range strings.Lines(readFile(t, "testdata/full.conf")) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		d, ok := directives()[key]
		if _, there := out[key]; !there && ok && d.scope != option && !strings.Contains(key, "plugin") {
			out[key] = strings.TrimSpace(line)
		}
	}
	return out
}

// TestStates has a good line of each directive: it works, or the start is refused in plain words.
func TestStates(t *testing.T) {
	lines := samples(t)
	for key, d := range directives() {
		text, ok := lines[key]
		if d.scope == bridge || strings.Contains(key, "plugin_") || strings.Contains(key, "_plugin") || key == "plugin" || strings.Contains(key, "_opt_") {
			continue // TestFullFile, TestFullBridge
		}
		if key == "connection" {
			text, ok = "connection x\naddress y\ntopic #", true
		}
		if !ok {
			t.Errorf("no line for %s", key)
			continue
		}
		want := ""
		name := strings.TrimPrefix(key, "plugin ")
		switch d.state {
		case later:
			want = "Error: not supported yet: " + name + "\n"
		case refused:
			want = "Error: " + d.note + "\n"
		}
		prefix := "listener 1\n"
		if strings.Contains(text, "certfile") || strings.Contains(text, "keyfile") || strings.Contains(text, "cafile") || strings.Contains(text, "capath") {
			prefix += "certfile x\nkeyfile x\n"
		}
		_, err := Parse([]string{write(t, t.TempDir(), "t.conf", prefix+text)}, nil)
		var e *Error
		switch {
		case want == "" && err != nil && key != "auth_plugin_deny_special_chars":
			t.Errorf("%s: %v", key, err)
		case want != "" && (!errors.As(err, &e) || e.ExitCode() != CodeInvalid || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: %v, want %s", key, err, want)
		}
	}
}

func TestErrorsOfFilesAndListeners(t *testing.T) {
	const both = "Error: Both certfile and keyfile must be provided to enable a TLS listener."
	dir := t.TempDir()
	tests := []struct{ file, want string }{
		{filepath.Join(dir, "missing.conf"), "Error: Unable to open config file 'missing.conf'."},
		{dir, "Error: Config file '" + filepath.Base(dir) + "' is a directory."},
		{write(t, dir, "half.conf", "listener 1\ncertfile x\n"), both + "\nError found at half.conf:2."},
		{write(t, dir, "other.conf", "keyfile x\n"), both + "\nError found at other.conf:1."},
	}
	for _, tt := range tests {
		_, err := Parse([]string{tt.file}, nil)
		if err == nil || strings.ReplaceAll(err.Error(), filepath.Dir(tt.file)+"/", "") != tt.want {
			t.Errorf("%s: %v, want %s", tt.file, err, tt.want)
		}
	}
}

func TestLines(t *testing.T) {
	for name, text := range map[string]string{
		"plain":               "max_connections 5",
		"no line end":         "listener 1\nmax_connections 5",
		"CRLF":                "# x\r\n\r\nlistener 1\r\nmax_connections 5\r\n",
		"several CR":          "max_connections 5\r\r\n",
		"line starts with CR": "max_connections 5\n\rnonsense\n",
		"spaces before":       "   max_connections 5",
		"spaces between":      "max_connections    5   ",
		"tab before value":    "max_connections \t5",
		"only spaces":         "    \nmax_connections 5\n  \n",
		"comment behind":      "max_connections 5 # five",
		"plus":                "max_connections +5",
		"hexadecimal":         "max_connections 0x5",
		"upper case":          "max_connections 0X5",
		"octal":               "max_connections 05",
		"last one counts":     "max_connections 4\nmax_connections 5",
		"long comment":        "#" + strings.Repeat("x", 2<<20) + "\nmax_connections 5",
	} {
		c := parse(t, text)
		for _, l := range c.Listeners {
			if l.Net.MaxConnections != 5 && l.Protocol == "mqtt" {
				t.Errorf("%s: max_connections %d", name, l.Net.MaxConnections)
			}
		}
	}
	for v, want := range map[string]bool{"true": true, "1": true, "false": false, "0": false, "true # on": true, "0 on": false} {
		if c := parse(t, "retain_available "+v); c.Options.RetainAvailable != want {
			t.Errorf("%q is %t", v, !want)
		}
	}
	for v, want := range map[string]string{
		"/a b": "/a b", "/a # b": "/a # b", "  \t/a\t ": "/a", "/a\\b": "/a\\b", "\"/a\"": "\"/a\"", "/\u00e4": "/\u00e4",
	} {
		if c := parse(t, "pid_file "+v); c.PIDFile != want {
			t.Errorf("%q is %q", v, c.PIDFile)
		}
	}
}

// TestClamps has the numbers below the lowest that Mosquitto takes for the lowest.
func TestClamps(t *testing.T) {
	c := parse(t, "max_inflight_messages -1\nmax_inflight_bytes -1\nmax_queued_messages -2\nmax_queued_bytes -3\nmax_connections -4")
	o := c.Options
	if o.MaxInflight != 0 || o.MaxInflightBytes != 0 || o.MaxQueuedMessages != 0 || o.MaxQueuedBytes != 0 {
		t.Errorf("%+v", o)
	}
	if n := c.Listeners[0].Net.MaxConnections; n != -1 {
		t.Errorf("max_connections %d", n)
	}
}

// shape is what a test compares of a listener.
func shape(l Listener) string {
	s := fmt.Sprintf("%d", l.Port)
	if l.Host != "" {
		s += " " + l.Host
	}
	if l.AllowAnonymous {
		s += " anonymous"
	}
	if l.Net.WebSocket {
		s += " websockets"
	}
	if l.MaxQoS != 2 {
		s += fmt.Sprintf(" qos%d", l.MaxQoS)
	}
	if l.Net.MaxConnections != 0 {
		s += fmt.Sprintf(" max%d", l.Net.MaxConnections)
	}
	if l.AutoIDPrefix != "auto-" {
		s += " prefix " + l.AutoIDPrefix
	}
	if !l.AllowZeroLengthClientID {
		s += " no empty id"
	}
	return s
}

func shapes(c *Config) string {
	var out []string
	for _, l := range c.Listeners {
		if l.Protocol != "http_api" { // TestLocalOnlyAPI
			out = append(out, shape(l))
		}
	}
	return strings.Join(out, "; ")
}

func TestListenerScope(t *testing.T) {
	tests := []struct {
		name, text string
		ports      []int
		want       string
	}{
		{"nothing", "", nil, "1883 127.0.0.1 anonymous; 1883 ::1 anonymous"},
		{"-p", "", []int{5, 6}, "5 127.0.0.1 anonymous; 5 ::1 anonymous; 6 127.0.0.1 anonymous; 6 ::1 anonymous"},
		{"anonymous off", "allow_anonymous false", nil, "1883 127.0.0.1; 1883 ::1"},
		{"listener", "listener 1", []int{5}, "1"},
		{"address", "listener 1 127.0.0.1", nil, "1 127.0.0.1"},
		{"address is a comment", "listener 1 # the usual", nil, "1"},
		{"unix", "listener 0 /a.sock # socket", nil, "0 /a.sock"},
		{"anonymous", "listener 1\nallow_anonymous true\nlistener 2", nil, "1 anonymous; 2 anonymous"},
		{
			"options of the last listener", "listener 1\nmax_qos 1\nlistener 2\nprotocol websockets\nmax_connections 3", nil,
			"1 qos1; 2 websockets max3",
		},
		{"option alone", "max_qos 1", nil, "1883 127.0.0.1 anonymous qos1; 1883 ::1 anonymous qos1"},
		{"option alone and -p", "max_qos 1", []int{5}, "5 127.0.0.1 anonymous qos1; 5 ::1 anonymous qos1"},
		{"option before a listener", "max_qos 1\nlistener 1", nil, "1; 1883 qos1"},
		{"port", "port 5", []int{6}, "5"},
		{"bind_address", "bind_address 127.0.0.1", nil, "1883 127.0.0.1"},
		{"port and bind_address", "port 5\nbind_address ::1\nmax_qos 0", nil, "5 ::1 qos0"},
		{"port below a listener", "listener 1\nmax_qos 1\nport 5\nmax_qos 0", nil, "1 qos1; 5 qos0"},
		{"own anonymous", "allow_anonymous true\nlistener 1\nlistener_allow_anonymous false\nlistener 2", nil, "1; 2 anonymous"},
		{"global prefix", "listener 1\nauto_id_prefix x\nlistener 2\nlistener_auto_id_prefix y", nil, "1 prefix x; 2 prefix y"},
		{"global empty id", "listener 1\nlistener 2\nallow_zero_length_clientid false", nil, "1 no empty id; 2 no empty id"},
		{
			"per listener", "per_listener_settings true\nlistener 1\nallow_anonymous true\nauto_id_prefix x\nlistener 2\n" +
				"allow_zero_length_clientid false", nil, "1 anonymous prefix x; 2 no empty id",
		},
		{"address and a comment", "listener 1 127.0.0.1 # here", nil, "1 127.0.0.1"},
		{"option of a listener below port", "port 5\nmax_topic_alias 1", nil, "5"},
		{"per listener, port", "per_listener_settings true\nport 5\nallow_anonymous true", nil, "5 anonymous"},
		{"per listener, local", "per_listener_settings true\nmax_qos 1\nallow_anonymous false", nil, "1883 127.0.0.1 qos1; 1883 ::1 qos1"},
		{
			"per listener stays", "per_listener_settings true\nper_listener_settings false\nlistener 1\n" +
				"allow_anonymous true\nlistener 2", nil, "1 anonymous; 2",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := shapes(parse(t, tt.text, tt.ports...)); got != tt.want {
				t.Errorf("%q with -p %v is\n%s, want\n%s", tt.text, tt.ports, got, tt.want)
			}
		})
	}
}

func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	a := write(t, dir, "a.conf", "listener 1\nmax_qos 1\n")
	b := write(t, dir, "b.conf", "max_qos 0\nlistener 2\n") // not listener 1's
	c, err := Parse([]string{a, b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shapes(c), "1 qos1; 2; 1883 qos0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := Parse([]string{a, write(t, dir, "c.conf", "\nx\n")}, nil); err == nil || !strings.Contains(err.Error(), "c.conf:2.") {
		t.Errorf("%v", err)
	}
}

func TestIncludeDir(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b.conf", "B.conf", "a.conf", "_.conf", "9.conf", "10.conf", ".c.conf", "Z.conf"} {
		write(t, dir, "d/"+n, "log_type debug\n")
	}
	write(t, dir, "d/x.cnf", "nonsense\n")
	write(t, dir, "d/.conf", "nonsense\n")
	write(t, dir, "d/x.conf.dpkg-old", "nonsense\n")
	main := write(t, dir, "main.conf", "include_dir "+dir+"/d\n")
	c, err := Parse([]string{main}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, n := range c.Notes {
		got = append(got, strings.ReplaceAll(n.Text, dir+"/d/", ""))
	}
	for _, n := range []string{".c.conf", "10.conf", "9.conf", "_.conf", "a.conf", "B.conf", "b.conf", "Z.conf"} {
		want = append(want, "Loading config file '"+n+"'")
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestIncludedFiles has a listener before, in and behind an included file: each keeps its own options.
func TestIncludedFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "d/1.conf", "listener 2\nmax_connections 2\nlistener 3\nmax_connections 3\n")
	main := write(t, dir, "main.conf", "listener 1\ninclude_dir "+dir+"/d\nmax_connections 1\nlistener 4\nmax_connections 4\n")
	c, err := Parse([]string{main}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shapes(c), "1 max1; 2 max2; 3 max3; 4 max4"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	write(t, dir, "d/2.conf", "\nmax_topic_alias 1\n") // the listener of main.conf is not this file's
	_, err = Parse([]string{main}, nil)
	want := "Error: The 'max_topic_alias' option requires a listener to be defined first.\n" +
		"Error found at 'd/2.conf:2'.\nError found at main.conf:2."
	if err == nil || strings.ReplaceAll(err.Error(), dir+"/", "") != want {
		t.Errorf("%v\nwant %s", err, want)
	}

	if err := os.Symlink("/does/not/exist", filepath.Join(dir, "d/3.conf")); err == nil {
		write(t, dir, "d/2.conf", "")
		_, err = Parse([]string{main}, nil)
		want = "Error: Unable to open config file 'd/3.conf'.\nError found at main.conf:2."
		if err == nil || strings.ReplaceAll(err.Error(), dir+"/", "") != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	write(t, dir, "d/2.conf", "include_dir "+dir+"\n")
	_, err = Parse([]string{main}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "Error: The include_dir option is only valid in the main configuration file.") {
		t.Error(err)
	}
}

func TestExpiration(t *testing.T) {
	day := 24 * time.Hour
	for v, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "2h": 2 * time.Hour, "14d": 14 * day, "3w": 21 * day, "1m": 30 * day, "1y": 365 * day,
		"1d # a day": day, "010d": 10 * day, "2000000000y": expirationMax - expirationMax%(365*day),
	} {
		if c := parse(t, "persistent_client_expiration "+v); c.Options.PersistentClientExpiration != want {
			t.Errorf("%s is %s", v, c.Options.PersistentClientExpiration)
		}
	}
}

func TestLogOptions(t *testing.T) {
	c := parse(t, "log_dest stdout\nlog_dest syslog\nlog_dest stdout\nlog_dest file /a b\nlog_facility 5\nlog_type error\n"+
		"log_type warning # too\nlog_timestamp false\nlog_timestamp_format %F %T\nconnection_messages false")
	l := c.Log
	if fmt.Sprint(l.Dest) != "[stdout syslog]" || l.File != "/a b" || l.Facility != 5 || l.Timestamp ||
		l.TimestampFormat != "%F %T" || len(l.Types) != 2 || !l.Types["error"] || !l.Types["warning"] || c.Options.ConnectionMessages {
		t.Errorf("%+v", l)
	}
	l = parse(t, "log_facility 3\nlog_dest stdout\nlog_dest file /a\nlog_dest none\nlog_type all\nlog_type none").Log
	if len(l.Dest) != 0 || l.File != "" || !l.None || l.Facility != 3 || l.Types == nil || len(l.Types) != 0 {
		t.Errorf("none: %+v", l)
	}
	l = parse(t, "log_type all").Log
	if len(l.Types) != len(LogTypes()) || !l.Timestamp || l.Facility != -1 {
		t.Errorf("all: %+v", l)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("listener 1883\nallow_anonymous true\nmax_qos 1\n"))
	f.Add([]byte("persistent_client_expiration 1d\nlog_dest file x\n\rlog_type all"))
	f.Add([]byte("connection x\naddress y z:1\ntopic \"a b\" both 2 c/ d/\nrestart_timeout 1 2 3\nbridge_tcp_keepalive 1 2 3\n"))
	f.Add([]byte("plugin_load a /mosquitto_acl_file.so\nplugin_opt_acl_file x\nlistener 1\nplugin_use a\naccept_protocol_versions 3,4"))
	f.Add([]byte("max_packet_size 0x7fffffff\nport 5\nbind_address ::1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := newParser()
		delete(p.table, "include_dir")
		p.stack = []Place{{File: "fuzz"}}
		for line := range strings.SplitSeq(string(raw), "\n") {
			if err := p.line(line); err != nil {
				return
			}
		}
		if err := p.finish(nil); err == nil && len(p.cfg.Listeners) == 0 {
			t.Error("no listener")
		}
	})
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
