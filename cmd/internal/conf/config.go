package conf

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"noctule/broker"
)

// Config is what a configuration says.
type Config struct {
	Options   broker.Options
	Listeners []Listener
	Bridges   []*Bridge
	Log       Log

	Admin          string // address of the HTTP server for metrics; "" none
	AdminTokenFile string // tokens that may use the HTTP API
	PresubFile     string // subscriptions made by the server
	PIDFile        string
	User           string // to become when started as root

	PerListener     bool          // per_listener_settings
	ControlAPI      bool          // $CONTROL/broker/v1
	MaxQueuedMemory int64         // bytes of queued payloads kept in memory, 0 for no limit
	RetainExpiry    time.Duration // time between sweeps of expired retained messages, 0 for none
	Persistence     Persistence
	LocalOnly       bool // no line asks for a listener: there are those of the loopback addresses only

	Notes []Note // about what was read

	lines lines // of what is everybody's
}

// Listener is one listener line, before its files and interfaces are looked up.
type Listener struct {
	broker.ListenerOptions
	Port      int
	Host      string // address, or path of a unix socket when Port is 0
	Domain    string // "", "tcp4" or "tcp6"
	Interface string
	Protocol  string // mqtt, websockets or http_api
	Implied   bool   // no line asks for it: the HTTP API of local only mode
	HTTPDir   string // files of an http_api listener, absolute; "" none

	CertFile, KeyFile, CAFile string
	CAPath, CRLFile           string
	Ciphers, CiphersTLS13     string // OpenSSL's names
	TLSVersion                string // tlsv1.3, tlsv1.2, tlsv1.1 or ""
	PSKHint                   string
	RequireCertificate        bool
	DisableCertDateChecks     bool

	ProxyProtocol   int // version of the PROXY header that each connection starts with; 0 none
	ProxyRequireTLS bool
	ProxyFrom       []netip.Prefix // who may send that header; empty: anybody

	// Passwords and ACLs are what decides about clients of this listener, in the order of their asking:
	// everybody's before the listener's own, of each first the plugins. Sources are the files of others that
	// are asked about logins, behind Passwords.
	Passwords, ACLs, Sources []SecurityFile
	GoAuth                   []*GoAuth // are asked before them
	PSKFile                  SecurityFile

	at       []Place // of the listener line
	lines    lines   // of the directives below it
	own      local   // listener_allow_anonymous, listener_auto_id_prefix, plugin_use
	security local   // security options below the listener line, with per_listener_settings
}

// SecurityFile is a password file, an ACL file, an auth_file or a file of pre-shared keys.
type SecurityFile struct {
	Path   string
	Plugin bool // named by the option of a plugin
	at     []Place
}

// At is the line that names it.
func (f SecurityFile) At() []Place { return f.at }

// lines are where directives stand, by their keys; of several the last.
type lines map[string][]Place

// set notes a directive's place.
func (l *lines) set(key string, at []Place) {
	if *l == nil {
		*l = lines{}
	}
	(*l)[key] = at
}

// first is the place of the first of keys that is there; nil if none is.
func (l lines) first(keys ...string) []Place {
	for _, k := range keys {
		if at := l[k]; at != nil {
			return at
		}
	}
	return nil
}

// At is the line of the first of some directives that is there; nil if none is. A value that has a line of
// its own is a key too: "log_dest file".
func (c *Config) At(keys ...string) []Place { return c.lines.first(keys...) }

// At is the line of the first of some directives of a listener that is there, or that of the listener itself.
// nil: no line asks for it.
func (l *Listener) At(keys ...string) []Place {
	if at := l.lines.first(keys...); at != nil {
		return at
	}
	if l.at != nil {
		return l.at
	}
	return l.lines.first("port", "bind_address")
}

// local are the settings that may be one listener's or everybody's; nil and no path are unset.
type local struct {
	anonymous            *bool
	zeroLength           *bool
	prefix               *string
	passwords, acls, psk SecurityFile
	sources              SecurityFile
	plugins              []*plugin
}

// Log is where log lines go and which.
type Log struct {
	Dest            []string // stderr, stdout, syslog, topic
	File            string
	None            bool
	Types           map[string]bool // nil: the default
	Timestamp       bool
	TimestampFormat string // strftime; "" means epoch seconds
	Facility        int    // of syslog: 0 to 7 for local0 to local7, -1 for daemon
	JSON            bool   // log_format json
}

// Persistence says what is kept on disk and where.
type Persistence struct {
	On       bool
	File     string // name of Mosquitto's; see Path
	Location string // its directory; "" is the working directory
	// AutosaveInterval is in seconds, or with AutosaveOnChanges in changes; 0 means only at the end.
	AutosaveInterval  int
	AutosaveOnChanges bool
	Sync              string // always, group or interval
}

// Names of files.
const (
	mosquittoFile = "mosquitto.db" // persistence_file when nothing is said
	ownFile       = "noctule.db"   // ours beside it
)

// MosquittoPath is the path of Mosquitto's own file, made as Mosquitto makes it.
func (p Persistence) MosquittoPath() string {
	if p.Location == "" {
		return p.File
	}
	return p.Location + "/" + p.File
}

// Path is the path of our file, which lies beside Mosquitto's under a name that Mosquitto does not write to:
// noctule.db for mosquitto.db, NAME.noctule for any other NAME.
func (p Persistence) Path() string {
	path := p.MosquittoPath()
	if dir, name := filepath.Split(path); name == mosquittoFile {
		return dir + ownFile
	}
	return path + ".noctule"
}

// Note is a remark about what was read, with its place.
type Note struct {
	Text   string
	Level  slog.Level // one of the broker's
	Places []Place    // as in Error
}

// String is the text and, where there is one, the place.
func (n Note) String() string {
	if len(n.Places) == 0 {
		return n.Text
	}
	return fmt.Sprintf("%s:%d: %s", n.Places[0].File, n.Places[0].Line, n.Text)
}

// Exit codes of a configuration that cannot be used.
const (
	CodeInvalid = 3  // bad content
	CodeMissing = 13 // a password or ACL file, or a plugin, cannot be loaded
)

// Error is a line that cannot be used.
type Error struct {
	Text   string
	Code   int     // exit code; 0 means CodeInvalid
	Places []Place // innermost first; none when it is no line's fault
}

// ExitCode is what the program ends with.
func (e *Error) ExitCode() int { return cmp.Or(e.Code, CodeInvalid) }

// Place is a line of a file; Include says that the file is part of another.
type Place struct {
	File    string
	Line    int
	Include bool
}

// Error implements error: one line for the text and one for each place, in Mosquitto's words.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("Error: " + e.Text)
	for _, p := range e.Places {
		format := "\nError found at %s:%d."
		if p.Include {
			format = "\nError found at '%s:%d'."
		}
		fmt.Fprintf(&b, format, p.File, p.Line)
	}
	return b.String()
}
