// Package goauth reads the options of mosquitto-go-auth, a plug-in of Mosquitto that many installations log
// in with and that is archived. What it did is built in: the options become a Config.
//
// One table (table.go and those beside it) says of each option what it is, what holds without it and what
// becomes of it here. docs/go-auth.md is written from it.
package goauth

import "time"

// Base reports whether a shared object of this base name is the plug-in.
func Base(name string) bool { return name == "go-auth.so" || name == "mosquitto-go-auth.so" }

// Option is one line of the configuration, without plugin_opt_ or auth_opt_.
type Option struct{ Name, Value string }

// Problem is what is to be said about options.
type Problem struct {
	Option int // its place among the options; -1: all of them together
	Text   string
	Fatal  bool // the broker must not start
}

// Config is what the options say.
type Config struct {
	Backends []Backend // in the order of the option; the plug-in had none
	// CheckPrefix sends a username "prefix_name" to the backend with that prefix alone.
	CheckPrefix bool
	StripPrefix bool // and asks about "name"; always so for tokens
	// ClientIDAsUsername asks about client ids in place of usernames.
	ClientIDAsUsername bool
	Retries            int // of a check that could not be made
	Cache              Cache
	// DenySpecial gives a client nothing whose username or client id has one of +, # and /. It comes from
	// auth_plugin_deny_special_chars.
	DenySpecial bool
}

// Cache says how long answers are kept; with 0 they are not.
type Cache struct {
	Auth, ACL             time.Duration
	AuthJitter, ACLJitter time.Duration // more or less, at random
}

// Backend is one of those that are asked. Exactly one of its kinds is set.
type Backend struct {
	Name   string // as the option backends has it
	Prefix string // of usernames; "": none
	// What it is asked about.
	Users, Superusers, ACLs bool
	// TextSalt says that salts of its PBKDF2 hashes are text, not base64.
	TextSalt bool

	Files *Files
	HTTP  *HTTP
	SQL   *SQL
	Redis *Redis
	JWT   *JWT
}

// Files are a password file and an access list, each of which may be missing.
type Files struct{ Passwords, ACL string }

// HTTP is a webservice that says yes or no.
type HTTP struct {
	Host, Port string // Port may be empty
	// User, Superuser and ACL are paths; no Superuser: nobody is one.
	User, Superuser, ACL string
	TLS, Verify          bool
	JSONAnswer           bool // {"ok":true}; otherwise the status is the answer, if TextAnswer does not hold
	TextAnswer           bool // "ok"
	Form                 bool // parameters as a form, not as JSON
	Method, Agent        string
	Timeout              time.Duration
}

// SQL is a database with queries: of a user's hash, of a count that makes a superuser, of topics.
type SQL struct {
	Driver string // postgres, mysql or sqlite3
	// Host, or the socket of mysql if Unix holds; or the file of sqlite.
	Host, Port, User, Password, Name string
	Socket                           string
	Unix                             bool
	UserQuery, SuperQuery, ACLQuery  string
	TLS                              string // as the driver's option has it
	Cert, Key, CA                    string
	NativePasswords                  bool // of mysql
	ConnectTries                     int  // below 0: for ever
	MaxLife                          time.Duration
}

// Redis is a server with a hash under each username and sets of topics beside it.
type Redis struct {
	Host, Port string
	Password   string
	DB         int
	Superusers bool
	Cluster    []string // addresses; then Host and Port do not count
}

// Modes of JWT.
const (
	Local  = "local"  // the secret checks the token, a database knows the user
	Remote = "remote" // a webservice is shown the token
	ACLs   = "files"  // the secret checks the token, a file has the rights
)

// JWT is about clients whose username is a token.
type JWT struct {
	Mode        string
	Secret      string
	NameClaim   string // the claim that has the username
	Parse       bool   // the token is checked before a webservice is shown it
	ExpiredUser bool   // a token that has expired logs in
	ExpiredACL  bool   // and has rights
	HTTP        HTTP   // Remote. Host may be empty: the token's issuer is it, if Hosts has it
	Hosts       []string
	SQL         *SQL   // Local. UserQuery counts
	ACL         string // the file, of ACLs
}
