package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// addonConf is what Home Assistant's add-on makes of its template, without TLS, with a folder of one's own
// settings: PORT and WS are its ports, WEB that of what is asked, DIR is in front of its paths.
const addonConf = `user root
log_dest stdout
log_type error
log_type warning
log_type notice
log_type information
log_timestamp_format %Y-%m-%d %H:%M:%S
persistence true
persistence_location DIR/data/
max_queued_messages 8192
auth_plugin /usr/share/mosquitto/go-auth.so
auth_plugin_deny_special_chars false
auth_opt_backends files,http
auth_opt_hasher pbkdf2
auth_opt_cache true
auth_opt_auth_cache_seconds 300
auth_opt_auth_jitter_seconds 30
auth_opt_acl_cache_seconds 300
auth_opt_acl_jitter_seconds 30
auth_opt_log_level error
auth_opt_files_password_path DIR/etc/mosquitto/pw
auth_opt_files_acl_path DIR/etc/mosquitto/acl
auth_opt_http_host 127.0.0.1
auth_opt_http_port WEB
auth_opt_http_getuser_uri /authentication
auth_opt_http_superuser_uri /superuser
auth_opt_http_aclcheck_uri /acl
listener PORT
protocol mqtt
listener WS
protocol websockets
include_dir DIR/share/mosquitto
`

// Passwords that the plug-in's own documents and tests have hashed: foo and testpw.
const (
	pwFoo = "PBKDF2$sha512$100000$qsU7xQ8YCV/9nRuBBJVTxA==$" +
		"jqw94Ej3aEr97UofY6rClmVCRkTdDiubQW0A6ZYmUI+pZjW9Hax+2w2FeYB3y5ut1SliB7+HAwIl2iONLKkohw=="
	pwTestpw = "PBKDF2$sha512$100000$os24lcPr9cJt2QDVWssblQ==$" +
		"BK1BQ2wbwU1zNxv3Ml3wLuu5//hPop3/LvaPYjjCwdBvnpwusnukJPpcXQzyyjOlZdieXTx6sXAcX4WnZRZZnw=="
)

// addonService is the webservice in front of Home Assistant. By default whoever has logged in is a superuser;
// when lists are enforced only the two internal users are, and those have no account there.
func addonService(t *testing.T, enforced *atomic.Bool) (port string) {
	t.Helper()
	internal := regexp.MustCompile(`(^|[{,])"username":"(homeassistant|addons)"[,}]`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		own := internal.Match(raw)
		ok := false
		switch r.URL.Path {
		case "/authentication":
			ok = strings.Contains(string(raw), `"password":"account"`) && (!enforced.Load() || !own)
		case "/superuser":
			ok = own || !enforced.Load()
		case "/acl":
			ok = !enforced.Load()
		}
		if !ok {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// addonSite is a directory with the add-on's files.
func addonSite(t *testing.T, web string) (s *site, file, addr string) {
	t.Helper()
	s = newSite(t)
	for _, d := range []string{"data", "etc/mosquitto", "share/mosquitto"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "etc/mosquitto/pw", "homeassistant:"+pwFoo+"\naddons:"+pwFoo+"\nsensor:"+pwTestpw+"\n")
	s.write(t, "etc/mosquitto/acl", "user homeassistant\nuser addons\nuser sensor\ntopic readwrite sensors/#\n")
	port := freePort(t)
	text := strings.NewReplacer("DIR", s.dir, "PORT", fmt.Sprint(port), "WS", fmt.Sprint(freePort(t)), "WEB", web).Replace(addonConf)
	s.write(t, "mosquitto.conf", text)
	return s, s.path("mosquitto.conf"), fmt.Sprintf("127.0.0.1:%d", port)
}

// begin starts the broker with it.
func (s *site) begin(t *testing.T, file string) {
	t.Helper()
	s.p = newBroker(t, "")
	s.p.cmd.Args[2] = file
	s.p.start(t)
}

// wantLogin logs a client in, or not.
func wantLogin(t *testing.T, addr, user, password string, want codec.Reason) *brokertest.Client {
	t.Helper()
	c, got := logsIn(t, addr, user, password)
	if got != want {
		t.Errorf("%s with %s: %v, want %v", user, password, got, want)
	}
	return c
}

// may checks what a client may publish and subscribe to.
func may(t *testing.T, c *brokertest.Client, topic string, publish, subscribe bool) {
	t.Helper()
	c.Publish(topic, "x", 1, 1)
	var ack codec.Ack
	if c.Want(codec.PUBACK, &ack); (ack.Reason < 0x80) != publish {
		t.Errorf("publishing to %s: %v", topic, ack.Reason)
	}
	if r := c.Subscribe(topic+"/#", 1); (r < 0x80) != subscribe {
		t.Errorf("subscribing to %s/#: %v", topic, r)
	}
}

// TestAddon starts with what Home Assistant's add-on writes, unchanged but for ports and paths.
func TestAddon(t *testing.T) {
	var enforced atomic.Bool
	s, file, addr := addonSite(t, addonService(t, &enforced))
	if code, text := outcome(t, "check", file); code != 0 || strings.Contains(text, "Warning: auth_opt") {
		t.Errorf("%d %s", code, text)
	}
	s.begin(t, file)
	ha := wantLogin(t, addr, "homeassistant", "foo", codec.Success)
	sensor := wantLogin(t, addr, "sensor", "testpw", codec.Success)
	person := wantLogin(t, addr, "person", "account", codec.Success)
	wantLogin(t, addr, "homeassistant", "testpw", codec.NotAuthorized)
	wantLogin(t, addr, "person", "foo", codec.NotAuthorized)
	wantLogin(t, addr, "", "", codec.NotAuthorized)
	for _, c := range []*brokertest.Client{ha, sensor, person} {
		may(t, c, "homeassistant/light", true, true)
	}

	// Lists are enforced, and there is an acl_file, after a reload.
	enforced.Store(true)
	s.write(t, "share/mosquitto/own.conf", "acl_file "+s.path("acl")+"\n")
	s.write(t, "acl", "user sensor\ntopic readwrite sensors/#\ntopic readwrite homeassistant/#\n"+
		"user person\ntopic readwrite #\nuser homeassistant\ntopic readwrite homeassistant/#\n")
	if code, text := outcome(t, "check", file); code != 0 {
		t.Errorf("%d %s", code, text)
	}
	s.reload(t)
	sensor = wantLogin(t, addr, "sensor", "testpw", codec.Success)
	may(t, sensor, "sensors/1", true, true)
	may(t, sensor, "homeassistant/light", false, false) // the acl_file would
	ha = wantLogin(t, addr, "homeassistant", "foo", codec.Success)
	may(t, ha, "homeassistant/light", true, true)
	may(t, ha, "elsewhere", false, true) // a superuser of the plug-in: the acl_file would not; it grants filters
	person = wantLogin(t, addr, "person", "account", codec.Success)
	may(t, person, "homeassistant/light", false, false)

	// The password file has changed.
	s.write(t, "etc/mosquitto/pw", "homeassistant:"+pwTestpw+"\n")
	s.reload(t)
	wantLogin(t, addr, "homeassistant", "foo", codec.NotAuthorized)
	wantLogin(t, addr, "sensor", "testpw", codec.NotAuthorized)
	wantLogin(t, addr, "homeassistant", "testpw", codec.Success)
	s.write(t, "etc/mosquitto/acl", "nonsense\n")
	if err := s.p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.p.await(t, "Invalid line in acl_file .*\n.*acl:1")
	s.p.await(t, "the configuration was not reloaded")
	wantLogin(t, addr, "homeassistant", "testpw", codec.Success)
}

// reload has the broker read its files again, which goes well.
func (s *site) reload(t *testing.T) {
	t.Helper()
	n := strings.Count(s.p.lines(), "Configuration reloaded.")
	if err := s.p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the reload", func() bool { return strings.Count(s.p.lines(), "Configuration reloaded.") > n })
}

// TestDeliveries brings a client what a filter matches that a webservice has granted, and nothing else.
func TestDeliveries(t *testing.T) {
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body := string(raw)
		if r.URL.Path == "/acl" && !strings.Contains(body, `"topic":"in/#"`) && !strings.Contains(body, `"acc":2`) ||
			r.URL.Path == "/superuser" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(e.Close)
	u, _ := url.Parse(e.URL)
	port := freePort(t)
	admin := freePort(t)
	startBroker(t, fmt.Sprintf("admin_listener 127.0.0.1:%d\n", admin)+fmt.Sprintf("listener %d 127.0.0.1\nplugin /x/mosquitto-go-auth.so\nplugin_opt_backends http\n"+
		"plugin_opt_http_host %s\nplugin_opt_http_port %s\nplugin_opt_http_getuser_uri /user\n"+
		"plugin_opt_http_superuser_uri /superuser\nplugin_opt_http_aclcheck_uri /acl\n", port, u.Hostname(), u.Port()))
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	c := wantLogin(t, addr, "anna", "x", codec.Success)
	if r := c.Subscribe("out/#", 0); r != codec.NotAuthorized {
		t.Errorf("%v", r)
	}
	if r := c.Subscribe("in/#", 0); r >= 0x80 {
		t.Errorf("%v", r)
	}
	will := brokertest.Dial(t, addr, codec.V5)
	will.Connack("w", func(p *codec.Connect) {
		withLogin("carl", "x")(p)
		p.HasWill, p.Will = true, codec.Will{Topic: []byte("in/gone"), Payload: []byte("gone")}
	})
	will.Close()
	var gone codec.Publish
	if c.Want(codec.PUBLISH, &gone); string(gone.Topic) != "in/gone" {
		t.Errorf("%s", gone.Topic)
	}
	from := wantLogin(t, addr, "bert", "x", codec.Success)
	from.Publish("out/1", "no", 0, 0)
	from.Publish("in/1", "yes", 0, 0)
	var p codec.Publish
	if c.Want(codec.PUBLISH, &p); string(p.Topic) != "in/1" {
		t.Errorf("%s", p.Topic)
	}
	counted(t, admin, `noctule_auth_logins_total{outcome="allow",source="go-auth"} 3`,
		`noctule_auth_lookups_total{about="acl",outcome="ok",source="go-auth http"}`)
}

// counted checks that the metrics have these lines.
func counted(t *testing.T, admin int, lines ...string) {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", admin))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	for _, l := range lines {
		if !strings.Contains(string(raw), "\n"+l) {
			t.Errorf("no %s in the metrics", l)
		}
	}
}

// TestGoAuthRefused ends the start at the line that asks for what is not there.
func TestGoAuthRefused(t *testing.T) {
	for options, want := range map[string]string{
		"auth_opt_backends files,mongo": "The backend mongo of mosquitto-go-auth is not built in",
		"auth_opt_backends grpc":        "The backend grpc of mosquitto-go-auth is not built in",
		"auth_opt_backends js":          "The backend js of mosquitto-go-auth is not built in",
		"auth_opt_backends plugin":      "The backend plugin of mosquitto-go-auth is not built in",
	} {
		file := confFile(t, "listener 0 127.0.0.1\nauth_plugin /x/go-auth.so\n"+options+"\nauth_opt_files_password_path /x\n")
		for _, args := range [][]string{{"-c", file}, {"check", file}, {"-c", file, "--test-config"}} {
			code, text := outcome(t, args...)
			if code != 3 || !strings.Contains(text, want) || !strings.Contains(text, filepath.Base(file)+":3") {
				t.Errorf("%q: %d %s", args, code, text)
			}
		}
	}
	file := confFile(t, "listener 1883 127.0.0.1\nauth_plugin /x/go-auth.so\nauth_opt_backends files\n"+
		"auth_opt_files_password_path /nowhere\nauth_opt_fils_acl_path /x\n")
	if code, text := outcome(t, "check", file); code == 0 || !strings.Contains(text, "/nowhere") ||
		!strings.Contains(text, ":5: Warning: auth_opt_fils_acl_path is no option of mosquitto-go-auth. Did you mean auth_opt_files_acl_path?") {
		t.Errorf("%d %s", code, text)
	}
}
