package cli

import "testing"

func TestGuess(t *testing.T) {
	words := []string{"--port", "--config-file", "check", "db", "passwd", "presub", "p2p", "pub", "sub", "-c"}
	for typed, want := range map[string]string{
		"":             "",
		"-":            "",
		"x":            "",
		"-x":           "",
		"bd":           " Did you mean db?",
		"pbu":          " Did you mean pub?",
		"pus":          " Did you mean pub?",
		"ub":           " Did you mean db or pub or sub?",
		"p2":           " Did you mean p2p?",
		"-port":        " Did you mean --port?",
		"--cofnig-fil": " Did you mean --config-file?",
		"chekc":        " Did you mean check?",
		"--check":      " Did you mean check?",
		"pass":         " Did you mean passwd?",
		"--conf":       " Did you mean --config-file?",
		"nonsense":     "",
		"-c":           " Did you mean -c?",
	} {
		if got := Guess(typed, words); got != want {
			t.Errorf("%q:%s, want%s", typed, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "ab", 2},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "adc", 1},
		{"abc", "abcd", 1},
		{"abc", "ac", 1},
		{"kitten", "sitting", 3},
		{"ab", "ba", 1},
		{"check", "chekc", 1},
	} {
		if d, e := distance(tt.a, tt.b), distance(tt.b, tt.a); d != tt.want || e != tt.want {
			t.Errorf("%q and %q: %d and %d, want %d", tt.a, tt.b, d, e, tt.want)
		}
	}
}
