// Package noctule_test holds the repository's own rules: who may import whom, and how long things may be.
package noctule_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// room is what the code of one folder may import beside the standard library: each package by its whole path,
// and nothing that it does not import. A pure room computes only: it sees no clock, no file, no network and
// no goroutine, so std is all it may import of the standard library.
type room struct {
	ours   string // of this module
	others string // of other modules
	pure   bool
	std    string // of a pure room
}

// rooms is the walls: one row for each folder with code. Imports run downwards only.
var rooms = map[string]room{
	"admin": {
		ours: "broker broker/auth/source broker/behalf broker/listener broker/presub codec internal/metric internal/places internal/regular " +
			"internal/version wsnet",
		others: "github.com/prometheus/client_golang/prometheus " +
			"github.com/prometheus/client_golang/prometheus/collectors " +
			"github.com/prometheus/client_golang/prometheus/promhttp",
	},
	"bench": {
		ours: "bench/plot codec",
		others: "github.com/BurntSushi/toml github.com/HdrHistogram/hdrhistogram-go github.com/gobwas/ws " +
			"golang.org/x/sys/unix",
	},
	"bench/plot":    {},
	"bench/traffic": {ours: "codec", others: "github.com/gobwas/ws github.com/gobwas/ws/wsutil golang.org/x/sys/unix"},
	"broker": {
		ours: "broker/admit broker/alias broker/auth broker/auth/deny broker/behalf broker/clock broker/crash broker/durable broker/fanout broker/grants " +
			"broker/knock broker/line broker/listener broker/message " +
			"broker/offer broker/publication broker/reason broker/retained broker/route broker/session " +
			"broker/store broker/store/state broker/sys broker/tally broker/view codec internal/memguard internal/ring internal/version " +
			"internal/wheel topictree wsnet",
		others: "github.com/cespare/xxhash/v2",
	},
	"broker/admit": {ours: "broker/auth broker/behalf broker/listener codec internal/places"},
	"broker/alias": {ours: "broker/message codec", pure: true},
	"broker/auth": {
		ours: "broker/auth/hash codec internal/certname internal/places internal/regular internal/ring internal/swapfile " +
			"topictree",
	},
	"broker/auth/deny": {ours: "broker/auth broker/store"},
	"broker/auth/goauth": {
		ours:   "broker/auth broker/auth/hash broker/auth/token broker/lookup codec internal/places internal/regular",
		others: "github.com/go-sql-driver/mysql github.com/hashicorp/golang-lru/v2/simplelru github.com/redis/go-redis/v9",
	},
	"broker/auth/hash":  {others: "golang.org/x/crypto/argon2 golang.org/x/crypto/bcrypt"},
	"broker/auth/scram": {ours: "broker/auth broker/auth/hash codec", others: "github.com/xdg-go/scram"},
	"broker/auth/source": {
		ours: "broker/auth broker/auth/hash broker/auth/token broker/lookup broker/lookup/ldap broker/lookup/redis codec " +
			"internal/metric internal/places internal/regular",
		others: "github.com/goccy/go-yaml/ast github.com/hashicorp/golang-lru/v2/simplelru " +
			"github.com/prometheus/client_golang/prometheus",
	},
	"broker/auth/token":  {ours: "broker/auth codec", others: "github.com/MicahParks/jwkset github.com/golang-jwt/jwt/v5"},
	"broker/behalf":      {ours: "codec codec/im", pure: true, std: "context crypto/sha256 encoding/binary errors slices strings time"},
	"broker/clock":       {ours: "broker/store broker/store/state wsnet"},
	"broker/crash":       {ours: "broker/line broker/message codec wsnet"},
	"broker/knock":       {ours: "broker/line wsnet"},
	"broker/line":        {ours: "wsnet"},
	"broker/offer":       {ours: "broker/reason codec"},
	"broker/publication": {ours: "broker/message codec"},
	"broker/reason":      {ours: "codec wsnet"},
	"broker/tally":       {ours: "broker/admit broker/auth broker/auth/deny broker/listener broker/reason broker/store broker/sys wsnet"},
	"broker/brokertest":  {ours: "broker broker/store codec wsnet"},
	"broker/durable":     {ours: "broker/message broker/session broker/store broker/store/state internal/ring topictree"},
	"broker/fanout":      {ours: "broker/message internal/ring topictree", pure: true, std: "fmt iter maps math sync/atomic"},
	"broker/grants": {
		ours: "broker/behalf broker/durable broker/fanout broker/message broker/retained broker/store codec codec/im " +
			"topictree",
	},
	"broker/listener": {ours: "broker/auth broker/message codec wsnet"},
	"broker/lookup": {
		ours: "internal/places internal/regular",
		others: "github.com/go-sql-driver/mysql github.com/goccy/go-yaml github.com/goccy/go-yaml/ast " +
			"github.com/hashicorp/golang-lru/v2/simplelru github.com/jackc/pgx/v5/stdlib github.com/ncruces/go-sqlite3/driver " +
			"github.com/sony/gobreaker/v2",
	},
	"broker/lookup/ldap":  {ours: "broker/lookup", others: "github.com/go-ldap/ldap/v3"},
	"broker/lookup/redis": {ours: "broker/lookup", others: "github.com/redis/go-redis/v9"},
	"broker/mail":         {ours: "broker/message codec topictree", pure: true, std: "sync/atomic"},
	"broker/message":      {ours: "codec", pure: true, std: "encoding/binary math sync/atomic unsafe"},
	"broker/presub": {
		ours: "broker broker/auth/token broker/behalf broker/lookup broker/store codec codec/im internal/metric internal/places " +
			"internal/regular " +
			"topictree",
		others: "github.com/goccy/go-yaml/ast github.com/hashicorp/golang-lru/v2 github.com/prometheus/client_golang/prometheus",
	},
	"broker/retained":        {ours: "broker/fanout broker/message broker/store codec topictree"},
	"broker/route":           {ours: "broker/durable broker/fanout broker/mail broker/message broker/session broker/store codec internal/ring topictree wsnet"},
	"broker/session":         {ours: "broker/message codec internal/ring", pure: true, std: "bytes cmp fmt slices sync/atomic"},
	"broker/store":           {ours: "broker/message codec"},
	"broker/store/bolt":      {ours: "broker/store internal/regular", others: "go.etcd.io/bbolt go.etcd.io/bbolt/errors"},
	"broker/store/mosquitto": {ours: "broker/message broker/store broker/store/state codec"},
	"broker/store/state":     {ours: "broker/behalf broker/message broker/session broker/store codec"},
	"broker/store/storetest": {ours: "broker/store"},
	"broker/sys":             {pure: true, std: "fmt math strconv"},
	"broker/view":            {ours: "broker/fanout broker/message broker/retained codec topictree"},
	"cmd/internal/cli":       {others: "github.com/spf13/pflag"},
	"cmd/internal/conf":      {ours: "broker broker/auth/goauth cmd/internal/tlsconf"},
	"cmd/internal/logs":      {ours: "broker cmd/internal/conf"},
	"cmd/internal/rtmin":     {others: "golang.org/x/sys/unix"},
	"cmd/internal/sqlitedb":  {ours: "broker/store/mosquitto internal/regular", others: "github.com/ncruces/go-sqlite3/driver"},
	"cmd/internal/testsum":   {},
	"cmd/internal/tlsconf":   {},
	"cmd/noctule": {
		ours: "admin broker broker/auth broker/auth/goauth broker/auth/hash broker/auth/scram broker/auth/source broker/listener broker/message broker/presub broker/store broker/store/bolt broker/store/mosquitto " +
			"broker/store/state cmd/internal/cli cmd/internal/conf cmd/internal/logs cmd/internal/rtmin cmd/internal/sqlitedb codec internal/regular " +
			"internal/swapfile internal/version",
		others: "github.com/spf13/pflag golang.org/x/sys/unix golang.org/x/term",
	},
	"cmd/noctule-bench": {
		ours: "bench bench/plot bench/traffic cmd/internal/cli codec internal/metric internal/version",
		others: "github.com/alecthomas/kong github.com/prometheus/client_golang/prometheus " +
			"github.com/prometheus/client_golang/prometheus/promhttp github.com/schollz/progressbar/v3 " +
			"golang.org/x/term",
	},
	"cmd/noctule/testdata/uml": {others: "golang.org/x/sys/unix"},
	"codec":                    {pure: true, std: "bytes encoding/binary errors fmt iter unicode/utf8"},
	"codec/im":                 {pure: true, std: "bytes encoding/binary fmt unicode/utf8"},
	"internal/certname":        {},
	"internal/cmd/shape":       {},
	"internal/latency":         {pure: true, std: "sync/atomic time"},
	"internal/metric":          {pure: true, std: "fmt strings"},
	"internal/memguard":        {},
	"internal/places":          {pure: true, std: "net/netip"},
	"internal/proxyproto":      {},
	"internal/regular":         {},
	"internal/ring":            {pure: true},
	"internal/swapfile":        {ours: "internal/regular"},
	"internal/testcert":        {},
	"internal/testcrash":       {},
	"internal/testdoc":         {},
	"internal/testlog":         {},
	"internal/testserver":      {},
	"internal/tlsalert":        {others: "golang.org/x/crypto/chacha20poly1305"},
	"internal/version":         {},
	"internal/wheel":           {pure: true},
	"internal/wsproto":         {others: "github.com/gobwas/ws"},
	"topictree":                {},
	"wsnet": {
		ours:   "internal/latency internal/places internal/proxyproto internal/ring internal/tlsalert internal/wsproto",
		others: "github.com/gobwas/ws golang.org/x/sys/unix",
	},
}

const (
	maxFile     = 800
	maxFunction = 70
	maxLine     = 110 // with tabs of four
)

// longLines are files that are tables, a row a line.
var longLines = map[string]bool{
	"cmd/internal/conf/directives.go": true, "broker/auth/goauth/backends.go": true, "broker/auth/goauth/general.go": true,
}

// tables are the package variables that are not errors: they are never written.
var tables = map[string]bool{
	"codec.reasons": true, "codec.properties": true, "codec.acks": true,
	"wsnet.classes":   true,
	"main.csvColumns": true, "main.latencyOf": true, "main.numberOf": true, "main.presets": true,
	"main.page": true, "admin.openAPI": true, "bench.shippedBrokers": true, "bench.comparePage": true, "plot.CSS": true,
	"version.linked": true, "version.commit": true, // by the linker alone
}

func TestTidy(t *testing.T) {
	documented := map[string]bool{}
	im := imports{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || path == "bench/peers") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, raw, parser.ParseComments)
		if err != nil {
			return err
		}
		documented[filepath.Dir(path)] = documented[filepath.Dir(path)] || f.Doc != nil
		if n := bytes.Count(raw, []byte("\n")); n > maxFile {
			t.Errorf("%s has %d lines, at most %d", path, n, maxFile)
		}
		checkLines(t, path, raw)
		checkVariables(t, path, f)
		im.add(filepath.ToSlash(filepath.Dir(path)), f)
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s has an init function", path)
			}
			lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line
			if lines > maxFunction {
				t.Errorf("%s: %s has %d lines, at most %d", path, fn.Name.Name, lines, maxFunction)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, breach := range im.breaches(rooms) {
		t.Error(breach)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package in %s has no comment", dir)
		}
	}
}

func checkLines(t *testing.T, path string, raw []byte) {
	t.Helper()
	if longLines[filepath.ToSlash(path)] {
		return
	}
	for i, line := range strings.Split(string(raw), "\n") {
		if strings.Contains(line, `help:"`) { // a row of a table of flags
			continue
		}
		if n := len([]rune(strings.ReplaceAll(line, "\t", "    "))); n > maxLine {
			t.Errorf("%s:%d has %d columns, at most %d", path, i+1, n, maxLine)
		}
	}
}

// checkVariables refuses package variables that could change: only errors and listed tables may be there.
func checkVariables(t *testing.T, path string, f *ast.File) {
	t.Helper()
	for _, decl := range f.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for _, name := range v.Names {
				lower := strings.ToLower(name.Name)
				if name.Name != "_" && !compiled(v) && !strings.HasPrefix(lower, "err") && !tables[f.Name.Name+"."+name.Name] {
					t.Errorf("%s: package variable %s", path, name.Name)
				}
			}
		}
	}
}

// compiled reports whether a variable is a regular expression or a template, made once.
func compiled(v *ast.ValueSpec) bool {
	if len(v.Values) != 1 {
		return false
	}
	call, ok := v.Values[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	fn, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (fn.Sel.Name == "MustCompile" || fn.Sel.Name == "Must")
}

// imports is what the code of each folder imports, by the files of all systems.
type imports map[string]map[string]bool

// add notes what a file of a folder imports.
func (im imports) add(folder string, f *ast.File) {
	if im[folder] == nil {
		im[folder] = map[string]bool{}
	}
	for _, imp := range f.Imports {
		im[folder][strings.Trim(imp.Path.Value, `"`)] = true
	}
}

// breaches is where imports and walls differ, in order.
func (im imports) breaches(rooms map[string]room) []string {
	var list []string
	for folder, paths := range im {
		row, ok := rooms[folder]
		if !ok {
			list = append(list, folder+" has no row in rooms")
			continue
		}
		allowed := row.allowed()
		for path := range paths {
			_, ok := allowed[path]
			delete(allowed, path)
			free := !row.pure && !strings.HasPrefix(path, module) && !strings.Contains(firstOf(path), ".")
			if !ok && !free || path == "math/rand" {
				list = append(list, folder+" must not import "+path)
			}
		}
		for path := range allowed {
			list = append(list, folder+" does not import "+path+", its row in rooms says so")
		}
	}
	for folder := range rooms {
		if im[folder] == nil {
			list = append(list, folder+" has a row in rooms and no code")
		}
	}
	slices.Sort(list)
	return list
}

const module = "noctule/"

// allowed is what a row lists, by whole paths.
func (r room) allowed() map[string]struct{} {
	m := map[string]struct{}{}
	for path := range strings.FieldsSeq(r.ours) {
		m[module+path] = struct{}{}
	}
	for _, path := range append(strings.Fields(r.others), strings.Fields(r.std)...) {
		m[path] = struct{}{}
	}
	return m
}

// firstOf is the first element of an import path: with a dot in it the package is of another module.
func firstOf(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// TestWalls plants breaches of the walls, which must all be found.
func TestWalls(t *testing.T) {
	planted := []struct{ folder, imports, want string }{
		{"broker", module + "broker/presub", "broker must not import noctule/broker/presub"},
		{"broker", module + "broker/store/bolt", "broker must not import noctule/broker/store/bolt"},
		{"broker", "go.etcd.io/bbolt", "broker must not import go.etcd.io/bbolt"},
		{"broker", module + "internal/wsproto", "broker must not import noctule/internal/wsproto"},
		{"broker/session", "net", "broker/session must not import net"},
		{"broker/session", "time", "broker/session must not import time"},
		{"broker/session", module + "wsnet", "broker/session must not import noctule/wsnet"},
		{"broker/behalf", module + "broker", "broker/behalf must not import noctule/broker"},
		{"broker/presub", module + "broker/session", "broker/presub must not import noctule/broker/session"},
		{"codec", module + "topictree", "codec must not import noctule/topictree"},
		{"internal/ring", module + "internal/wheel", "internal/ring must not import noctule/internal/wheel"},
		{"wsnet", module + "codec", "wsnet must not import noctule/codec"},
		{"wsnet", "math/rand", "wsnet must not import math/rand"},
		{"broker/cluster", "os", "broker/cluster has no row in rooms"},
		{"internal/ring/fast", "os", "internal/ring/fast has no row in rooms"},
	}
	for _, p := range planted {
		im := imports{}
		for folder, row := range rooms { // what the table says, and nothing else
			im[folder] = map[string]bool{}
			for path := range row.allowed() {
				im[folder][path] = true
			}
		}
		if got := im.breaches(rooms); len(got) > 0 {
			t.Fatalf("breaches of the table against itself: %q", got)
		}
		f, err := parser.ParseFile(token.NewFileSet(), "planted.go", "package p\nimport _ \""+p.imports+"\"", 0)
		if err != nil {
			t.Fatal(err)
		}
		im.add(p.folder, f)
		if got := im.breaches(rooms); !slices.Equal(got, []string{p.want}) {
			t.Errorf("%s imports %s: breaches are %q, want %q", p.folder, p.imports, got, p.want)
		}
	}
	im := imports{"broker": {module + "codec": true}}
	rows := map[string]room{"broker": {ours: "codec wsnet"}, "gone": {}}
	want := []string{
		"broker does not import noctule/wsnet, its row in rooms says so", "gone has a row in rooms and no code",
	}
	if got := im.breaches(rows); !slices.Equal(got, want) {
		t.Errorf("a table that is too wide: breaches are %q, want %q", got, want)
	}
}

// Each test that is skipped says why: `make test` lists the reasons at its end.
func TestSkipsHaveReasons(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte("t."+"Skip()")) || bytes.Contains(raw, []byte("SkipNow"+"()")) {
			t.Errorf("%s skips a test and does not say why", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ARCHITECTURE has a map of the largest package, which names each of its files, and no other.
func TestMapNamesEveryFile(t *testing.T) {
	raw, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(raw), "\n## The files of `broker`\n")
	text, _, _ = strings.Cut(text, "\n## ")
	files, err := filepath.Glob("broker/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, path := range files {
		if name := filepath.Base(path); !strings.HasSuffix(name, "_test.go") {
			want = append(want, name)
		}
	}
	var got []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 && strings.HasSuffix(part, ".go") {
			got = append(got, part)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("docs/ARCHITECTURE.md does not say what broker/%s is for", name)
			}
		}
		for i, name := range got {
			if !slices.Contains(want, name) || i > 0 && got[i-1] == name {
				t.Errorf("docs/ARCHITECTURE.md has %s, which is not in broker, or twice", name)
			}
		}
	}
}
