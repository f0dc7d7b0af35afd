package conf

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

const goodBridge = "connection b\naddress h\ntopic #\n"

// TestBridgeErrors has what can be wrong with a bridge. The good ones are refused in the end.
func TestBridgeErrors(t *testing.T) {
	const unsupported = "not supported yet: connection"
	tests := []struct{ text, want string }{
		{goodBridge, unsupported},
		{goodBridge + "connection c\naddress h\ntopic #", unsupported},
		{"connection b", "Invalid bridge configuration: no remote addresses defined."},
		{"connection b\naddress h", "Invalid bridge configuration: no topics defined."},
		{"connection b\naddress h\ntopic #\nbridge_psk 11", "Invalid bridge configuration: missing bridge_identity."},
		{"connection b\naddress h\ntopic #\nbridge_identity x", "Invalid bridge configuration: missing bridge_psk."},
		{
			goodBridge + "local_clientid x\nconnection c\naddress h\ntopic #\nlocal_clientid x",
			"Bridge local_clientid 'x' is not unique. Try changing or setting the local_clientid value for one of the bridges.",
		},
		{"connection b\naddress h\naddresses g", "Invalid bridge configuration, 'address' only allowed once."},
		{"connection b\naddress # none", "Empty address value in configuration."},
		{"connection b\naddress h:0", "Invalid bridge port value (0)."},
		{"connection b\naddress h:70000", "Invalid bridge port value (70000)."},
		{"connection b\naddress h:x", "Invalid bridge port value (0)."},
		{"connection b\ntopic # sideways", "Invalid bridge topic direction 'sideways'."},
		{"connection b\ntopic # both 3", "Invalid bridge QoS level '3'."},
		{"connection b\ntopic # both -1", "Invalid bridge QoS level '-1'."},
		{"connection b\ntopic # both 0 a/# b", "Invalid bridge topic local prefix 'a/#'."},
		{"connection b\ntopic # both 0 a/ b/+", "Invalid bridge topic remote prefix 'b/+'."},
		{"connection b\ntopic a#", "Invalid bridge topic local prefix and pattern combination 'a#'."},
		{"connection b\ntopic # in 0 a", "Invalid bridge topic local prefix and pattern combination 'a#'."},
		{"connection b\ntopic # in 0 a/ b", "Invalid bridge topic remote prefix and pattern combination 'b#'."},
		{"connection b\ntopic \"\" both 0 a", "Invalid bridge remapping."},
		{"connection b\ntopic \"\" both 0 \"\" a", "Invalid bridge remapping."},
		{"connection b\ntopic \"no quote", "Missing closing quote in topic value (quote)."},
		{"connection b\nbridge_protocol_version mqttv4", "Invalid 'bridge_protocol_version' value (mqttv4)."},
		{"connection b\nbridge_reload_type now", "Invalid 'bridge_reload_type' value in configuration (now)."},
		{"connection b\nstart_type manual", "Manual start_type not supported."},
		{"connection b\nstart_type x", "Invalid 'start_type' value in configuration (x)."},
		{"connection b\nkeepalive_interval 65536", "Bridge keepalive value too high."},
		{"connection b\nrestart_timeout 10 5", "backoff cap is lower than the base in restart_timeout."},
		{"connection b\nrestart_timeout 10 20 -1", "stable connection period cannot be negative."},
		{"connection b\nbridge_tcp_keepalive 0 1 1", "invalid TCP keepalive idle value."},
		{"connection b\nbridge_tcp_keepalive 1 0 1", "invalid TCP keepalive interval value."},
		{"connection b\nbridge_tcp_keepalive 1 1 0", "invalid TCP keepalive counter value."},
		{"connection b\nbridge_tcp_keepalive 1 1", "Empty 'bridge_tcp_keepalive_counter' value in configuration."},
		{"connection b\nbridge_tcp_user_timeout -1", "invalid TCP user timeout value."},
		{"connection b\nbridge_receive_maximum 0", "bridge_receive_maximum must be greater than 0."},
		{"connection b\nbridge_receive_maximum 65536", "bridge_receive_maximum must be lower than 65535."},
		{"connection b\nbridge_max_topic_alias -1", "bridge_max_topic_alias must be > 0 and <= 65535."},
		{"connection b\nbridge_session_expiry_interval -1", "bridge_session_expiry_interval must not be negative."},
		{"connection b\nbridge_cafile x\nbridge_psk 11", "'bridge_psk': Cannot use both certificate and identity encryption in a single bridge."},
		{"connection b\nbridge_identity x\nbridge_certfile y", "'bridge_certfile': Cannot use both certificate and psk encryption in a single bridge."},
		{"connection b\nlocal_clientid a\nlocal_clientid b", "Duplicate 'bridge local clientd' value in configuration."},
		{"connection b\nclientid a\nremote_clientid b", "Duplicate 'bridge remote clientid' value in configuration."},
		{"connection b\nusername a\nremote_username b", "Duplicate 'bridge remote_username' value in configuration."},
		{"connection b\nbridge_insecure yes", "Invalid 'bridge_insecure' value (yes)."},
		{"connection b\nthreshold x", "'threshold' value not a number."},
		{"bridge_insecure true", "The 'bridge_insecure' option requires a bridge to be defined first."},
	}
	for _, tt := range tests {
		if tt.want == unsupported && directives()["connection"].state == works {
			continue
		}
		if got := refusal(t, tt.text); !strings.HasPrefix(got, "Error: "+tt.want+"\nError found at t.conf:") {
			t.Errorf("%q:\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// TestFullBridge has all options of a bridge.
func TestFullBridge(t *testing.T) {
	text := `connection full # name
addresses a b:8883 ::1:1884 # c
topic a/b
topic "a b/#" IN 1
topic # both 2 l/ r/ # comment
topic "" out 0 l r
topic a/b out 0
topic x both 1 "" r/
topic y in # comment
clientid rc
username ru
password rp
local_clientid lc
local_username lu
local_password lp
cleansession true
local_cleansession false
bridge_protocol_version mqttv50
try_private false
bridge_attempt_unsubscribe false
bridge_outgoing_retain false
bridge_max_packet_size 100
bridge_max_topic_alias 11
bridge_receive_maximum 12
bridge_session_expiry_interval 13
start_type lazy
bridge_reload_type immediate
keepalive_interval 14
idle_timeout 15
threshold 16
round_robin true
restart_timeout 17 18 19
bridge_bind_address 127.0.0.1
bridge_tcp_keepalive 20 21 22
bridge_tcp_user_timeout 23
notifications false
notifications_local_only true
notification_topic n
bridge_cafile /ca
bridge_capath /cas
bridge_certfile /cert
bridge_keyfile /key
bridge_tls_version tlsv1.3
bridge_alpn mqtt
bridge_ciphers HIGH
bridge_ciphers_tls1.3 X
bridge_insecure true
bridge_require_ocsp true
bridge_tls_use_os_certs true
connection key
address h
topic #
remote_clientid rc2
remote_username ru2
remote_password rp2
bridge_identity i
bridge_psk 00
keepalive_interval 1
idle_timeout 0
threshold 0
restart_timeout 9999 9999
`
	for key, d := range directives() {
		if d.scope == bridge && !strings.Contains("\n"+text, "\n"+key+" ") {
			t.Errorf("%s is not in the text", key)
		}
	}
	c := complete(t, write(t, t.TempDir(), "b.conf", text))
	no, user := false, 23*time.Millisecond
	want := &Bridge{
		Name: "full", Addresses: []Address{{"a", 1883}, {"b", 8883}, {"::1", 1884}},
		Topics: []BridgeTopic{
			{"a/b", "out", 0, "", ""},
			{"a b/#", "in", 1, "", ""},
			{"#", "both", 2, "l/", "r/"},
			{"", "out", 0, "l", "r"},
			{"x", "both", 1, "", "r/"},
			{"y", "in", 0, "", ""},
		},
		RemoteClientID: "rc", RemoteUsername: "ru", RemotePassword: "rp", LocalClientID: "lc", LocalUsername: "lu",
		LocalPassword: "lp", CleanSession: true, LocalCleanSession: &no, Version: "mqttv50",
		MaxPacketSize: 100, MaxTopicAlias: 11, ReceiveMaximum: 12, SessionExpiry: 13 * time.Second,
		StartType: "lazy", ReloadType: "immediate", KeepAlive: 14 * time.Second, IdleTimeout: 15 * time.Second,
		Threshold: 16, RoundRobin: true, Restart: Backoff{17 * time.Second, 18 * time.Second, 19 * time.Second},
		BindAddress: "127.0.0.1", TCPKeepAlive: TCPKeepAlive{20 * time.Second, 21 * time.Second, 22}, TCPUserTimeout: &user,
		NotificationsLocal: true, NotificationTopic: "n", CAFile: "/ca", CAPath: "/cas", CertFile: "/cert", KeyFile: "/key",
		TLSVersion: "tlsv1.3", ALPN: "mqtt", Ciphers: "HIGH", CiphersTLS13: "X", Insecure: true, OCSP: true, OSCA: true,
		at: c.Bridges[0].at,
	}
	if !reflect.DeepEqual(c.Bridges[0], want) {
		t.Errorf("is\n%+v, want\n%+v", c.Bridges[0], want)
	}
	b := c.Bridges[1]
	if b.KeepAlive != 5*time.Second || b.IdleTimeout != time.Second || b.Threshold != 1 || b.PSK != "00" ||
		b.Restart != (Backoff{Base: time.Hour, Cap: 2 * time.Hour}) || b.RemoteClientID != "rc2" || b.LocalClientID != "local.rc2" {
		t.Errorf("%+v", b)
	}
	var notes []string
	for _, n := range c.Notes {
		notes = append(notes, n.Text)
	}
	wantNotes := "Duplicate bridge topic 'a/b', skipping|Warning: Bridge 'full' using insecure mode.|" +
		"keepalive interval too low, using 5 seconds.|idle_timeout interval too low, using 1 second.|" +
		"threshold too low, using 1 message.|restart_timeout interval too high, using 3600 seconds.|" +
		"backoff cap too high, using 7200 seconds."
	if got := strings.Join(notes, "|"); got != wantNotes {
		t.Errorf("notes\n%s, want\n%s", got, wantNotes)
	}
}

// TestPlugins has shared objects by their base name: known ones are built in, no other is skipped.
func TestPlugins(t *testing.T) {
	for text, want := range map[string]string{
		"plugin /usr/lib/x.so":                      "13 Unable to load plugin \"/usr/lib/x.so\".",
		"plugin /usr/lib/a b.so":                    "13 Unable to load plugin \"/usr/lib/a b.so\".",
		"auth_plugin go-auth.so\nauth_opt_abc x":    "3 mosquitto-go-auth needs auth_opt_backends.",
		"auth_plugin /go-auth.so.1":                 "13 Unable to load plugin \"/go-auth.so.1\".",
		"global_plugin x.so":                        "13 Unable to load plugin \"x.so\".",
		"plugin_load a /x.so":                       "13 Unable to load plugin \"/x.so\".",
		"plugin /mosquitto_password_file.so.bak":    "13 Unable to load plugin \"/mosquitto_password_file.so.bak\".",
		"plugin a/mosquitto_password_file.so":       "3 mosquitto_password_file.so needs plugin_opt_password_file.",
		"plugin /mosquitto_acl_file.so":             "3 mosquitto_acl_file.so needs plugin_opt_acl_file.",
		"plugin /mosquitto_acl_file.dll":            "3 mosquitto_acl_file.so needs plugin_opt_acl_file.",
		"plugin /mosquitto_acl_file.so\nnonsense":   "3 Unknown configuration variable 'nonsense'.",
		"plugin /mosquitto_sparkplug_aware.so":      "3 not supported yet: mosquitto_sparkplug_aware.so",
		"global_plugin mosquitto_persist_sqlite.so": "3 not supported yet: mosquitto_persist_sqlite.so",
		"plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so\nplugin_opt_config_file /x": "3 not supported yet: mosquitto_dynamic_security.so",
	} {
		_, err := Parse([]string{write(t, t.TempDir(), "t.conf", "# c\n"+text)}, nil)
		code, want, _ := strings.Cut(want, " ")
		var e *Error
		if !errors.As(err, &e) || e.Text != want || (e.ExitCode() == CodeMissing) != (code == "13") || len(e.Places) != 1 {
			t.Errorf("%q: %v, want %s %s", text, err, code, want)
		}
	}
}
