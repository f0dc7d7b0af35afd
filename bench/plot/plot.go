// Package plot draws what reports show, as SVG to be put into a page. Parts have classes and no colours: the
// page's style sheet, which begins with CSS, has colours for light and dark. Each picture is drawn twice, for
// wide and for narrow screens, as text in a picture that is scaled down cannot be read.
package plot

import (
	_ "embed" // the style sheet
	"fmt"
	"html/template"
	"math"
	"strings"
)

// CSS is the style sheet of the pictures and of the pages that show them: colours, type, tables, cards.
//
//go:embed plot.css
var CSS template.CSS

// Point is a place on a line. A Y that is no number is a gap.
type Point struct{ X, Y float64 }

// Line is points in the order of X.
type Line struct {
	Name   string
	Points []Point
}

// Span is a part of the X axis that is marked, such as a phase of a run.
type Span struct {
	From, To float64
	Name     string
}

// Axis says how values become places and words.
type Axis struct {
	Name string
	Unit func(v float64) string // words of a tick; nil: the number
	Log  bool                   // X only; values must be positive
	Max  float64                // Y only: reaches at least up to there
}

// Chart is lines over X, which begin at Y 0.
type Chart struct {
	Lines []Line
	Spans []Span
	X, Y  Axis
}

// frame is a picture being drawn.
type frame struct {
	strings.Builder
	w, h                     float64 // of the picture
	left, right, top, bottom float64 // edges of the area
}

// The two sizes of each picture.
const (
	wideWidth, wideHeight     = 900, 260
	narrowWidth, narrowHeight = 360, 230
)

// SVG draws the chart. Nothing but gaps, or no line, gives "".
func (c *Chart) SVG() template.HTML {
	lowX, highX, highY := c.extent()
	if lowX > highX {
		return ""
	}
	var b strings.Builder
	for _, size := range [][2]float64{{wideWidth, wideHeight}, {narrowWidth, narrowHeight}} {
		f := frame{w: size[0], h: size[1], left: 58, right: size[0] - 12, top: 30, bottom: size[1] - 40}
		f.open(size[0] == wideWidth, c.X.Name)
		c.draw(&f, lowX, highX, highY)
		f.WriteString("</svg>")
		b.WriteString(f.String())
	}
	return template.HTML(b.String()) //nolint:gosec // every text in it is escaped
}

func (f *frame) open(wide bool, name string) {
	class := map[bool]string{true: "wide", false: "narrow"}[wide]
	const form = `<svg class="plot %s" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="%s">`
	fmt.Fprintf(f, form, class, f.w, f.h, f.w, f.h, template.HTMLEscapeString(name))
}

// text puts words at a place; anchor is start, middle or end.
func (f *frame) text(x, y float64, anchor, class, words string) {
	fmt.Fprintf(f, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`,
		class, x, y, anchor, template.HTMLEscapeString(words))
}

// extent is what the axes must hold.
func (c *Chart) extent() (lowX, highX, highY float64) {
	lowX, highX, highY = math.Inf(1), math.Inf(-1), c.Y.Max
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if math.IsNaN(p.Y) {
				continue
			}
			lowX, highX, highY = min(lowX, p.X), max(highX, p.X), max(highY, p.Y)
		}
	}
	for _, s := range c.Spans {
		if lowX <= highX { // there is something to see
			lowX, highX = min(lowX, s.From), max(highX, s.To)
		}
	}
	if highY <= 0 {
		highY = 1
	}
	return lowX, highX, highY
}

func (c *Chart) draw(f *frame, lowX, highX, highY float64) {
	ticksY := Ticks(0, highY, 5)
	highY = max(highY, ticksY[len(ticksY)-1])
	scale := func(v float64) float64 { return v }
	if c.X.Log {
		scale = math.Log10
	}
	width := max(scale(highX)-scale(lowX), 1e-12)
	x := func(v float64) float64 { return f.left + (scale(v)-scale(lowX))/width*(f.right-f.left) }
	y := func(v float64) float64 { return f.bottom - v/highY*(f.bottom-f.top) }

	for i, s := range c.Spans {
		from, to := x(max(s.From, lowX)), x(min(s.To, highX))
		fmt.Fprintf(f, `<rect class="span%d" x="%.1f" y="%.1f" width="%.1f" height="%.1f">`,
			i%2, from, f.top, max(to-from, 0), f.bottom-f.top)
		fmt.Fprintf(f, `<title>%s</title></rect>`, template.HTMLEscapeString(s.Name))
		if to-from > 7*float64(len(s.Name)) {
			f.text((from+to)/2, f.top+13, "middle", "spanname", s.Name)
		}
	}
	for _, v := range ticksY {
		fmt.Fprintf(f, `<path class="grid" d="M%.1f %.1fH%.1f"/>`, f.left, y(v), f.right)
		f.text(f.left-6, y(v)+4, "end", "tick", c.Y.words(v))
	}
	f.bottomAxis(&c.X, c.ticksX(f, lowX, highX), x)
	for i, l := range c.Lines {
		f.line(i, l, x, y)
	}
	c.legend(f)
}

// bottomAxis writes the ticks that have room, and the name of the axis.
func (f *frame) bottomAxis(a *Axis, ticks []float64, x func(float64) float64) {
	end := math.Inf(-1)
	for _, v := range ticks {
		words := a.words(v)
		half := 3.6 * float64(len(words))
		at := x(v)
		fmt.Fprintf(f, `<path class="axis" d="M%.1f %.1fv4"/>`, at, f.bottom)
		if at-half < end || at+half > f.w {
			continue
		}
		f.text(at, f.bottom+17, "middle", "tick", words)
		end = at + half + 6
	}
	fmt.Fprintf(f, `<path class="axis" d="M%.1f %.1fH%.1f"/>`, f.left, f.bottom, f.right)
	f.text((f.left+f.right)/2, f.h-6, "middle", "axisname", a.Name)
}

func (c *Chart) ticksX(f *frame, low, high float64) []float64 {
	if !c.X.Log {
		return Ticks(low, high, int((f.right-f.left)/90)+1)
	}
	var list []float64
	for v := math.Pow(10, math.Ceil(math.Log10(low)-1e-9)); v <= high*(1+1e-9); v *= 10 {
		list = append(list, v)
	}
	return list
}

// line draws a line in pieces: gaps part them, and a point alone is a dot.
func (f *frame) line(i int, l Line, x, y func(float64) float64) {
	var piece []string
	flush := func() {
		switch len(piece) {
		case 0:
		case 1:
			at := strings.Split(piece[0], " ")
			fmt.Fprintf(f, `<circle class="dot c%d" cx="%s" cy="%s" r="2.5"/>`, i%len(palette), at[0], at[1])
		default:
			fmt.Fprintf(f, `<path class="line c%d" d="M%s"/>`, i%len(palette), strings.Join(piece, "L"))
		}
		piece = nil
	}
	for _, p := range l.Points {
		if math.IsNaN(p.Y) {
			flush()
			continue
		}
		piece = append(piece, fmt.Sprintf("%.1f %.1f", x(p.X), y(p.Y)))
	}
	flush()
}

// palette names the classes of colours that the style sheet has.
const palette = "012345"

// legend names the lines above the area, in rows as they fit.
func (c *Chart) legend(f *frame) {
	if len(c.Lines) < 2 {
		f.text(f.left, 18, "start", "tick", c.Y.Name)
		return
	}
	at := f.left
	for i, l := range c.Lines {
		fmt.Fprintf(f, `<path class="line c%d" d="M%.1f 14h18"/>`, i%len(palette), at)
		f.text(at+24, 18, "start", "tick", l.Name)
		at += 24 + 7*float64(len(l.Name)) + 18
	}
	if at+7*float64(len(c.Y.Name)) < f.right {
		f.text(f.right, 18, "end", "tick", c.Y.Name)
	}
}

func (a *Axis) words(v float64) string {
	if a.Unit != nil {
		return a.Unit(v)
	}
	return Number(v)
}

// Ticks are at most n+1 round values from low to high or, at the upper end, the first past it.
func Ticks(low, high float64, n int) []float64 {
	step := (high - low) / float64(max(n, 1))
	if step <= 0 || math.IsInf(step, 0) || math.IsNaN(step) {
		return []float64{low}
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5, 10} {
		if step <= m*power*(1+1e-9) {
			step = m * power
			break
		}
	}
	var list []float64
	for i := math.Ceil(low/step - 1e-9); ; i++ {
		v := i*step + 0 // + 0: no negative zero
		list = append(list, v)
		if v >= high*(1-1e-9) || len(list) > 2*n+2 {
			return list
		}
	}
}

// Number is v in few characters: 0.25, 12, 3500, 35k, 1.2M.
func Number(v float64) string {
	for _, u := range []struct {
		from, unit float64
		name       string
	}{{1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}} {
		if math.Abs(v) >= u.from {
			return fmt.Sprintf("%.4g%s", v/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%.4g", v)
}
