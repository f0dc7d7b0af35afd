// Package version says which noctule a program is, or has inside.
package version

import (
	"regexp"
	"runtime/debug"
	"strings"
)

// Release is the version that this source is, or becomes.
const Release = "0.1.0"

// module is the path of this module in what the toolchain writes into programs.
const module = "noctule"

// The linker sets these (-X noctule/internal/version.linked=1.2.3, see the Makefile): a release's version,
// and the commit, which the toolchain does not know of source without a repository.
var (
	linked string
	commit string
)

// Info is what a program knows of its noctule.
type Info struct {
	Version string // such as 0.1.0
	Commit  string // the first 12 digits, with "-dirty" if files were changed; "unknown" where nobody said
	Go      string // such as go1.26.0
}

// String is version and commit: "0.1.0 (8b7287db478c)".
func (i Info) String() string {
	if i.Commit == unknown {
		return i.Version
	}
	return i.Version + " (" + i.Commit + ")"
}

// Read tells what this program is: what the linker was told counts, then what the toolchain knows.
func Read() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok { // nothing of it was built with modules
		build = &debug.BuildInfo{}
	}
	return resolve(linked, commit, build)
}

const (
	unknown     = "unknown"
	commitShown = 12 // digits, as in pseudo-versions
)

// pseudo is the end of a version that the toolchain makes of a commit without a tag.
var pseudo = regexp.MustCompile(`[.-]\d{14}-([0-9a-f]{12})(\+dirty)?$`)

// resolve is Read on values.
func resolve(linked, commit string, build *debug.BuildInfo) Info {
	i := Info{Version: linked, Commit: commit, Go: build.GoVersion}
	tagged, revision := ofModule(build)
	if i.Version == "" {
		i.Version = tagged
	}
	if i.Version == "" {
		i.Version = Release
	}
	if i.Commit == "" {
		i.Commit = revision
	}
	if i.Commit == "" {
		i.Commit = unknown
	}
	return i
}

// ofModule is the tag that the module was built of, and its commit; "" for what is not known. In another
// module's program the repository is that module's, and says nothing of ours.
func ofModule(build *debug.BuildInfo) (tagged, revision string) {
	ours := &build.Main
	if ours.Path == module {
		revision = fromRepository(build.Settings)
	} else {
		ours = &debug.Module{}
		for _, d := range build.Deps {
			if d.Path == module && d.Replace == nil { // a directory in its place has no version
				ours = d
			}
		}
	}
	if m := pseudo.FindStringSubmatch(ours.Version); m != nil {
		if revision == "" {
			revision = m[1]
		}
		return "", revision
	}
	if !strings.HasPrefix(ours.Version, "v") { // (devel)
		return "", revision
	}
	return strings.TrimSuffix(ours.Version[1:], "+dirty"), revision
}

// fromRepository is the commit that the program was built at.
func fromRepository(settings []debug.BuildSetting) string {
	revision, dirty := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), commitShown)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}
