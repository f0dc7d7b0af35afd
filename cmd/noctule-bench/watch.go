//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"noctule/bench"
)

// listener is told of each second of a run, and of its end.
type listener interface {
	second(s bench.Second)
	close() error
}

// watch is everyone who follows a run.
type watch []listener

func (w watch) second(s bench.Second) {
	for _, l := range w {
		l.second(s)
	}
}

func (w watch) close() error {
	var errs []error
	for _, l := range w {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// watch makes the listeners that the flags ask for.
func (f *runFlags) watch(o *output, clients int) (w watch, err error) {
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	if !f.Quiet {
		w = append(w, newProgress(o.stderr, clients, isTerminal(o.stderr)))
	}
	if f.CSV != "" {
		t, err := newTable(f.CSV)
		if err != nil {
			return w, err
		}
		w = append(w, t)
	}
	if f.Prometheus != "" {
		l, err := newLive(f.Prometheus, o.stderr)
		if err != nil {
			return w, err
		}
		w = append(w, l)
	}
	return w, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress shows a bar while clients connect, if somebody looks, and a line a second otherwise.
type progress struct {
	w   io.Writer
	bar *progressbar.ProgressBar // nil: no terminal, or the ramp is over
	was int64                    // clients at the last second
}

func newProgress(w io.Writer, clients int, terminal bool) *progress {
	p := &progress{w: w}
	if terminal {
		p.bar = progressbar.NewOptions(clients, progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription("connect"), progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

func (p *progress) second(s bench.Second) {
	if p.bar != nil && s.Phase == "connect" {
		n := s.Connected + s.Failed
		rate := perSecond(n-p.was, s.Length)      // the bar's own is that of the last call
		_ = p.bar.Set64(min(n, p.bar.GetMax64())) // only the terminal can fail
		p.bar.Describe(fmt.Sprintf("connect %6.0f/s", rate))
		p.was = n
		return
	}
	_ = p.close()
	fmt.Fprintln(p.w, s)
}

func (p *progress) close() error {
	if p.bar != nil {
		_ = p.bar.Exit() // leaves the bar as it is: a ramp that stopped half way shows it
		fmt.Fprintln(p.w)
		p.bar = nil
	}
	return nil
}
