package conf

import (
	"slices"
	"strings"
	"testing"

	"noctule/broker"
)

// remarks are what Check says of a text, without the notes of reading; $ in the text is a directory.
func remarks(t *testing.T, dir, text string) []string {
	t.Helper()
	f := write(t, dir, "t.conf", strings.ReplaceAll(text, "$", dir))
	var out []string
	_, notes := Check([]string{f}, nil)
	for _, n := range notes {
		if n.Level < broker.LevelWarning {
			continue
		}
		if n.Level == broker.LevelError {
			n.Text = "Error: " + n.Text
		}
		out = append(out, strings.ReplaceAll(n.String(), dir+"/", ""))
	}
	return out
}

func TestCheckGoesOn(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "d/a.conf", "\nmax_qos 7\n")
	got := remarks(t, dir, "nonsense 1\nallow_anonymous yes\ninclude_dir $/d\nlistener 1 127.0.0.1\nallow_anonymous true\n"+
		"keyfile x\nconnection b\nplugin /x.so\nlog_type x\ntls_engine y\n")
	want := []string{
		"t.conf:1: Error: Unknown configuration variable 'nonsense'.",
		"t.conf:2: Error: Invalid 'allow_anonymous' value (yes).",
		"d/a.conf:2: Error: 'max_qos' must be between 0 and 2 inclusive.",
		"t.conf:9: Error: Invalid 'log_type' value (x).",
		"t.conf:8: Error: Unable to load plugin \"/x.so\".",
		"t.conf:6: Error: Both certfile and keyfile must be provided to enable a TLS listener.",
		"t.conf:7: Error: Invalid bridge configuration: no remote addresses defined.",
		"t.conf:7: Error: not supported yet: connection",
		"t.conf:10: Error: " + noEngine,
	}
	if directives()["connection"].state == works {
		want = slices.Delete(want, 7, 8)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if cfg, got := Check([]string{dir + "/missing"}, nil); cfg != nil || len(got) == 0 || got[0].Level != broker.LevelError {
		t.Errorf("missing file: %v %v", cfg, got)
	}
}

func TestCheckWarns(t *testing.T) {
	const (
		open      = "t.conf:1: Warning: listener 1 lets everybody in, without a password."
		shut      = "t.conf:1: Warning: listener 1 lets nobody in: it has no password_file, and allow_anonymous is not true."
		plain     = "t.conf:1: Warning: listener 1 has no TLS: passwords and messages can be read on the way."
		certs     = "certfile $/f\nkeyfile $/f\n"
		anonymous = "allow_anonymous true\n"
	)
	tests := []struct {
		text string
		want []string
	}{
		{"", nil},
		{"max_qos 1", nil},
		{"listener 1\n", []string{shut}},
		{"listener 1\n" + anonymous, []string{open}},
		{"listener 1 127.0.0.1\n" + anonymous, nil},
		{"listener 1 ::1\n" + anonymous, nil},
		{"listener 1 localhost\n" + anonymous, nil},
		{"listener 1\nbind_interface lo\n" + anonymous, nil},
		{"listener 0 /x.sock\n" + anonymous, nil},
		{"listener 1\n" + certs + anonymous, []string{open}},
		{"listener 1\n" + certs + "cafile $/f\nrequire_certificate true\n" + anonymous, nil},
		{"listener 1\n" + certs + "require_certificate true\n" + anonymous, []string{"t.conf:4: Error: require_certificate of listener 1 needs cafile or capath."}},
		{"listener 1\npassword_file $/f", []string{plain}},
		{"listener 1\n" + certs + "password_file $/f", nil},
		{"listener 1 127.0.0.1\npassword_file $/f", nil},
		{"listener 1 127.0.0.1\n" + certs + "tls_version tlsv1.1\n" + anonymous, []string{"t.conf:4: Warning: listener 1 127.0.0.1 accepts TLS 1.1, which is not safe."}},
		{"listener 1 127.0.0.1\nrequire_certificate true\n" + anonymous, []string{"t.conf:2: Warning: require_certificate of listener 1 127.0.0.1 has no effect without certfile and keyfile."}},
		{
			"listener 1 127.0.0.1\n" + certs + "use_identity_as_username true\ncrlfile $/f\ndisable_client_cert_date_checks true\n" + anonymous,
			[]string{
				"t.conf:4: Warning: listener 1 127.0.0.1 takes usernames from certificates but does not ask for one: set require_certificate.",
				"t.conf:5: Warning: crlfile of listener 1 127.0.0.1 has no effect without require_certificate.",
				"t.conf:6: Warning: listener 1 127.0.0.1 accepts client certificates that have expired.",
			},
		},
		{"listener 1\n" + certs + "cafile $/f\nrequire_certificate true\nuse_subject_as_username true", nil},
		{
			"listener 1\nenable_proxy_protocol 1\npassword_file $/f",
			[]string{"t.conf:2: Warning: listener 1 believes any client's PROXY header: name the proxies with proxy_protocol_from."},
		},
		{"listener 1\nenable_proxy_protocol 1\nproxy_protocol_from 192.0.2.0/24 ::1\npassword_file $/f", nil},
		{
			"listener 1 127.0.0.1\nproxy_protocol_from 192.0.2.1\npassword_file $/f",
			[]string{"t.conf:2: Warning: proxy_protocol_from of listener 1 127.0.0.1 has no effect without enable_proxy_protocol."},
		},
		{"user root", []string{"t.conf:1: Warning: user root keeps all rights."}},
		{"admin_listener 127.0.0.1:1", nil},
		{"admin_listener :1", []string{"t.conf:1: Warning: admin_listener answers other machines."}},
		{"log_dest dlt", []string{"t.conf:1: Warning: log_dest dlt is not supported, nothing is sent to DLT."}},
		{"dhparamfile x", []string{"t.conf:1: Warning: dhparamfile is no longer required."}},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		write(t, dir, "f", "")
		got := slices.DeleteFunc(remarks(t, dir, tt.text), func(s string) bool { return strings.Contains(s, "not supported yet") })
		want := slices.Clone(tt.want)
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "$/", "")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", tt.text, got, want)
		}
	}
}

// TestDeprecated has Mosquitto's notice for each directive that will go.
func TestDeprecated(t *testing.T) {
	lines := samples(t)
	count := 0
	for key := range directives() {
		text, ok := deprecations(key)
		if !ok {
			continue
		}
		count++
		line := lines[key]
		switch key {
		case "auth_plugin":
			line = "auth_plugin /mosquitto_acl_file.so\nplugin_opt_acl_file /x"
		case "auth_opt_*":
			key, line = "auth_opt_acl_file", "plugin /mosquitto_acl_file.so\nauth_opt_acl_file /x"
		}
		c := complete(t, write(t, t.TempDir(), "t.conf", line+"\n"))
		want := strings.TrimSpace("The '" + key + "' option is now deprecated and will be removed in version 3.0. " + text)
		found := slices.ContainsFunc(c.Notes, func(n Note) bool {
			return n.Text == want && n.Level == broker.LevelNotice && len(n.Places) == 1
		})
		if !found {
			t.Errorf("%q: notes %v, want %s", line, c.Notes, want)
		}
	}
	if count != 10 {
		t.Errorf("%d directives are deprecated", count)
	}
}
