package traffic

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// paperCounts is what the paper's tables 5 (idle) and 6 (messages) tell.
func paperCounts(way string, s Scenario) Count {
	switch {
	case way == viaBOSH && s == Idle:
		return Count{143, 18972}
	case way == viaBOSH && s == BarePing:
		return Count{52, 23087}
	case way == viaMQTTWeb && s == Idle:
		return Count{84, 5796}
	case way == viaMQTTWeb && s == BarePing:
		return Count{28, 2052}
	}
	return Count{}
}

// base is the row that ratios are to: the first over BOSH.
func (r *Result) base() Row {
	for _, row := range r.Rows {
		if row.Way == viaBOSH {
			return row
		}
	}
	return Row{}
}

// Markdown writes the paper's two tables with the paper's figures beside ours.
func (r *Result) Markdown(w io.Writer) error {
	var b strings.Builder
	clock := "Time is compressed: messages and pings are 300 ms apart, held requests end after 2 s."
	if r.Real {
		clock = "In real time, with TCP keep-alives on sockets idle for 45 s, as Chromium sends them."
	}
	base := r.base()
	b.WriteString("Packets / bytes of one client, both directions, 66 bytes a packet beside the payload.\n")
	fmt.Fprintf(&b, "%s\n\n", clock)
	for _, s := range r.Rows {
		if s.Version != "" && !strings.Contains(b.String(), s.Stack+" "+s.Version) {
			fmt.Fprintf(&b, "* %s %s\n", s.Stack, s.Version)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Missing)) {
		first, _, _ := strings.Cut(r.Missing[name], "\n")
		fmt.Fprintf(&b, "* %s is left out: %s\n", name, first)
	}
	if base.Stack != "" {
		fmt.Fprintf(&b, "* ratios are %s : row\n", line(base.Stack, base.Way))
	}
	r.table(&b, "Table 5: 10 minutes without a message", []Scenario{Idle, IdlePing}, Idle)
	r.table(&b, "Table 6: a minute with 12 messages", []Scenario{Bare, BarePing, Full, FullPing}, BarePing)
	_, err := io.WriteString(w, b.String())
	return err
}

// table writes one table; compared is the scenario that the paper's figures are for.
func (r *Result) table(b *strings.Builder, title string, columns []Scenario, compared Scenario) {
	fmt.Fprintf(b, "\n%s\n\n| |", title)
	for _, c := range columns {
		fmt.Fprintf(b, " %s | ratio |", c)
	}
	fmt.Fprintf(b, " paper: %s | paper's ratio |\n", compared)
	fmt.Fprintf(b, "|---|%s---|---|\n", strings.Repeat("---|---|", len(columns)))
	base := r.base()
	for _, row := range r.Rows {
		fmt.Fprintf(b, "| %s |", line(row.Stack, row.Way))
		for _, c := range columns {
			count, ok := row.Counts[c]
			reference, has := base.Counts[c]
			if !has {
				reference = base.Counts[compared]
			}
			if !ok {
				b.WriteString(" - | - |")
				continue
			}
			fmt.Fprintf(b, " %v | %s |", count.Count, count.ratio(reference.Count))
		}
		paper := paperCounts(row.Way, compared)
		if paper == (Count{}) {
			b.WriteString(" - | - |\n")
			continue
		}
		fmt.Fprintf(b, " %v | %s |\n", paper, paper.ratio(paperCounts(viaBOSH, compared)))
	}
}
