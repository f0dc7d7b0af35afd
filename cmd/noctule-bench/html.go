//go:build linux

package main

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/go-analyze/charts"

	"noctule/bench"
)

//go:embed report.html
var page string

// disclosure is what another needs to repeat a run.
type disclosure struct {
	Command string
	Report  *bench.Report
	Table   string // as printed
	Plots   []plot
}

// plot is one SVG picture.
type plot struct {
	Title string
	SVG   template.HTML
}

// writeHTML writes the report as one file that needs no other.
func writeHTML(path string, args []string, r *bench.Report) error {
	var text strings.Builder
	if err := r.Print(&text); err != nil {
		return err
	}
	plots, err := plotsOf(r.Seconds)
	if err != nil {
		return err
	}
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = t.Execute(f, disclosure{
		Command: "noctule-bench " + strings.Join(redact(args), " "),
		Report:  r, Table: text.String(), Plots: plots,
	})
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// userInfo is that of a URL.
var userInfo = regexp.MustCompile(`//[^/@]*@`)

// redact takes the password out of a command line.
func redact(args []string) []string {
	list := make([]string, len(args))
	hide := false
	for i, a := range args {
		switch {
		case hide:
			a = "***"
		case strings.HasPrefix(a, "--password="):
			a = "--password=***"
		case strings.HasPrefix(a, "-P") && len(a) > 2:
			a = "-P***"
		}
		hide = !hide && (args[i] == "-P" || args[i] == "--password")
		list[i] = userInfo.ReplaceAllString(a, "//***@")
	}
	return list
}

// curve is one line of a plot.
type curve struct {
	name  string
	right bool // on the axis at the right
	of    func(s *bench.Second) float64
}

func plotsOf(seconds []bench.Second) ([]plot, error) {
	if len(seconds) == 0 {
		return nil, nil
	}
	ms := func(f func(p *bench.Percentiles) int64) func(*bench.Second) float64 {
		return func(s *bench.Second) float64 {
			if s.Latency.Count == 0 {
				return charts.GetNullValue()
			}
			return float64(f(&s.Latency)) / 1e6
		}
	}
	watched := false
	for _, s := range seconds {
		watched = watched || s.Resident > 0
	}
	var list []plot
	for _, d := range []struct {
		title  string
		needs  bool
		curves []curve
	}{
		{"Messages per second", true, []curve{
			{"sent", false, func(s *bench.Second) float64 { return perSecond(s.Sent, s.Length) }},
			{"received", false, func(s *bench.Second) float64 { return perSecond(s.Received, s.Length) }},
		}},
		{"Latency in ms, from the time due", true, []curve{
			{"p50", false, ms(latencyOf["p50"])},
			{"p90", false, ms(latencyOf["p90"])},
			{"p99", false, ms(latencyOf["p99"])},
			{"max", false, ms(latencyOf["max"])},
		}},
		{"Clients", true, []curve{
			{"connected", false, func(s *bench.Second) float64 { return float64(s.Connected) }},
			{"failed", false, func(s *bench.Second) float64 { return float64(s.Failed) }},
		}},
		{"Broker: processors, and memory in MB (right)", watched, []curve{
			{"processors", false, func(s *bench.Second) float64 { return s.CPU }},
			{"MB resident", true, func(s *bench.Second) float64 { return float64(s.Resident) / 1e6 }},
		}},
	} {
		if !d.needs {
			continue
		}
		svg, err := draw(seconds, d.curves)
		if err != nil {
			return nil, fmt.Errorf("plot of %s: %w", d.title, err)
		}
		list = append(list, plot{d.title, svg})
	}
	return list, nil
}

// draw makes the picture of some curves over time.
func draw(seconds []bench.Second, curves []curve) (template.HTML, error) {
	values, names := make([][]float64, len(curves)), make([]string, len(curves))
	labels := make([]string, len(seconds))
	for i := range seconds {
		labels[i] = seconds[i].At.Round(time.Second / 10).String()
		for j, c := range curves {
			values[j] = append(values[j], c.of(&seconds[i]))
		}
	}
	series := charts.NewSeriesListLine(values)
	axes := []charts.YAxisOption{{Min: new(0.0)}}
	for j, c := range curves {
		names[j] = c.name
		if c.right {
			series[j].YAxisIndex = 1
			axes = []charts.YAxisOption{{Min: new(0.0)}, {Min: new(0.0)}}
		}
	}
	opt := charts.NewLineChartOptionWithSeries(series)
	opt.XAxis.Labels = labels
	opt.XAxis.LabelCount = min(len(labels), 12)
	opt.YAxis = axes
	opt.Legend.SeriesNames = names
	opt.Symbol = charts.Symbol{Shape: charts.SymbolDot}
	opt.LineStrokeWidth = 1.5
	p := charts.NewPainter(charts.PainterOptions{
		OutputFormat: charts.ChartOutputSVG, Width: 900, Height: 280,
	})
	if err := p.LineChart(opt); err != nil {
		return "", err
	}
	svg, err := p.Bytes()
	return template.HTML(svg), err //nolint:gosec // drawn here of numbers
}
