package places

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func peer(s string) Peer { return Peer{Addr: netip.MustParseAddr(s)} }

// TestNewcomerGetsAPlace fills a table from few addresses: another one gets in, and the newest of the holder
// of most gives way.
func TestNewcomerGetsAPlace(t *testing.T) {
	tab := New[string](Limits{Total: 8}, Newest)
	var list [9]Place[string]
	for i := range 5 {
		list[i].Value = string(rune('a' + i))
		tab.Take(&list[i], peer("192.0.2.1"), 1)
	}
	for i := range 3 {
		tab.Take(&list[5+i], peer("192.0.2.2"), 1)
	}
	gone, v := tab.Take(&list[8], peer("192.0.2.3"), 1)
	if v != Taken || len(gone) != 1 || gone[0].Value != "e" || gone[0].Held() || !list[8].Held() {
		t.Errorf("%v, %d gone", v, len(gone))
	}
	var more Place[string]
	if gone, v := tab.Take(&more, peer("192.0.2.1"), 1); v != Full || len(gone) != 0 || more.Held() {
		t.Errorf("the holder of most: %v", v)
	}
	if n := tab.Of(peer("192.0.2.1")); n != 4 || tab.Weight() != 8 || tab.Len() != 8 {
		t.Errorf("%d of %d", n, tab.Weight())
	}
}

// TestOldestGivesWay has the oldest place of the holder of most go, for its own newcomer too.
func TestOldestGivesWay(t *testing.T) {
	tab := New[int](Limits{Total: 3}, Oldest)
	var list [5]Place[int]
	for i := range list {
		list[i].Value = i
		gone, v := tab.Take(&list[i], peer("192.0.2.1"), 1)
		if v != Taken || i >= 3 && (len(gone) != 1 || gone[0].Value != i-3) {
			t.Errorf("place %d: %v", i, v)
		}
	}
}

// TestNetworks counts IPv6 by /64, /56 and /48: many of the inner do not make more of the outer.
func TestNetworks(t *testing.T) {
	tab := New[int](Limits{Total: 100, Address: 4, Net56: 8, Net48: 16}, Newest)
	at := func(b6, b7 byte) Peer {
		return Peer{Addr: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, b6, b7, 15: 1})}
	}
	fill := func(from func(i int) Peer) (n int) {
		for i := range 64 {
			if _, v := tab.Take(&Place[int]{}, from(i), 1); v == Taken {
				n++
			}
		}
		return n
	}
	if n := fill(func(int) Peer { return at(0, 0) }); n != 4 {
		t.Errorf("a /64 got %d places", n)
	}
	if n := fill(func(i int) Peer { return at(0, byte(i)) }); n != 4 {
		t.Errorf("the rest of a /56 got %d places", n)
	}
	if n := fill(func(i int) Peer { return at(byte(i), 0) }); n != 8 {
		t.Errorf("the rest of a /48 got %d places", n)
	}
	if n := fill(func(int) Peer { return Peer{Trusted: true} }); n != 64 {
		t.Errorf("a trusted peer got %d places", n)
	}
	if _, v := tab.Take(&Place[int]{}, peer("192.0.2.1"), 20); v != Taken {
		t.Errorf("who holds nothing gets %v", v)
	}
	if !tab.May(peer("::ffff:192.0.2.2"), 4) || tab.May(peer("::ffff:192.0.2.1"), 1) {
		t.Error("IPv4 is not IPv4 within IPv6")
	}
}

// model is the naive form: a list.
type model struct {
	limits Limits
	list   []*held
}

type held struct {
	p      *Place[int]
	from   Peer
	weight int64
}

func (h *held) in(net netip.Prefix) bool {
	list, n := lineage(h.from)
	return slices.ContainsFunc(list[:n], func(l level) bool { return l.net == net })
}

func (m *model) sum(in netip.Prefix) (n int64) {
	for _, h := range m.list {
		if h.in(in) {
			n += h.weight
		}
	}
	return n
}

func (m *model) drop(p *Place[int]) *held {
	i := slices.IndexFunc(m.list, func(h *held) bool { return h.p == p })
	h := m.list[i]
	m.list = slices.Delete(m.list, i, i+1)
	return h
}

// wantMost checks that nobody with as many networks within the same ones holds more than who would give way.
func (m *model) wantMost(t *testing.T, order Order, p *Place[int]) {
	t.Helper()
	i := slices.IndexFunc(m.list, func(h *held) bool { return h.p == p })
	victim := m.list[i]
	nets, n := lineage(victim.from)
	outer := netip.Prefix{}
	for k := range n {
		for _, h := range m.list {
			other, on := lineage(h.from)
			if k > 0 && (!h.in(outer) || on != n) || k >= on {
				continue
			}
			if m.sum(other[k].net) > m.sum(nets[k].net) {
				t.Fatalf("%v holds more than %v", other[k].net, nets[k].net)
			}
		}
		outer = nets[k].net
	}
	for j, h := range m.list { // in the order they came
		if !h.in(outer) || j == i {
			continue
		}
		if order == Newest && j > i || order == Oldest && j < i || order == Largest && h.weight > victim.weight {
			t.Fatalf("order %d: place %d gives way before %d", order, i, j)
		}
	}
}

// TestModel compares with the naive form over random steps.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 60 {
		order := Order(round % 3)
		m := &model{limits: Limits{Total: 40, Address: 14, Net56: 20, Net48: 26}}
		tab := New[int](m.limits, order)
		for range 400 {
			step(t, r, tab, m, order)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		for len(m.list) > 0 {
			tab.Leave(m.list[0].p)
			tab.Leave(m.list[0].p) // again: nothing
			m.list = m.list[1:]
		}
		if len(tab.nets) != 0 || tab.Weight() != 0 || tab.Len() != 0 || tab.root.children != nil {
			t.Fatalf("seed %d: %d networks are left", seed, len(tab.nets))
		}
	}
}

func step(t *testing.T, r *rand.Rand, tab *Table[int], m *model, order Order) {
	t.Helper()
	switch {
	case r.IntN(3) == 0 && len(m.list) > 0:
		p := m.list[r.IntN(len(m.list))].p
		tab.Leave(p)
		m.drop(p)
	case r.IntN(4) == 0 && len(m.list) > 0:
		h := m.list[r.IntN(len(m.list))]
		by := r.Int64N(3) - min(1, h.weight-1)
		tab.Grow(h.p, by)
		h.weight += by
	default:
		h := &held{p: &Place[int]{}, weight: 1 + r.Int64N(4)}
		if r.IntN(2) == 0 {
			h.from.Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(4))})
		} else {
			h.from.Addr = netip.AddrFrom16([16]byte{
				0x20, 1, 5: byte(r.IntN(2)), 6: byte(r.IntN(2)),
				7: byte(r.IntN(3)), 15: byte(r.IntN(5)),
			})
		}
		h.from.Trusted = r.IntN(8) == 0
		take(t, tab, m, h)
	}
	var total int64
	for _, h := range m.list {
		total += h.weight
		nets, n := lineage(h.from)
		if tab.Of(h.from) != m.sum(nets[n-1].net) {
			t.Fatalf("%v has %d", h.from, tab.Of(h.from))
		}
	}
	if total != tab.Weight() || len(m.list) != tab.Len() {
		t.Fatalf("weight %d, want %d", tab.Weight(), total)
	}
	if len(m.list) > 0 {
		m.wantMost(t, order, tab.Most())
	} else if tab.Most() != nil {
		t.Fatal("somebody gives way in an empty table")
	}
}

func take(t *testing.T, tab *Table[int], m *model, h *held) {
	t.Helper()
	may := h.from.Trusted
	if !may {
		may = true
		nets, n := lineage(h.from)
		for _, l := range nets[:n] {
			if has := m.sum(l.net); has > 0 && has+h.weight > tab.limit(l) {
				may = false
			}
		}
	}
	had := tab.Weight()
	gone, v := tab.Take(h.p, h.from, h.weight)
	if may != (v != AddressFull) {
		t.Fatalf("verdict %d, may %v", v, may)
	}
	for _, p := range gone {
		m.drop(p)
	}
	if v == Taken {
		m.list = append(m.list, h)
	}
	if h.p.Held() != (v == Taken) || len(gone) > 0 && had+h.weight <= m.limits.Total {
		t.Fatalf("verdict %d, %d gave way", v, len(gone))
	}
}

func BenchmarkTake(b *testing.B) {
	tab := New[int](Limits{Total: 4096}, Oldest)
	list := make([]Place[int], 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := &list[i%len(list)]
		tab.Leave(p)
		tab.Take(p, Peer{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, 1)
	}
}
