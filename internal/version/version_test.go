package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// TestResolve has every way a program comes to its version.
func TestResolve(t *testing.T) {
	repository := []debug.BuildSetting{
		{Key: "vcs", Value: "git"},
		{Key: "vcs.revision", Value: "8b7287db478c4da5ed5e06c383274b318b2cb721"},
		{Key: "vcs.modified", Value: "false"},
	}
	changed := append(repository[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	main := func(version string) debug.Module { return debug.Module{Path: module, Version: version} }
	other := debug.Module{Path: "example.org/program", Version: "v9.9.9"}
	dep := func(version string) []*debug.Module {
		return []*debug.Module{{Path: "example.org/x", Version: "v3.0.0"}, {Path: module, Version: version}}
	}
	replaced := dep("v0.0.0")
	replaced[1].Replace = &debug.Module{Path: "../noctule"}
	tests := []struct {
		name           string
		linked, commit string
		build          debug.BuildInfo
		want           string
	}{
		{"nothing is known", "", "", debug.BuildInfo{}, Release},
		{"the linker was told", "1.2.3", "abc", debug.BuildInfo{Main: main("v4.5.6"), Settings: repository}, "1.2.3 (abc)"},
		{"version alone", "1.2.3", "", debug.BuildInfo{Main: main("(devel)"), Settings: repository}, "1.2.3 (8b7287db478c)"},
		{"commit alone", "", "abc", debug.BuildInfo{Main: main("(devel)"), Settings: repository}, Release + " (abc)"},
		{"go build without a tag", "", "", debug.BuildInfo{
			Main: main("v0.0.0-20261128101809-8b7287db478c+dirty"), Settings: changed,
		}, Release + " (8b7287db478c-dirty)"},
		{"go build after a tag", "", "", debug.BuildInfo{
			Main: main("v1.2.4-0.20261128101809-8b7287db478c"), Settings: repository,
		}, Release + " (8b7287db478c)"},
		{"go build of a tag", "", "", debug.BuildInfo{Main: main("v1.2.3"), Settings: repository}, "1.2.3 (8b7287db478c)"},
		{"a changed tag", "", "", debug.BuildInfo{Main: main("v1.2.3+dirty"), Settings: changed}, "1.2.3 (8b7287db478c-dirty)"},
		{"a candidate", "", "", debug.BuildInfo{Main: main("v1.2.3-rc.1")}, "1.2.3-rc.1"},
		{"without a repository", "", "", debug.BuildInfo{Main: main("(devel)")}, Release},
		{"in another program, of a tag", "", "", debug.BuildInfo{Main: other, Deps: dep("v1.2.3"), Settings: repository}, "1.2.3"},
		{"in another program, of a commit", "", "", debug.BuildInfo{
			Main: other, Deps: dep("v0.0.0-20261128101809-8b7287db478c"), Settings: changed,
		}, Release + " (8b7287db478c)"},
		{"in another program, of a directory", "", "", debug.BuildInfo{Main: other, Deps: replaced, Settings: repository}, Release},
		{"a short revision", "", "", debug.BuildInfo{
			Main: main("(devel)"), Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "12"}},
		}, Release + " (12)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := resolve(tt.linked, tt.commit, &tt.build); got.String() != tt.want || got.Commit == "" {
				t.Errorf("%q (%+v), want %q", got, got, tt.want)
			}
		})
	}
	if got := Read(); got.Go == "" {
		t.Errorf("%+v", got)
	}
}

// source is this package in a module of its own, with a program that tells its version.
func source(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	code, err := os.ReadFile("version.go")
	if err != nil {
		t.Fatal(err)
	}
	const program = "package main\n\nimport \"noctule/internal/version\"\n\nfunc main() { println(version.Read().String()) }\n"
	write(t, dir, "go.mod", "module noctule\n\ngo 1.26.0\n")
	write(t, dir, "main.go", program)
	write(t, dir, "internal/version/version.go", string(code))
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	to := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// printed builds the program of dir and returns what it says.
func printed(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "print")
	command(t, dir, "go", append(append([]string{"build"}, flags...), "-o", program, ".")...)
	return command(t, dir, program)
}

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestLinked has the flags of the Makefile: the names of the variables are in no other Go file.
func TestLinked(t *testing.T) {
	const x = "-X noctule/internal/version."
	if got := printed(t, source(t), "-ldflags", x+"linked=1.2.3 "+x+"commit=abc"); got != "1.2.3 (abc)" {
		t.Errorf("%q", got)
	}
	if raw, err := os.ReadFile("../../Makefile"); err != nil ||
		!strings.Contains(string(raw), x+"linked=") || !strings.Contains(string(raw), x+"commit=") {
		t.Errorf("the Makefile names other variables: %v", err)
	}
}

// TestRepository has a program that is built without flags, in a repository of its own.
func TestRepository(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip(err)
	}
	dir := source(t)
	git := func(args ...string) string {
		t.Helper()
		const name = "user.name=x"
		return command(t, dir, "git", append([]string{
			"-c", name, "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false",
		}, args...)...)
	}
	says := func(form string) {
		t.Helper()
		want := strings.ReplaceAll(form, "HEAD", git("rev-parse", "HEAD")[:commitShown])
		if got := printed(t, dir, "-buildvcs=true"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	says(Release + " (HEAD)")
	write(t, dir, "internal/version/extra.go", "package version\n")
	says(Release + " (HEAD-dirty)")
	git("add", ".")
	git("commit", "-q", "-m", "second")
	git("tag", "v1.8.9")
	says("1.8.9 (HEAD)")
}
