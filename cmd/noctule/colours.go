package main

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

// colours reports whether what is written to w may have colours: on a terminal that knows them, unless
// NO_COLOR is set to something (https://no-color.org).
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	kind := os.Getenv("TERM")
	return ok && runtime.GOOS != "windows" && os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb" &&
		term.IsTerminal(int(f.Fd()))
}
