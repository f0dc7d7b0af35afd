//go:build linux

package main

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"noctule/bench"
	"noctule/bench/plot"
)

// card is a headline figure.
type card struct {
	Value string
	Name  string
	Class string // good, bad or ""
}

// titleOf is what a run was, in words.
func titleOf(r *bench.Report) string { return fmt.Sprintf("%s, %d clients", r.Name, r.Clients) }

// cardsOf chooses the figures that a run is about.
func cardsOf(r *bench.Report) []card {
	var list []card
	add := func(value, name, class string) { list = append(list, card{value, name, class}) }
	rating := func(bad int64) string { return map[bool]string{true: "bad", false: "good"}[bad > 0] }

	if r.Measured > 0 {
		sent := plot.Number(r.SentRate)
		add(plot.Number(r.ReceivedRate)+"/s", fmt.Sprintf("received, of %s/s sent", sent), "")
	}
	if r.Measured > 0 || r.TotalSent > 0 {
		name := fmt.Sprintf("lost of %s messages", plot.Number(float64(r.TotalSent)))
		add(strconv.FormatInt(r.Lost, 10), name, rating(r.Lost))
	}
	if h := r.Headline(); h.Count > 0 {
		of := "latency"
		switch {
		case r.Measured == 0 && r.Return != nil:
			of = "to be back"
		case r.Measured == 0 && r.Latency.Count == 0:
			of = "to connect"
		}
		add(duration(h.P50), of+", median", "")
		add(duration(h.P99), of+", 99 of 100", "")
		add(duration(h.Max), of+", longest", "")
	}
	add(fmt.Sprintf("%d", r.Connected), fmt.Sprintf("of %d clients connected", r.Clients), rating(r.Unwell()))
	if back := r.Return; back != nil {
		add(fmt.Sprintf("%d", back.Returned), fmt.Sprintf("of %d came back", back.Cut), rating(back.Failed))
	}
	if r.Broker.CPUPerMessage > 0 {
		add(fmt.Sprintf("%.3g µs", r.Broker.CPUPerMessage), "of the broker's processor a message", "")
	}
	if r.Broker.ResidentPerClient > 0 {
		add(fmt.Sprintf("%.0f B", r.Broker.ResidentPerClient), "of the broker's memory a client", "")
	}
	return list
}

func duration(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}

func seconds(v float64) string { return plot.Number(v) + " s" }

func milliseconds(v float64) string { return plot.Number(v) + " ms" }

// curve is one line of a plot over the seconds of a run.
type curve struct {
	name string
	of   func(s *bench.Second) float64
}

// plotsOf draws what a run went through.
func plotsOf(r *bench.Report) []picture {
	var list []picture
	add := func(title, note string, c *plot.Chart) {
		if svg := c.SVG(); svg != "" {
			list = append(list, picture{title, note, svg})
		}
	}
	ms := func(f func(p *bench.Percentiles) int64) func(*bench.Second) float64 {
		return func(s *bench.Second) float64 {
			if s.Latency.Count == 0 {
				return math.NaN()
			}
			return float64(f(&s.Latency)) / 1e6
		}
	}
	watched, published := false, false
	for _, s := range r.Seconds {
		watched = watched || s.Resident > 0
		published = published || s.Sent > 0 || s.Received > 0
	}
	if published {
		add("Messages", "", overTime(r, "messages per second", nil, []curve{
			{"sent", func(s *bench.Second) float64 { return perSecond(s.Sent, s.Length) }},
			{"received", func(s *bench.Second) float64 { return perSecond(s.Received, s.Length) }},
		}))
		add("Latency over time", "from the time a message was due", overTime(r, "", milliseconds, []curve{
			{"p50", ms(latencyOf["p50"])},
			{"p90", ms(latencyOf["p90"])},
			{"p99", ms(latencyOf["p99"])},
			{"max", ms(latencyOf["max"])},
		}))
	}
	add("Distribution of "+distributed(r), "so many of a hundred took at most so long", quantiles(r))
	add("Clients", "", clients(r))
	if r.Return != nil {
		add("Coming back after the cut", "clients that are connected again", returning(r.Return))
	}
	if watched {
		add("Broker: processors", "", overTime(r, "processors in use", nil, []curve{
			{"processors", func(s *bench.Second) float64 { return s.CPU }},
		}))
		add("Broker: memory", "", overTime(r, "MB resident", nil, []curve{
			{"MB", func(s *bench.Second) float64 { return float64(s.Resident) / 1e6 }},
		}))
	}
	return list
}

// distributed is what Report.Distribution is of.
func distributed(r *bench.Report) string {
	switch {
	case r.Latency.Count > 0 || r.Measured > 0:
		return "latency"
	case r.Return != nil:
		return "the time to be back, from when each was due"
	}
	return "the time to connect"
}

// phases are the parts of a run.
func phases(list []bench.Second) []plot.Span {
	var spans []plot.Span
	for i := range list {
		s := &list[i]
		from := (s.At - s.Length).Seconds()
		if i == 0 {
			from = 0
		}
		if n := len(spans); n > 0 && spans[n-1].Name == s.Phase {
			spans[n-1].To = s.At.Seconds()
			continue
		}
		spans = append(spans, plot.Span{From: from, To: s.At.Seconds(), Name: s.Phase})
	}
	return spans
}

// overTime draws curves, each value in the middle of the second it is of.
func overTime(r *bench.Report, name string, unit func(float64) string, curves []curve) *plot.Chart {
	c := &plot.Chart{
		Spans: phases(r.Seconds),
		X:     plot.Axis{Name: "time since the start", Unit: seconds},
		Y:     plot.Axis{Name: name, Unit: unit},
	}
	for _, curve := range curves {
		l := plot.Line{Name: curve.name}
		for i := range r.Seconds {
			s := &r.Seconds[i]
			l.Points = append(l.Points, plot.Point{X: (s.At - s.Length/2).Seconds(), Y: curve.of(s)})
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}

// clients draws who is connected. The cut of a storm and the return go faster than the seconds tell.
func clients(r *bench.Report) *plot.Chart {
	c := &plot.Chart{
		Spans: phases(r.Seconds),
		X:     plot.Axis{Name: "time since the start", Unit: seconds},
		Y:     plot.Axis{Name: "clients", Max: float64(r.Clients)},
	}
	connected, failed := plot.Line{Name: "connected"}, plot.Line{Name: "failed"}
	if len(r.Seconds) > 0 {
		connected.Points = append(connected.Points, plot.Point{})
	}
	var back time.Duration // until when the return of a storm tells more than the seconds
	storm := r.Return != nil && r.Return.At > 0
	if storm {
		back = r.Return.At + r.Return.Time
	}
	for i := range r.Seconds {
		s := &r.Seconds[i]
		if storm && s.At > r.Return.At {
			last := connected.Points[len(connected.Points)-1].Y
			connected.Points = append(connected.Points, comeback(r.Return, last)...)
			storm = false
		}
		if storm || s.At > back {
			online := plot.Point{X: s.At.Seconds(), Y: float64(s.Connected)}
			connected.Points = append(connected.Points, online)
		}
		failed.Points = append(failed.Points, plot.Point{X: s.At.Seconds(), Y: float64(s.Failed)})
	}
	c.Lines = []plot.Line{connected}
	if r.Unwell() > 0 {
		c.Lines = append(c.Lines, failed)
	}
	return c
}

// comeback is the cut of a storm, from before clients, and the way back up.
func comeback(b *bench.Return, before float64) []plot.Point {
	at := b.At.Seconds()
	points := []plot.Point{{X: at, Y: before}, {X: at, Y: before - float64(b.Cut)}}
	for _, q := range b.Distribution {
		x := at + float64(q.NS)/1e9
		points = append(points, plot.Point{X: x, Y: before - float64(b.Cut) + q.Share*float64(b.Returned)})
	}
	return points
}

// returning draws who was back how long after the cut.
func returning(b *bench.Return) *plot.Chart {
	l := plot.Line{Name: "back", Points: []plot.Point{{}}}
	for _, q := range b.Distribution {
		l.Points = append(l.Points, plot.Point{X: float64(q.NS) / 1e9, Y: q.Share * float64(b.Returned)})
	}
	return &plot.Chart{
		Lines: []plot.Line{l},
		X:     plot.Axis{Name: "time since the cut", Unit: seconds},
		Y:     plot.Axis{Name: "clients that are back", Max: float64(b.Cut)},
	}
}

// quantiles draws a distribution with the rare values drawn out: each 9 more is as wide as the one before.
func quantiles(r *bench.Report) *plot.Chart {
	l := plot.Line{Name: "latency"}
	for _, q := range r.Distribution {
		if q.Share < 1 {
			l.Points = append(l.Points, plot.Point{X: 1 / (1 - q.Share), Y: float64(q.NS) / 1e6})
		}
	}
	return &plot.Chart{
		Lines: []plot.Line{l},
		X: plot.Axis{Name: "percent that took at most so long", Log: true, Unit: func(v float64) string {
			return strconv.FormatFloat(100-100/v, 'f', max(int(math.Round(math.Log10(v)))-2, 0), 64) + " %"
		}},
		Y: plot.Axis{Name: "milliseconds", Unit: milliseconds},
	}
}
