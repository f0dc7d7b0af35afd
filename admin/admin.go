// Package admin serves HTTP for operators: /metrics for Prometheus, /healthz and /readyz, and Mosquitto's
// HTTP API.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"noctule/broker"
)

// scrapesMax is how many requests for metrics are answered at once.
const scrapesMax = 4

// Source is a broker as operators see it: a *broker.Broker.
type Source interface {
	// Metrics are the numbers of now.
	Metrics(ctx context.Context) broker.Metrics
	// Alive tells why it does not live any more, at once.
	Alive() error
	// Ready tells why it does not do all of its work, at once.
	Ready() error
}

// Program is what the program around a broker tells beside the broker's own numbers.
type Program struct {
	LogLinesDropped int64
	StoreFile       bool // persistent state has a file
	StoreFileLost   int64
	Configured      time.Time // when the configuration in force was read; zero: there is none
	ReloadFailed    bool      // and a later one could not be
	Certificates    []Certificate
}

// Certificate is when the certificate of a listener ends that is not the broker's.
type Certificate struct {
	Listener string // its address
	End      time.Time
}

// Server is a running HTTP server.
type Server struct {
	ln    net.Listener
	http  *http.Server
	files *os.Root // of an API with http_dir
	done  chan struct{}

	// Atomic:
	src atomic.Pointer[Source] // nil until the start has finished
}

// Part is something more that the server has: the door that Presub makes.
type Part interface {
	add(mux *http.ServeMux, reg prometheus.Registerer)
}

// Counts is what counts by itself, for /metrics; Metrics has to tell of it.
func Counts(c prometheus.Collector) Part { return counts{c} }

type counts struct{ of prometheus.Collector }

// add implements Part.
func (c counts) add(_ *http.ServeMux, reg prometheus.Registerer) { reg.MustRegister(c.of) }

// Start listens on address (host:port) and serves, with the parts given, until Close. Until Use has been
// called only /healthz and /readyz answer, the latter that it is not ready. program may be nil.
func Start(address string, program func() Program, parts ...Part) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if program == nil {
		program = func() Program { return Program{} }
	}
	s := &Server{ln: newFair(ln, apiConnections), done: make(chan struct{})}
	s.serve(lethal{s.handler(program, parts), s.crashed})
	return s, nil
}

// Use says that the start has finished: the broker is there, and listens where it is to.
func (s *Server) Use(src Source) { s.src.Store(&src) }

// source is the broker; false until there is one.
func (s *Server) source() (Source, bool) {
	if src := s.src.Load(); src != nil {
		return *src, true
	}
	return nil, false
}

// crashed reports a panic, if there is somebody who can tell it.
func (s *Server) crashed(what string, value any, stack []byte) {
	src, _ := s.source()
	if c, ok := src.(crasher); ok {
		c.Crashed(what, value, stack)
	}
}

// serve answers requests until Close.
func (s *Server) serve(h http.Handler) {
	s.http = &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { // Close waits
		defer close(s.done)
		_ = s.http.Serve(s.ln)
	}()
}

func (s *Server) handler(program func() Program, parts []Part) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(s.source, program), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHealth, s.healthz)
	mux.HandleFunc("GET "+pathReady, s.readyz)
	mux.Handle(
		"GET /metrics",
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax}),
	)
	for _, p := range parts {
		p.add(mux, reg)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, started := s.source()
		if started || r.URL.Path == pathHealth || r.URL.Path == pathReady {
			mux.ServeHTTP(w, r)
			return
		}
		http.Error(w, errStarting.Error(), http.StatusServiceUnavailable)
	})
}

// Paths that answer before the start has finished.
const (
	pathHealth = "/healthz"
	pathReady  = "/readyz"
)

var errStarting = errors.New("the broker is starting")

// healthz answers whether the process is to be left alone, or to be restarted.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	var err error
	if src, started := s.source(); started {
		err = src.Alive()
	}
	health(w, err)
}

// readyz answers whether clients should be sent here.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	err := errStarting
	if src, started := s.source(); started {
		err = src.Ready()
	}
	health(w, err)
}

// health answers in one line.
func health(w http.ResponseWriter, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n")) // the client may have gone
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close ends the server and its requests.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	if s.files != nil {
		err = errors.Join(err, s.files.Close())
	}
	return err
}
