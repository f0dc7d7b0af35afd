package cli

import "strings"

// Guess names those of words that are nearest to one that was mistyped, or begin with it: "Did you mean ...?"
// with a blank before it; "" if none is near. Dashes in front do not count.
func Guess(typed string, words []string) string {
	typed = strings.TrimLeft(typed, "-")
	best := min(2, (len(typed)+1)/3)
	var near []string
	for _, w := range words {
		name := strings.TrimLeft(w, "-")
		d := distance(typed, name)
		if len(typed) > 1 && strings.HasPrefix(name, typed) {
			d = min(d, 1)
		}
		if d < best {
			near = nil
		}
		if d <= best {
			best = d
			near = append(near, w)
		}
	}
	if near == nil {
		return ""
	}
	return " Did you mean " + strings.Join(near, " or ") + "?"
}

// distance is how many letters must be put in, left out, changed or swapped with their neighbour to make b of
// a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j]: of the first i letters of a and the first j of b
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
				continue
			}
			rows[i][j] = 1 + min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1])
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], 1+rows[i-2][j-2])
			}
		}
	}
	return rows[len(a)][len(b)]
}
