package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// The HTTP API of a Mosquitto listener with `protocol http_api`: three GETs below /api/v1 and the files of
// http_dir. It only reads. As Mosquitto's it says Access-Control-Allow-Origin: *, so any web page that
// reaches the port may read /api/v1 when no password is asked for; there is no more to protect against pages
// that come by DNS rebinding, and a check of the Host header would only break proxies in front. The files do
// not carry the header.

// Gate decides who may use the API.
type Gate interface {
	// Allows is called for each request, on its own goroutine. It may be slow; ctx is done when the client
	// has gone or gateTimeout has passed. An error says that it could not be decided now.
	Allows(ctx context.Context, l Login) (bool, error)
}

// Login is what a request presents.
type Login struct {
	Username, Password string
	Named              bool // there is a username
	Address            netip.Addr
	// Path is the URL's, without dot segments and repeated slashes, which an ACL sees as a topic to read. It
	// is the name of what is served, so of a directory it is the index.html in it.
	Path string
}

// APIConfig is what an API listener is.
type APIConfig struct {
	// Network and Address are net.Listen's.
	Network, Address string
	// Mode is a unix socket's.
	Mode os.FileMode
	// TLS makes it HTTPS.
	TLS *tls.Config
	// Dir holds the files to serve; "" none.
	Dir string
	// Version is what /api/v1/version answers.
	Version string
	// Listeners returns what /api/v1/listeners answers. Any goroutine calls it.
	Listeners func() []APIListener
	// Gate is asked for every request. Required.
	Gate Gate
}

// APIListener is one of the broker's listeners, as /api/v1/listeners shows it.
type APIListener struct {
	Port           int    `json:"port,omitempty"`
	Path           string `json:"path,omitempty"` // of a unix socket
	Protocol       string `json:"protocol"`       // mqtt, websockets or httpapi
	TLS            bool   `json:"tls"`
	MutualTLS      bool   `json:"mtls"`
	AllowAnonymous bool   `json:"allow_anonymous"`
}

const (
	apiConnections = 256 // at once
	gateTimeout    = 20 * time.Second
)

// StartAPI listens and serves until Close.
func StartAPI(cfg APIConfig, src Source) (*Server, error) {
	if cfg.Gate == nil {
		return nil, errors.New("admin: no gate")
	}
	h := &api{cfg: cfg, src: src}
	if cfg.Dir != "" {
		var err error
		if h.files, err = os.OpenRoot(cfg.Dir); err != nil {
			return nil, fmt.Errorf("http_dir cannot be opened: %w", err)
		}
	}
	if cfg.Network == "unix" { // one that a crash has left gives way, as those of other listeners do
		if st, err := os.Lstat(cfg.Address); err == nil && st.Mode()&os.ModeSocket != 0 {
			_ = os.Remove(cfg.Address) // net.Listen will see
		}
	}
	ln, err := net.Listen(cfg.Network, cfg.Address)
	if err == nil && cfg.Network == "unix" && cfg.Mode != 0 {
		if err = os.Chmod(cfg.Address, cfg.Mode); err != nil {
			_ = ln.Close()
		}
	}
	if err != nil {
		if h.files != nil {
			_ = h.files.Close()
		}
		return nil, fmt.Errorf("admin: %w", err)
	}
	var limited net.Listener = newFair(ln, apiConnections)
	if cfg.TLS != nil {
		limited = tls.NewListener(limited, cfg.TLS)
	}
	s := &Server{ln: limited, files: h.files, done: make(chan struct{})}
	s.Use(src)
	s.serve(lethal{h, s.crashed})
	return s, nil
}

// api is the handler of one listener.
type api struct {
	cfg   APIConfig
	src   Source
	files *os.Root // nil without http_dir
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	name := resource(r.URL.Path)
	switch ok, err := a.allowed(r, name); {
	case err != nil:
		refuse(w, http.StatusServiceUnavailable)
		return
	case !ok:
		unauthorised(w)
		return
	}
	switch {
	case name == "/api/v1/version":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = w.Write([]byte(a.cfg.Version)) // the client may have gone
	case name == "/api/v1/listeners":
		answer(w, struct {
			Listeners []APIListener `json:"listeners"`
		}{a.cfg.Listeners()})
	case name == "/api/v1/systree":
		answer(w, a.tree(r))
	case strings.HasPrefix(name, "/api/"):
		refuse(w, http.StatusNotFound)
	default:
		a.file(w, r, name)
	}
}

// resource is the one name of what a path asks for. The gate must be asked about the name that is served: it
// was asked about /public/../secret.html once, which an ACL for /public/# grants, and /secret.html was sent.
func resource(p string) string {
	name := path.Clean("/" + p)
	if last := p[strings.LastIndexByte(p, '/')+1:]; last == "" || last == "." || last == ".." { // a directory
		name = path.Join(name, "index.html")
	}
	return name
}

// allowed asks the gate.
func (a *api) allowed(r *http.Request, name string) (bool, error) {
	l := Login{Path: name}
	l.Username, l.Password, l.Named = r.BasicAuth()
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		l.Address = ap.Addr().Unmap()
	}
	ctx, cancel := context.WithTimeout(r.Context(), gateTimeout)
	defer cancel()
	return a.cfg.Gate.Allows(ctx, l)
}

// tree is the $SYS tree's whole numbers by topic. Mosquitto leaves the second names of some values out.
func (a *api) tree(r *http.Request) map[string]int64 {
	m := a.src.Metrics(r.Context())
	out := map[string]int64{}
	for _, v := range m.SysValues() {
		switch v.Topic {
		case "$SYS/broker/clients/active", "$SYS/broker/clients/inactive", "$SYS/broker/store/messages/count":
		default:
			out[v.Topic] = v.Value
		}
	}
	return out
}

// file serves the regular file of that name below http_dir; os.Root keeps links inside.
func (a *api) file(w http.ResponseWriter, r *http.Request, name string) {
	f, info, err := a.open(name)
	if err != nil {
		refuse(w, http.StatusNotFound)
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	http.ServeContent(w, r, info.Name(), info.ModTime(), f)
}

// open opens a regular file. What it is, is asked before, as opening a pipe would wait for its other end.
func (a *api) open(name string) (*os.File, fs.FileInfo, error) {
	if a.files == nil {
		return nil, nil, fs.ErrNotExist
	}
	// What is not a name to the gate must not be one to the system: a backslash on Windows is none.
	name, err := filepath.Localize(strings.TrimPrefix(name, "/"))
	if err != nil {
		return nil, nil, err
	}
	info, err := a.files.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, errors.Join(err, fs.ErrNotExist)
	}
	f, err := a.files.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, info, nil
}

// answer writes JSON, indented with tabs.
func answer(w http.ResponseWriter, v any) {
	raw, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		refuse(w, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(raw) // the client may have gone
}

// refuse answers without a body, and ends the connection: there are clients (Python's http.client) that ask
// on without having read the answer, which only works on a new one.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
}

// unauthorised is the one refusal with a text, which programs compare with Mosquitto's.
func unauthorised(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="Mosquitto API"`)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	refuse(w, http.StatusUnauthorized)
	_, _ = w.Write([]byte("Not authorised\n")) // the client may have gone
}

// Limits of one request.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = time.Minute
	headerMax     = 16 << 10 // bytes
)
