package session

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutation is a fault that is planted in the machine.
type mutation struct{ name, file, from, to string }

func mutations(t *testing.T) (list []mutation) {
	t.Helper()
	raw, err := os.ReadFile("testdata/mutations/list")
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		lines := strings.Split(strings.Trim(block, "\n"), "\n")
		if lines[0] == "" || lines[0][0] == '#' {
			continue
		}
		if len(lines) < 4 {
			t.Fatalf("not a mutation: %q", block)
		}
		m := mutation{name: lines[0], file: lines[1]}
		for _, line := range lines[2:] {
			switch line[0] {
			case '-':
				m.from += line[1:] + "\n"
			case '+':
				m.to += line[1:] + "\n"
			default:
				t.Fatalf("%s: %q", m.name, line)
			}
		}
		list = append(list, m)
	}
	return list
}

// plant returns the source of the file with the fault in it.
func (m *mutation) plant(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), m.from); n != 1 || m.from == "" {
		t.Fatalf("%s: what it replaces is %d times in %s", m.name, n, m.file)
	}
	return strings.Replace(string(raw), m.from, m.to, 1)
}

// The list of mutations fits the source.
func TestMutationsApply(t *testing.T) {
	list := mutations(t)
	if len(list) < 12 {
		t.Errorf("%d mutations", len(list))
	}
	for _, m := range list {
		m.plant(t)
	}
}

// TestMutations plants each fault and lets TestSearch look for it. NOCTULE_MUTATIONS=1 runs it, since it
// builds this package once for each.
func TestMutations(t *testing.T) {
	if os.Getenv("NOCTULE_MUTATIONS") == "" {
		t.Skip("make mutations runs it")
	}
	for _, m := range mutations(t) {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			changed := filepath.Join(dir, m.file)
			if err := os.WriteFile(changed, []byte(m.plant(t)), 0o600); err != nil {
				t.Fatal(err)
			}
			here, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(dir, "overlay.json")
			raw, err := json.Marshal(map[string]any{"Replace": map[string]string{here: changed}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			c := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-count=1", "-failfast", "-timeout=60s",
				"-run=^TestSearch$", ".")
			c.Env = append(os.Environ(), "NOCTULE_SEARCH=")
			out, err := c.CombinedOutput()
			_, found, ok := strings.Cut(string(out), "counterexample: ")
			if err == nil || !ok {
				t.Fatalf("not found: %v\n%s", err, out)
			}
			first, _, _ := strings.Cut(found, "\n")
			t.Log(first)
		})
	}
}
