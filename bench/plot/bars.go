package plot

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Bar is a value with the range that it was found in.
type Bar struct {
	Name      string
	Value     float64
	Low, High float64 // the same as Value if there was one measurement
	Words     string  // behind the bar; of a bar without a value, why
	Ours      bool    // drawn in the colour of what a page is about
}

// Bars are bars below one another from a common 0, the ranges drawn over them.
type Bars struct {
	Name string
	Bars []Bar
}

// barLine is the height of a bar with its gap.
const barLine = 26

// SVG draws the bars. A bar whose Value is not positive has words only.
func (c *Bars) SVG() template.HTML {
	greatest := 0.0
	for _, b := range c.Bars {
		greatest = max(greatest, b.Value, b.High)
	}
	var out strings.Builder
	for _, w := range []float64{wideWidth, narrowWidth} {
		wide := w == wideWidth
		f := frame{w: w, h: barLine*float64(len(c.Bars)) + 6, left: 110, right: w - 250}
		if !wide {
			f.left, f.right = 90, w-110
		}
		f.open(wide, c.Name)
		for i, b := range c.Bars {
			f.bar(b, barLine*float64(i), greatest)
		}
		f.WriteString("</svg>")
		out.WriteString(f.String())
	}
	return template.HTML(out.String()) //nolint:gosec // every text in it is escaped
}

func (f *frame) bar(b Bar, y, greatest float64) {
	class := map[bool]string{true: "bar ours", false: "bar"}[b.Ours]
	length := func(v float64) float64 {
		return max(v, 0) / max(greatest, math.SmallestNonzeroFloat64) * (f.right - f.left)
	}
	f.text(f.left-8, y+18, "end", "barname", b.Name)
	end := f.left
	if b.Value > 0 {
		end += max(length(b.Value), 1)
		fmt.Fprintf(f, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="18" rx="2"/>`,
			class, f.left, y+4, end-f.left)
		if b.High > b.Low {
			fmt.Fprintf(f, `<path class="range" d="M%.1f %.1fH%.1f"/>`,
				f.left+length(b.Low), y+13, f.left+length(b.High))
			end = max(end, f.left+length(b.High))
		}
	}
	words := []rune(b.Words)
	if room := int((f.w - end - 8) / 6.6); len(words) > room {
		words = append(words[:max(room-1, 0)], '…')
	}
	f.text(end+6, y+18, "start", "barwords", string(words))
}
