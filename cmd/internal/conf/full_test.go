package conf

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"noctule/broker"
)

// complete reads a file as if everything were supported.
func complete(t *testing.T, file string) *Config {
	t.Helper()
	p := newParser()
	for k, d := range p.table {
		if d.state == later {
			d.state = works
			p.table[k] = d
		}
	}
	if err := p.files([]string{file}, nil); err != nil {
		t.Fatal(err)
	}
	return p.cfg
}

// TestFullFile reads a file with every directive that has an effect: each value is where it belongs.
func TestFullFile(t *testing.T) {
	raw := readFile(t, "testdata/full.conf")
	for key, d := range directives() {
		if strings.Contains(key, "_opt_") {
			key = strings.TrimSuffix(key, "*")
		} else if !strings.Contains(key, " ") {
			key += " "
		}
		asked := d.state == works || d.state == later
		if d.scope != bridge && key != "connection " && d.set != nil && asked && !strings.Contains(raw, "\n"+key) {
			t.Errorf("%s is not in full.conf", key)
		}
	}
	t.Setenv("MOSQUITTO_PERSISTENCE_LOCATION", "")
	c := complete(t, "testdata/full.conf")
	o := broker.DefaultOptions()
	o.Log = c.Options.Log
	o.MaxInflight, o.MaxInflightBytes, o.MaxQueuedMessages, o.MaxQueuedBytes = 30, 31, 32, 33
	o.MaxPacketSize, o.MessageSizeLimit, o.MaxKeepAlive, o.RetainAvailable = 3400, 35, 36, false
	o.PersistentClientExpiration, o.QueueQoS0, o.UpgradeOutgoingQoS = 37*24*time.Hour, true, true
	o.AllowDuplicates, o.SysInterval, o.ConnectionMessages = false, 38*time.Second, false
	o.MemoryLimit, o.ClientIDPrefixes, o.CheckRetainSource = 6000000000, "dev-", true
	o.GlobalMaxClients, o.MaxConnections, o.MaxSubscriptions, o.OtherUsers = 60, 61, 68, broker.RefuseSession
	want := &Config{
		Options: o, Admin: "127.0.0.1:9090", AdminTokenFile: "/tokens", PresubFile: "/presub.yaml",
		PIDFile: "/run/test.pid", User: "tester", PerListener: true, ControlAPI: true,
		MaxQueuedMemory: 5000000000, RetainExpiry: 62 * time.Minute,
		Log: Log{
			Dest: []string{"topic"}, File: "/run/test.log", Types: map[string]bool{"error": true},
			TimestampFormat: "%F", Facility: 3, JSON: true,
		},
		Persistence: Persistence{
			On: true, File: "test.db", Location: "/var/lib/test/", AutosaveInterval: 63,
			AutosaveOnChanges: true, Sync: "always",
		},
		Listeners: fullListeners(t), Notes: c.Notes,
	}
	c.lines = nil
	for i := range c.Listeners {
		l := &c.Listeners[i]
		l.at, l.lines, l.own, l.security = nil, nil, local{}, local{}
		for _, list := range [][]SecurityFile{l.Passwords, l.ACLs, l.Sources} {
			for j := range list {
				list[j].at = nil
			}
		}
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("full.conf is\n%+v, want\n%+v", c, want)
	}
	if p := c.Persistence.MosquittoPath(); p != "/var/lib/test//test.db" {
		t.Error(p)
	}
}

func fullListeners(t *testing.T) []Listener {
	t.Helper()
	want := []Listener{*newListener(), *newListener(), *newListener(), *newListener(), *newListener()}
	acl := SecurityFile{"/acl 0", true, nil}
	for i := range want {
		want[i].Net.MaxHeader, want[i].ACLs = 3900, []SecurityFile{acl}
	}
	l := &want[0]
	l.Port, l.Host, l.Protocol, l.Net.WebSocket, l.Net.MaxConnections = 1884, "127.0.0.1", "websockets", true, 40
	l.Net.Origins = []string{"https://a.example", "https://b.example"}
	l.MaxQoS, l.MaxTopicAlias, l.MaxTopicAliasBroker, l.AllowAnonymous = 1, 41, 42, true
	l.AutoIDPrefix, l.AllowZeroLengthClientID, l.MountPoint = "dev-", false, "site/"
	l.AcceptVersions, l.ProxyProtocol, l.ProxyRequireTLS = 1<<4|1<<5, 2, true
	l.ProxyFrom = []netip.Prefix{
		netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("198.51.100.0/24"),
	}
	l.UseUsernameAsClientID = true
	l.Passwords = []SecurityFile{{"/passwords 1", true, nil}, {"/passwords 2", false, nil}, {"/passwords 0", true, nil}}
	l.ACLs = []SecurityFile{acl, {"/acl 1", true, nil}, {"/acl 2", false, nil}}
	l.Sources = []SecurityFile{{"/auth 2", false, nil}}
	l = &want[1]
	l.Port, l.Domain, l.Interface, l.CAFile, l.CAPath = 8883, "tcp6", "lo", "/ca.pem", "/ca"
	l.CertFile, l.KeyFile, l.RequireCertificate, l.TLSVersion = "/cert.pem", "/key.pem", true, "tlsv1.3"
	l.CRLFile, l.Ciphers, l.CiphersTLS13, l.DisableCertDateChecks = "/crl.pem", "HIGH", "TLS_AES_128_GCM_SHA256", true
	l.UseIdentityAsUsername, l.UseSubjectAsUsername = true, true
	l.AllowAnonymous, l.AutoIDPrefix = true, "tls-"
	want[2].Port, want[2].Host = 0, "/run/test.sock"
	l = &want[3]
	dir, err := filepath.Abs("testdata/empty.d")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	l.Port, l.Protocol, l.HTTPDir = 8080, "http_api", dir
	l = &want[4]
	l.Port, l.Host, l.MaxQoS = 1885, "127.0.0.1", 0
	return want
}

// TestDefaults has what Mosquitto 2.1 does without being told.
func TestDefaults(t *testing.T) {
	t.Setenv("MOSQUITTO_PERSISTENCE_LOCATION", "")
	c := parse(t, "")
	if c.Persistence != (Persistence{File: "mosquitto.db", AutosaveInterval: 1800, Sync: "group"}) ||
		c.Options.GlobalMaxClients != -1 || c.Options.MaxConnections != -1 || c.User != "mosquitto" || c.Options.CheckRetainSource ||
		c.Options.MemoryLimit != 0 || c.RetainExpiry != 0 || !c.Log.Timestamp || c.Log.JSON {
		t.Errorf("%+v", c)
	}
	o := c.Options
	if o.MaxPacketSize != 2000000 || !o.AllowDuplicates || o.MaxKeepAlive != 0 || o.MaxInflight != 20 ||
		o.MaxQueuedMessages != 1000 || o.SysInterval != 10*time.Second || !o.RetainAvailable {
		t.Errorf("%+v", o)
	}
	if p := c.Persistence.Path(); p != "noctule.db" {
		t.Error(p)
	}
	for _, l := range c.Listeners {
		if l.AcceptVersions != 0 || l.MaxTopicAliasBroker != 10 {
			t.Errorf("%+v", l)
		}
	}
	t.Setenv("MOSQUITTO_PERSISTENCE_LOCATION", "/data")
	if p := complete(t, write(t, t.TempDir(), "x.conf", "persistence_location /x")).Persistence.Path(); p != "/data/noctule.db" {
		t.Error(p)
	}
}

// TestLocalOnlyAPI has the HTTP API that belongs to local only mode.
func TestLocalOnlyAPI(t *testing.T) {
	c := complete(t, write(t, t.TempDir(), "x.conf", "max_qos 1"))
	if got, want := shapes(c), "1883 127.0.0.1 anonymous qos1; 1883 ::1 anonymous qos1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := shape(c.Listeners[2]); !c.Listeners[2].Implied || c.Listeners[2].Protocol != "http_api" || got != "9883 127.0.0.1 anonymous" || len(c.Listeners) != 3 {
		t.Errorf("%+v", c.Listeners)
	}
	if got := shapes(complete(t, write(t, t.TempDir(), "y.conf", "port 5"))); got != "5" {
		t.Error(got)
	}
}

// TestOwnName has our file's name, which must never be Mosquitto's, nor that of another configuration.
func TestOwnName(t *testing.T) {
	for _, tt := range []struct{ location, file, want string }{
		{"", "mosquitto.db", "noctule.db"},
		{"/var/lib/mosquitto/", "mosquitto.db", "/var/lib/mosquitto//noctule.db"},
		{"/d", "site.db", "/d/site.db.noctule"},
		{"/d", "my-mosquitto.db", "/d/my-mosquitto.db.noctule"},
		{"/d", "noctule.db", "/d/noctule.db.noctule"},
		{"/d", "sub/mosquitto.db", "/d/sub/noctule.db"},
	} {
		if got := (Persistence{Location: tt.location, File: tt.file}).Path(); got != tt.want {
			t.Errorf("%s in %s: %s, want %s", tt.file, tt.location, got, tt.want)
		}
	}
}
