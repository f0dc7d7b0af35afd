package auth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"noctule/topictree"
)

func loadACL(t testing.TB, lines ...string) *ACL {
	t.Helper()
	a, err := LoadACL(writeFile(t, strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// may is "rw", "r", "w" or "-".
func may(r Rules, topic string) string {
	out := ""
	if r.Check(Read, []byte(topic)) == Allow {
		out += "r"
	}
	if r.Check(Write, []byte(topic)) == Allow {
		out += "w"
	}
	if out == "" {
		return "-"
	}
	return out
}

// TestACLTraps is what surprises people in Mosquitto's ACL files, and must surprise them here too.
func TestACLTraps(t *testing.T) {
	a := loadACL(t,
		"# comment",
		"topic read public/#",
		"",
		"pattern readwrite dev/%c/#",
		"pattern write up/%u",
		"pattern deny dev/+/secret",
		"user alice",
		"topic read a/b c", // spaces belong to the filter
		"topic write w/#",
		"topic deny w/x",
		"topic readwrite w/x/y",
		"topic read", // one word is a filter
		"topic plain",
		"topic $share/+/#",
		"  user   bob  ",
		"topic #",
		"pattern x%c/lit",
		"user alice", // goes on
		"topic $SYS/#",
		"user nolines",
		"pattern readwrite z/%c/%u/end",
	)
	alice := a.Rules("c1", "alice", true)
	bob := a.Rules("c2", "bob", true)
	other := a.Rules("a/b", "stranger", true)
	anonymous := a.Rules("c3", "", false)
	for _, c := range []struct {
		who   string
		r     Rules
		topic string
		want  string
	}{
		{"alice", alice, "public/x", "-"}, // the list before the first user is for anonymous clients
		{"alice", alice, "a/b c", "r"},
		{"alice", alice, "w/1", "w"},
		{"alice", alice, "w", "w"},
		{"alice", alice, "w/x", "-"}, // denies come first
		{"alice", alice, "w/x/y", "rw"},
		{"alice", alice, "read", "rw"},
		{"alice", alice, "plain", "rw"},
		{"alice", alice, "$SYS/broker", "rw"},
		{"alice", alice, "$share/g/x", "rw"},
		{"alice", alice, "dev/c1/x", "rw"},
		{"alice", alice, "dev/c1", "rw"},
		{"alice", alice, "dev/c1/secret", "-"},
		{"alice", alice, "dev/c2/x", "-"},
		{"alice", alice, "up/alice", "w"},
		{"alice", alice, "z/c1/alice/end", "rw"},
		{"alice", alice, "z/alice/c1/end", "-"},
		{"bob", bob, "anything/at/all", "rw"},
		{"bob", bob, "dev/c1/secret", "rw"}, // the own list decides before patterns
		{"bob", bob, "$SYS/x", "-"},         // # does not match $ topics
		{"bob", bob, "", "rw"},
		{"stranger", other, "public/x", "-"},
		{"stranger", other, "dev/a/b/x", "rw"}, // the client id is a/b
		{"stranger", other, "dev/a/bc", "-"},
		{"stranger", other, "dev/a", "-"},
		{"stranger", other, "x%c/lit", "rw"}, // %c counts as a whole level only
		{"stranger", other, "xa/b/lit", "-"},
		{"stranger", other, "z/a/b/stranger/end", "rw"},
		{"anonymous", anonymous, "public/x", "r"},
		{"anonymous", anonymous, "public", "r"},
		{"anonymous", anonymous, "dev/c3/x", "rw"},
		{"anonymous", anonymous, "up/", "-"}, // %u is skipped
		{"anonymous", anonymous, "z/c3//end", "-"},
	} {
		if got := may(c.r, c.topic); got != c.want {
			t.Errorf("%s on %q: %s, want %s", c.who, c.topic, got, c.want)
		}
	}
	for _, access := range []Access{Subscribe, Unsubscribe} {
		if other.Check(access, []byte("#")) != Allow {
			t.Error("a subscription is denied")
		}
	}
	if w := a.Warnings(); len(w) != 1 || !strings.Contains(w[0], "'dev/+/secret'") {
		t.Errorf("warnings %q", w)
	}
}

// TestDangerousNames: + and # in names get nothing from patterns, whatever is in them; what is the user's own
// stays.
func TestDangerousNames(t *testing.T) {
	a := loadACL(t, "topic own", "pattern dev/%c/#", "pattern all", "user a+", "topic own")
	for _, n := range []struct{ client, user string }{{"+", ""}, {"#", "u"}, {"c", "a+"}, {"c", "u#"}} {
		r := a.Rules(n.client, n.user, n.user != "")
		for _, topic := range []string{"dev/x", "dev/" + n.client + "/x", "all"} {
			if got := may(r, topic); got != "-" {
				t.Errorf("%q %q on %q: %s", n.client, n.user, topic, got)
			}
		}
		if r.Covers([]byte("all")) {
			t.Errorf("%q %q: covered", n.client, n.user)
		}
	}
	if got := may(a.Rules("c", "a+", true), "own"); got != "rw" {
		t.Errorf("own topic: %s", got)
	}
	if got := may(a.Rules("+", "", false), "own"); got != "rw" {
		t.Errorf("anonymous: %s", got)
	}
	a = loadACL(t, "user a+", "topic own") // without patterns names do not matter
	if got := may(a.Rules("#", "a+", true), "own"); got != "rw" {
		t.Errorf("no patterns: %s", got)
	}
}

func TestEmptyACLDeniesEverything(t *testing.T) {
	a := loadACL(t, "# nothing")
	for _, r := range []Rules{a.Rules("c", "", false), a.Rules("c", "u", true)} {
		if got := may(r, "a"); got != "-" {
			t.Errorf("%s", got)
		}
	}
}

func TestRulesAreShared(t *testing.T) {
	a := loadACL(t, "topic a", "pattern b", "user u", "topic c")
	if a.Rules("1", "u", true) != a.Rules("2", "u", true) || a.Rules("1", "", false) != a.Rules("2", "", false) ||
		a.Rules("1", "x", true) != a.Rules("2", "y", true) {
		t.Error("clients of one user have rules of their own")
	}
	a = loadACL(t, "pattern b/%u") // the client id does not matter, the name does
	if a.Rules("1", "", false) != a.Rules("2", "", false) {
		t.Error("anonymous clients have rules of their own")
	}
	if a.Rules("1", "u", true) == a.Rules("1", "v", true) {
		t.Error("two users share rules")
	}
}

func TestACLErrors(t *testing.T) {
	for _, c := range []struct {
		content string
		line    int
		text    string
	}{
		{"topic", 1, "Empty topic"},
		{"topic   ", 1, "Empty topic"},
		{"\n\npattern", 3, "Empty topic"},
		{"user", 1, "Missing username"},
		{"user  ", 1, "Missing username"},
		{"topic\tread a", 1, "Invalid line"}, // only spaces separate
		{"topics a", 1, "Invalid line"},
		{" # comment", 1, "Invalid line"}, // only in the first column
		{"Topic a", 1, "Invalid line"},
		{"topic a b", 1, `Invalid topic access type "a"`},
		{"topic READ b", 1, `Invalid topic access type "READ"`},
		{"topic read a/#/b", 1, `Invalid ACL topic "a/#/b"`},
		{"topic a+", 1, "Invalid ACL topic"},
		{"pattern %c#", 1, "Invalid ACL topic"},
		{"topic read a\xff", 1, "Invalid ACL topic"},
		{"topic " + strings.Repeat("x", lineMax), 1, "Line too long"},
	} {
		path := writeFile(t, c.content)
		_, err := LoadACL(path)
		var e *FileError
		if !errors.As(err, &e) || e.Line != c.line || !strings.Contains(e.Text, c.text) || e.Unreadable() {
			t.Errorf("%.40q: %v", c.content, err)
		}
	}
}

// rule is one line of an ACL file, for the naive evaluator.
type rule struct {
	access Access
	filter string
}

// naive goes through the lines as Mosquitto does: denies first, then in order; the first that matches with
// the access asked for decides. It substitutes names in the text.
func naive(list []rule, a Access, topic string, who *names, pattern bool) Verdict {
	ordered := slices.Clone(list)
	slices.SortStableFunc(ordered, func(x, y rule) int {
		return int(y.access&denied) - int(x.access&denied)
	})
	for _, r := range ordered {
		filter := r.filter
		if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
			continue
		}
		if pattern {
			if strings.Contains(filter, "%u") && !who.hasUser {
				continue
			}
			levels := strings.Split(filter, "/")
			for i, l := range levels {
				switch l {
				case "%c":
					levels[i] = who.client
				case "%u":
					levels[i] = who.user
				}
			}
			filter = strings.Join(levels, "/")
		}
		if !topictree.MatchFilter([]byte(filter), []byte(topic)) {
			continue
		}
		if r.access == denied {
			return Deny
		}
		if r.access&a != 0 {
			return Allow
		}
	}
	return Ignore
}

// TestACLAgainstNaiveEvaluator compares random files on random topics, and holds Covers to its promise.
func TestACLAgainstNaiveEvaluator(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 3000 {
		modelRound(t, r)
		if t.Failed() {
			return
		}
	}
}

var (
	accessWords = map[Access]string{Read: "read", Write: "write", Read | Write: "readwrite", denied: "deny"}
	someLevels  = []string{"a", "b", "", "$x", "+", "%c", "%u", "x%u"}
)

func modelRound(t *testing.T, r *rand.Rand) {
	words := []Access{Read, Write, Read | Write, denied}
	filterOf := func() string {
		levels := make([]string, 1+r.IntN(4))
		for i := range levels {
			levels[i] = someLevels[r.IntN(len(someLevels))]
		}
		if r.IntN(4) == 0 {
			levels = append(levels, "#")
		}
		if f := strings.Join(levels, "/"); f != "" {
			return f
		}
		return "#"
	}
	var text strings.Builder
	lists := map[string][]rule{}
	var patterns []rule
	user := ""
	for range r.IntN(10) {
		l := rule{words[r.IntN(len(words))], filterOf()}
		switch r.IntN(4) {
		case 0:
			user = []string{"u", "v"}[r.IntN(2)]
			fmt.Fprintf(&text, "user %s\n", user)
		case 1:
			fmt.Fprintf(&text, "pattern %s %s\n", accessWords[l.access], l.filter)
			patterns = append(patterns, l)
		default:
			fmt.Fprintf(&text, "topic %s %s\n", accessWords[l.access], l.filter)
			lists[user] = append(lists[user], l)
		}
	}
	p := newACLParser(&source{path: "-", what: "acl_file"})
	if err := p.s.scan(strings.NewReader(text.String()), p.line); err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	a := p.finish()
	for range 6 {
		who := names{client: []string{"a", "b", "a/b", "$x"}[r.IntN(4)]}
		if r.IntN(3) > 0 {
			who.user, who.hasUser = []string{"u", "v", "a", ""}[r.IntN(4)], true
		}
		rules := a.Rules(who.client, who.user, who.hasUser)
		allowed := func(access Access, topic string) bool {
			var own []rule
			if !who.hasUser || who.user != "" {
				own = lists[who.user]
			}
			v := naive(own, access, topic, &who, false)
			if v == Ignore {
				v = naive(patterns, access, topic, &who, true)
			}
			return v == Allow
		}
		checkModel(t, r, rules, allowed, filterOf, text.String(), who)
	}
}

func checkModel(t *testing.T, r *rand.Rand, rules Rules, allowed func(Access, string) bool,
	filterOf func() string, text string, who names,
) {
	filters := []string{"#", filterOf(), filterOf()}
	for i, f := range filters {
		filters[i] = strings.NewReplacer("%c", "a", "%u", "b").Replace(f)
	}
	for range 12 {
		levels := make([]string, 1+r.IntN(4))
		for i := range levels {
			levels[i] = []string{"a", "b", "", "$x", "u", "%c", "xu"}[r.IntN(7)]
		}
		topic := strings.Join(levels, "/")
		if topic == "" {
			topic = "/"
		}
		for _, access := range []Access{Read, Write} {
			if got, want := rules.Check(access, []byte(topic)) == Allow, allowed(access, topic); got != want {
				t.Errorf("%+v, access %d on %q: %v, want %v\n%s", who, access, topic, got, want, text)
			}
		}
		for _, f := range filters {
			if topictree.MatchFilter([]byte(f), []byte(topic)) && rules.Covers([]byte(f)) &&
				!allowed(Read, topic) {
				t.Errorf("%+v: %q is said to be covered, but %q may not be read\n%s", who, f, topic, text)
			}
		}
	}
}

// TestCovers is where it must say yes, since it is what spares the check of each message.
func TestCovers(t *testing.T) {
	a := loadACL(t, "topic read a/#", "topic read p/+/q", "topic read exact", "topic deny d/x", "topic read d/+",
		"pattern read dev/%c/+", "pattern deny dev/+/secret", "pattern read mine/%c/#")
	r := a.Rules("id/1", "", false)
	for filter, want := range map[string]bool{
		"a": true, "a/#": true, "a/b/c": true, "a/+/c": true, "#": false, "+/b": false, "p/+/q": true, "p/x/q": true,
		"p/+/+": false, "p/#": false, "exact": true, "exac": false, "d/+": false, "d/x": false, "d/y": true,
		"d/#": false, "dev/id/1/x": true, "dev/id/1/+": true, "dev/id/1": false, "dev/id/2/x": false,
		"mine/id/1/#": true, "mine/id/1": true, "mine/+/1/#": false, "mine/#": false, "dev/id/secret": false,
	} {
		if got := r.Covers([]byte(filter)); got != want {
			t.Errorf("%q: %v", filter, got)
		}
	}
	all := loadACL(t, "topic read #", "topic deny $SYS/#").Rules("c", "", false)
	if !all.Covers([]byte("#")) || !all.Covers([]byte("+/+")) || all.Covers([]byte("$SYS/#")) {
		t.Error("a deny below $ touches filters that do not match there")
	}
	everybody := loadACL(t, "pattern read x/%c/#", "pattern deny x/%c/no/#").Rules("a/b", "", false)
	for filter, want := range map[string]bool{
		"x/a/b/yes": true, "x/a/b/no": false, "x/a/b/no/1": false, "x/a/b/+": false, "x/a/b/#": false, "x/#": false,
	} {
		if got := everybody.Covers([]byte(filter)); got != want {
			t.Errorf("%q: %v", filter, got)
		}
	}
}

// TestCoversIsBounded asks with filters that would visit every node again and again.
func TestCoversIsBounded(t *testing.T) {
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("topic deny a/%d/x/y", i))
	}
	r := loadACL(t, append(lines, "topic read #")...).Rules("c", "", false).(*aclRules)
	c := cover{who: &r.who, left: coverSteps}
	if !c.touches(&r.own.denies, []byte("+/+/+/z"), true, true) || c.left >= 0 {
		t.Errorf("%d steps left", c.left)
	}
}

// rulesOf makes n rules, exact or with wildcards, and topics that hit one in the middle and none.
func rulesOf(tb testing.TB, n int, wild bool) (r *Permissions, hit, miss []byte) {
	var lines []string
	for i := range n {
		f := fmt.Sprintf("topic read site/%d/sensor/value", i)
		if wild {
			f = fmt.Sprintf("topic read site/%d/+/value", i)
		}
		lines = append(lines, f)
	}
	p := &Policy{Authorizers: []Authorizer{loadACL(tb, lines...)}}
	return p.Permissions("client", "", false), fmt.Appendf(nil, "site/%d/sensor/value", n/2),
		fmt.Appendf(nil, "site/%d/sensor/value", n)
}

func TestCheckDoesNotAllocate(t *testing.T) {
	p := &Policy{Authorizers: []Authorizer{loadACL(t, "topic read a/b", "topic deny c/+", "pattern x/%c/#")}}
	r := p.Permissions("client", "", false)
	for _, topic := range []string{"a/b", "c/d", "x/client/1", "nowhere"} {
		b := []byte(topic)
		if n := testing.AllocsPerRun(100, func() { r.Allows(Read, b); r.Allows(Write, b) }); n != 0 {
			t.Errorf("%q: %v allocations", topic, n)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{10, 1000} {
		for _, wild := range []bool{false, true} {
			r, hit, miss := rulesOf(b, n, wild)
			for name, topic := range map[string][]byte{"hit": hit, "miss": miss} {
				b.Run(fmt.Sprintf("rules=%d/wild=%v/%s", n, wild, name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						r.Allows(Read, topic)
					}
				})
			}
		}
	}
	p := &Policy{Authorizers: []Authorizer{loadACL(b, "pattern readwrite dev/%c/#", "pattern deny dev/+/secret")}}
	r := p.Permissions("client", "", false)
	topic := []byte("dev/client/state")
	b.Run("pattern", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Allows(Write, topic)
		}
	})
}
