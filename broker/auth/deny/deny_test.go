package deny

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"noctule/broker/store"
)

const noon = 1_800_000_000

// fixture is a table on a store in memory, and a clock.
type fixture struct {
	*Table
	now int64
	mem *store.Memory
}

func newFixture(t testing.TB, entries int) *fixture {
	f := &fixture{now: noon, mem: store.NewMemory()}
	f.Table = New(f.config(t, entries))
	return f
}

func (f *fixture) config(t testing.TB, entries int) Config {
	return Config{Entries: entries, Now: func() int64 { return f.now }, Shared: func(fill func(b *store.Batch)) {
		var b store.Batch
		fill(&b)
		if err := f.mem.Commit(b.Bytes()); err != nil {
			t.Error(err)
		}
	}}
}

// restart makes the table anew of what is stored.
func (f *fixture) restart(t testing.TB, entries int) {
	t.Helper()
	f.Table = New(f.config(t, entries))
	err := f.mem.Walk(store.Denials, func(k, v []byte) error {
		d, err := store.ReadDenial(k, v)
		if err != nil {
			return err
		}
		return f.Load(&d)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) stored() (n int) {
	_ = f.mem.Walk(store.Denials, func(_, _ []byte) error { n++; return nil })
	return n
}

func (f *fixture) add(t testing.TB, k Kind, name string, seconds int64) {
	t.Helper()
	e := Entry{Kind: k, Name: name, By: "test", Reason: "why"}
	if seconds != 0 {
		e.Until = time.Unix(f.now+seconds, 0)
	}
	if _, err := f.Add(e); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) denies(q Query) string {
	e, ok := f.Match(&q)
	if !ok {
		return ""
	}
	if !e.Covers(&q) {
		return "an entry that does not cover"
	}
	return fmt.Sprintf("%s %s", e.Kind, e.Name)
}

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestMatch(t *testing.T) {
	f := newFixture(t, 0)
	if got := f.denies(Query{Token: "t", User: "u", Client: "c", Address: address("10.1.2.3")}); got != "" {
		t.Errorf("an empty table denies by %s", got)
	}
	f.add(t, Token, "t", 0)
	f.add(t, User, "u", 0)
	f.add(t, Client, "c", 0)
	for _, a := range []string{"10.0.0.0/8", "10.1.2.3", "::ffff:192.0.2.0/120", "2001:db8::/32", "fe80::1", "10.9.9.9/16"} {
		f.add(t, Address, a, 0)
	}
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{}, ""},
		{Query{Token: "u", User: "c", Client: "t"}, ""},
		{Query{Token: "t", User: "u"}, "token t"},
		{Query{User: "u", Client: "c"}, "user u"},
		{Query{Client: "c", Address: address("10.1.2.3")}, "client c"},
		{Query{Address: address("10.1.2.3")}, "address 10.1.2.3"},
		{Query{Address: address("10.9.0.1")}, "address 10.9.0.0/16"},
		{Query{Address: address("::ffff:10.1.2.4")}, "address 10.0.0.0/8"},
		{Query{Address: address("11.0.0.1")}, ""},
		{Query{Address: address("192.0.2.200")}, "address 192.0.2.0/24"},
		{Query{Address: address("2001:db8:ffff::1")}, "address 2001:db8::/32"},
		{Query{Address: address("2001:db9::1")}, ""},
		{Query{Address: address("fe80::1%eth0")}, "address fe80::1"},
	} {
		if got := f.denies(c.q); got != c.want {
			t.Errorf("%+v: %q, want %q", c.q, got, c.want)
		}
	}
	if e, ok := f.Remove(Address, "10.77.0.0/8"); !ok || e.Name != "10.0.0.0/8" || e.By != "test" {
		t.Errorf("%+v", e)
	}
	if _, ok := f.Remove(Address, "10.0.0.0/8"); ok {
		t.Error("removed twice")
	}
	if got := f.denies(Query{Address: address("10.1.2.4")}); got != "" {
		t.Errorf("still denied by %s", got)
	}
	if s := f.Stats(); s.Entries != 8 || s.Added != 9 || s.Removed != 1 || s.Denied != 9 {
		t.Errorf("%+v", s)
	}
	for _, bad := range []Entry{
		{Kind: User},
		{Kind: User, Name: "a\x00"},
		{Kind: Token, Name: strings.Repeat("x", nameMax+1)},
		{Kind: 4, Name: "x"},
		{Kind: Address, Name: "10.0.0.0/33"},
		{Kind: Address, Name: "host"},
		{Kind: Address, Name: "fe80::1%eth0"},
		{Kind: Address, Name: "::ffff:0.0.0.0/90"},
		{Kind: User, Name: "u", Until: time.Unix(noon, 0)},
		{Kind: User, Name: "u", Reason: strings.Repeat("x", reasonMax+1)},
		{Kind: User, Name: "u", By: strings.Repeat("x", byMax+1)},
	} {
		if _, err := f.Add(bad); err == nil || errors.Is(err, ErrFull) {
			t.Errorf("%.40q is taken: %v", bad.Name, err)
		}
	}
}

// An entry ends on time, denies nobody afterwards, and leaves table and store.
func TestExpiry(t *testing.T) {
	f := newFixture(t, 0)
	f.add(t, User, "short", 10)
	f.add(t, User, "long", 20)
	f.add(t, User, "ever", 0)
	f.add(t, Address, "10.0.0.0/8", 10)
	f.add(t, Address, "10.1.0.0/16", 5)
	f.now += 9
	if f.denies(Query{User: "short"}) == "" || f.Expire(9) != 1 {
		t.Error("ended early")
	}
	f.now++
	if got := f.denies(Query{User: "short", Address: address("10.1.0.1")}); got != "" {
		t.Errorf("%s after its end", got)
	}
	if f.stored() != 4 || f.Expire(1) != 1 || f.Expire(1) != 1 || f.Expire(1) != 0 || f.stored() != 2 {
		t.Errorf("%d stored", f.stored())
	}
	f.add(t, User, "long", 100) // later
	f.now += 50
	if f.Expire(9) != 0 || f.denies(Query{User: "long"}) == "" {
		t.Error("ended at its old end")
	}
	f.add(t, User, "long", 0)
	f.now += 1000
	if f.Expire(9) != 0 || f.denies(Query{User: "long"}) == "" || f.Stats().Expired != 3 {
		t.Error("one for ever has ended")
	}
}

// A restart changes nothing; what has ended meanwhile denies nobody and is removed.
func TestRestart(t *testing.T) {
	f := newFixture(t, 0)
	f.add(t, Token, "t", 10)
	f.add(t, Address, "2001:db8::/32", 0)
	f.add(t, Client, strings.Repeat("long", 10000), 100)
	f.add(t, User, "gone", 0)
	f.Remove(User, "gone")
	before, _, _ := f.Page(Cursor{}, 10)
	f.restart(t, 0)
	after, _, _ := f.Page(Cursor{}, 10)
	if len(before) != 3 || !slices.Equal(before, after) {
		t.Errorf("%v\n%v", before, after)
	}
	f.now += 10
	f.restart(t, 0)
	if f.denies(Query{Token: "t"}) != "" || f.denies(Query{Address: address("2001:db8::1")}) == "" || f.Expire(9) != 1 || f.stored() != 2 {
		t.Errorf("%d stored", f.stored())
	}
	f.restart(t, 1) // a smaller limit loses nothing, and takes nothing new
	if _, err := f.Add(Entry{Kind: User, Name: "u"}); !errors.Is(err, ErrFull) || f.Stats().Entries != 2 {
		t.Errorf("%v", err)
	}
	if err := f.Load(&store.Denial{Of: Address, Name: "nonsense"}); err == nil {
		t.Error("a stored name that is none is taken")
	}
}

// At the limit nothing that was taken is lost, one author leaves room for others, and what exists may change.
func TestFull(t *testing.T) {
	f := newFixture(t, 10)
	add := func(by, name string) error {
		_, err := f.Add(Entry{Kind: Client, Name: name, By: by, Until: time.Unix(f.now+100, 0)})
		return err
	}
	for i := range 5 {
		if err := add("bot", fmt.Sprint("b", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := add("bot", "b5"); !errors.Is(err, ErrFull) {
		t.Errorf("one author has more than half: %v", err)
	}
	if err := add("bot", "b0"); err != nil {
		t.Errorf("an entry that exists cannot be changed: %v", err)
	}
	for i := range 5 {
		if err := add(fmt.Sprint("admin", i), fmt.Sprint("a", i)); err != nil {
			t.Errorf("another author: %v", err)
		}
	}
	if err := add("admin9", "a9"); !errors.Is(err, ErrFull) {
		t.Errorf("more than all: %v", err)
	}
	for _, name := range []string{"b0", "b4", "a0", "a4"} {
		if f.denies(Query{Client: name}) == "" {
			t.Errorf("%s has given way", name)
		}
	}
	if s := f.Stats(); s.Entries != 10 || s.Refused != 2 || f.stored() != 10 {
		t.Errorf("%+v", s)
	}
	f.now += 100 // what has ended makes room at once
	if err := add("bot", "b6"); err != nil || f.stored() != 1 {
		t.Errorf("%v, %d stored", err, f.stored())
	}
	f = newFixture(t, 0)
	f.cfg.Bytes = 200000
	if _, err := f.Add(Entry{Kind: User, Name: strings.Repeat("x", 65535)}); err != nil {
		t.Error(err)
	}
	if _, err := f.Add(Entry{Kind: User, Name: strings.Repeat("y", 65535)}); !errors.Is(err, ErrFull) {
		t.Errorf("bytes without a limit: %v", err)
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t, 0)
	for i := range 7 {
		f.add(t, User, fmt.Sprint("u", i), 0)
		f.add(t, Address, fmt.Sprintf("10.0.0.%d", i), 0)
	}
	f.add(t, Token, "ended", 1)
	f.now++
	var all []string
	for at, more := (Cursor{}), true; more; {
		var list []Entry
		if list, at, more = f.Page(at, 4); len(list) > 4 {
			t.Fatalf("a page of %d", len(list))
		}
		for i := range list {
			all = append(all, list[i].Name)
		}
		f.Remove(User, "u3") // changes between pages skip and repeat nothing else
	}
	if len(all) != 14 && len(all) != 13 || !slices.Contains(all, "u6") || !slices.Contains(all, "10.0.0.6") {
		t.Errorf("%v", all)
	}
	if list, at, more := f.Page(Cursor{Address, "zzz"}, 4); len(list) != 0 || more || at.Name != "zzz" {
		t.Errorf("%v %v", list, at)
	}
}

// TestModel does random things to the table and to a list, and restarts in between.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	f := newFixture(t, 1000)
	list := map[string]Entry{}
	for step := range 20000 {
		k := Kind(r.IntN(4))
		name := fmt.Sprint("n", r.IntN(20))
		if k == Address {
			name = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(8))}), 28+r.IntN(5)).Masked().String()
		}
		key := fmt.Sprint(k, strings.TrimSuffix(name, "/32"))
		switch r.IntN(10) {
		case 0, 1, 2:
			e := Entry{Kind: k, Name: name, By: fmt.Sprint(r.IntN(3))}
			if r.IntN(2) == 0 {
				e.Until = time.Unix(f.now+1+r.Int64N(50), 0)
			}
			if _, err := f.Add(e); err != nil {
				t.Fatal(err)
			}
			list[key] = e
		case 3:
			f.Remove(k, name)
			delete(list, key)
		case 4:
			f.now += r.Int64N(5)
		case 5:
			f.Expire(3)
		case 6:
			if r.IntN(20) == 0 {
				f.restart(t, 1000)
			}
		default:
			q := Query{Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(8))}), User: "n" + fmt.Sprint(r.IntN(20)), Token: "n1"}
			want := false
			for _, e := range list {
				want = want || e.Covers(&q) && (e.Until.IsZero() || e.Until.Unix() > f.now)
			}
			if got := f.denies(q) != ""; got != want {
				t.Fatalf("seed %d, step %d: %+v is denied: %t, want %t", seed, step, q, got, want)
			}
		}
	}
	for more := true; more; {
		more = f.Expire(100) > 0
	}
	n := 0
	for _, e := range list {
		if e.Until.IsZero() || e.Until.Unix() > f.now {
			n++
		}
	}
	if s := f.Stats(); s.Entries != n || f.stored() != n || len(f.mu.due.list) > n || len(f.mu.authors) > 3 {
		t.Errorf("seed %d: %+v, %d stored, want %d", seed, s, f.stored(), n)
	}
}

// TestMatchAllocatesNothing, whatever is in the table.
func TestMatchAllocatesNothing(t *testing.T) {
	f := newFixture(t, 0)
	q := Query{Token: "t", User: "u", Client: "c", Address: address("::ffff:10.1.2.3")}
	for _, fill := range []bool{false, true} {
		if fill {
			f.add(t, User, "x", 0)
			f.add(t, Address, "10.1.2.0/24", 0)
			f.add(t, Address, "10.1.0.0/16", 0)
		}
		if n := testing.AllocsPerRun(100, func() { f.Match(&q) }); n != 0 {
			t.Errorf("%v allocations, with entries: %t", n, fill)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	f := newFixture(b, 0)
	q := Query{Token: "t", User: "u", Client: "c", Address: address("11.1.2.3")}
	b.Run("empty", func(b *testing.B) {
		for b.Loop() {
			f.Match(&q)
		}
	})
	for i := range 30000 {
		f.add(b, Address, fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255), 0)
	}
	b.Run("30000", func(b *testing.B) {
		for b.Loop() {
			f.Match(&q)
		}
	})
}
