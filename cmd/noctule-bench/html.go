//go:build linux

package main

import (
	_ "embed" // the page
	"html/template"
	"os"
	"regexp"
	"strings"

	"noctule/bench"
	"noctule/bench/plot"
	"noctule/internal/version"
)

//go:embed report.html
var page string

// disclosure is what a page shows: the outcome, and what another needs to repeat the run.
type disclosure struct {
	Title    string
	Subtitle string
	Command  string
	Version  version.Info // of this program
	Report   *bench.Report
	Table    string // as printed
	Cards    []card
	Plots    []picture
	CSS      template.CSS
}

// picture is one plot with its heading and what it shows.
type picture struct {
	Title string
	Note  string
	SVG   template.HTML
}

// writeHTML writes the report as one file that needs no other.
func writeHTML(path string, args []string, r *bench.Report) error {
	var text strings.Builder
	if err := r.Print(&text); err != nil {
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
		Title: titleOf(r), Subtitle: r.Target + ", " + r.Began.Format("2006-01-02 15:04:05 MST"),
		Command: "noctule-bench " + strings.Join(redact(args), " "),
		Version: version.Read(), Report: r,
		Table: text.String(), Cards: cardsOf(r), Plots: plotsOf(r), CSS: plot.CSS,
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
