// Package admin serves HTTP for operators: /metrics for Prometheus and /healthz, and Mosquitto's HTTP API.
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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"noctule/broker"
)

// scrapesMax is how many requests for metrics are answered at once.
const scrapesMax = 4

// Source is where the numbers come from: a *broker.Broker.
type Source interface {
	Metrics(ctx context.Context) broker.Metrics
}

// Server is a running HTTP server.
type Server struct {
	ln    net.Listener
	http  *http.Server
	files *os.Root // of an API with http_dir
	done  chan struct{}
}

// Counter is one more counter for /metrics.
type Counter struct {
	Name, Help string // Name without "noctule_"
	Value      func() int64
}

// Part is something more that the server has: a Counter, the door that Presub makes.
type Part interface {
	add(mux *http.ServeMux, reg prometheus.Registerer)
}

// add implements Part.
func (c Counter) add(_ *http.ServeMux, reg prometheus.Registerer) {
	o := prometheus.CounterOpts{Name: "noctule_" + c.Name, Help: c.Help}
	reg.MustRegister(prometheus.NewCounterFunc(o, func() float64 { return float64(c.Value()) }))
}

// Start listens on address (host:port) and serves, with the parts given, until Close.
func Start(address string, src Source, parts ...Part) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return serve(newFair(ln, apiConnections), lethal{handler(src, parts), src}), nil
}

// serve answers requests until Close.
func serve(ln net.Listener, h http.Handler) *Server {
	s := &Server{ln: ln, done: make(chan struct{})}
	s.http = &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { // Close waits
		defer close(s.done)
		_ = s.http.Serve(ln)
	}()
	return s
}

func handler(src Source, parts []Part) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(src), buildInfo(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle(
		"GET /metrics",
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax}),
	)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	for _, p := range parts {
		p.add(mux, reg)
	}
	return mux
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
