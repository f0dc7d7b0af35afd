//go:build linux

package bench

// slope is the growth of the broker's memory in the measured part, bytes per second, by least squares over
// its seconds: first and last alone would tell where the garbage collector stood. 0: too few.
func slope(seconds []Second) float64 {
	var n, x, y, xx, xy float64
	for _, s := range seconds {
		if s.Phase != "measure" || s.Resident == 0 {
			continue
		}
		t, m := s.At.Seconds(), float64(s.Resident)
		n, x, y, xx, xy = n+1, x+t, y+m, xx+t*t, xy+t*m
	}
	if d := n*xx - x*x; n >= 3 && d > 0 {
		return (n*xy - x*y) / d
	}
	return 0
}
