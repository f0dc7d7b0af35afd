// Package admin serves HTTP for operators: /metrics for Prometheus and /healthz.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

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
	ln   net.Listener
	http *http.Server
	done chan struct{}
}

// Start listens on address (host:port) and serves, with the parts given, until Close.
func Start(address string, src Source, parts ...Part) (*Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s := &Server{ln: ln, done: make(chan struct{})}
	s.http = &http.Server{
		Handler: handler(src, parts), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	go func() { // Close waits
		defer close(s.done)
		_ = s.http.Serve(ln)
	}()
	return s, nil
}

func handler(src Source, parts []Part) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(src), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle(
		"GET /metrics",
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMax}),
	)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	for _, add := range parts {
		add(mux, reg)
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
	return err
}
