package plot

import (
	"encoding/xml"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		n         int
		want      []float64
	}{
		{0, 10, 5, []float64{0, 2, 4, 6, 8, 10}},
		{0, 0.9, 4, []float64{0, 0.5, 1}},
		{0.5, 4.2, 4, []float64{1, 2, 3, 4, 5}},
		{3, 3, 5, []float64{3}},
		{0, math.Inf(1), 5, []float64{0}},
	} {
		if got := Ticks(c.low, c.high, c.n); !slices.Equal(got, c.want) {
			t.Errorf("Ticks(%v, %v, %d) = %v, want %v", c.low, c.high, c.n, got, c.want)
		}
	}
	if v := Ticks(0, 1, 2)[0]; math.Signbit(v) {
		t.Error("the tick at zero is negative")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.25: "0.25", 12: "12", 3500: "3500", 35000: "35k", 1.25e6: "1.25M", 2e9: "2G", -20000: "-20k",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %s, want %s", v, got, want)
		}
	}
}

// wellFormed reads the pictures as XML, and asks for one of each width without a colour of its own.
func wellFormed(t *testing.T, svg template.HTML) {
	t.Helper()
	text := string(svg)
	d := xml.NewDecoder(strings.NewReader("<x>" + text + "</x>"))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	for _, once := range []string{`class="plot wide"`, `class="plot narrow"`} {
		if strings.Count(text, once) != 1 {
			t.Errorf("%s is not there once", once)
		}
	}
	for _, bad := range []string{"NaN", "Inf", "<script", "#", "rgb"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s in\n%s", bad, text)
		}
	}
}

func TestChart(t *testing.T) {
	gap := math.NaN()
	c := Chart{
		Lines: []Line{
			{Name: "a<b", Points: []Point{{0, 1}, {1, 2}, {2, gap}, {3, 4}, {4, gap}, {5, 1}, {6, 2}}},
			{Name: "none", Points: []Point{{1, gap}}},
		},
		Spans: []Span{{0, 3, "warm & up"}, {3, 6, "measure"}},
		X:     Axis{Name: "s"}, Y: Axis{Name: "n"},
	}
	svg := c.SVG()
	wellFormed(t, svg)
	if n := strings.Count(string(svg), "<circle"); n != 2 {
		t.Errorf("the point alone is drawn %d times", n)
	}
	if n := strings.Count(string(svg), `class="line c0" d="M`); n != 6 { // two pieces and the legend, twice
		t.Errorf("%d pieces", n)
	}
}

// Pictures of nothing, of one point and of zeros.
func TestChartEdges(t *testing.T) {
	for name, c := range map[string]Chart{
		"nothing":  {},
		"gaps":     {Lines: []Line{{Points: []Point{{1, math.NaN()}}}}, Spans: []Span{{0, 1, "x"}}},
		"no lines": {Lines: []Line{{Name: "x"}}},
	} {
		if svg := c.SVG(); svg != "" {
			t.Errorf("%s: %s", name, svg)
		}
	}
	one := Chart{Lines: []Line{{Points: []Point{{5, 0}}}}}
	wellFormed(t, one.SVG())
	log := Chart{Lines: []Line{{Points: []Point{{1, 3}, {1000, 4}}}}, X: Axis{Log: true}}
	wellFormed(t, log.SVG())
}

func TestBars(t *testing.T) {
	c := Bars{Bars: []Bar{
		{Name: "<ours>", Value: 2, Low: 1, High: 3, Words: "2 us", Ours: true},
		{Name: "failed", Words: strings.Repeat("ä<", 200)},
		{Name: "zero"},
	}}
	svg := c.SVG()
	wellFormed(t, svg)
	if !strings.Contains(string(svg), "…") || strings.Count(string(svg), "bar ours") != 2 {
		t.Errorf("%s", svg)
	}
	wellFormed(t, (&Bars{}).SVG())
}
