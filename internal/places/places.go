// Package places shares what there is a bounded amount of, so that no address can use up what others need.
// Who comes takes a place of some weight in a table. The table counts by address: IPv4 addresses one by one,
// IPv6 by /64 within /56 within /48, since a host has a /64 at least and a customer up to a /48. When the
// table is full, the holder of most gives way, looked for from the widest network down: who holds little gets
// a place however many others want one. Every step takes O(log n), and a table is as large as the places in
// it.
package places

import "net/netip"

// Order says which place of the address that holds most gives way.
type Order uint8

// Orders.
const (
	Newest  Order = iota // for work that waits its turn: who came first is served first
	Oldest               // for clients that have something to show: who took long gives way
	Largest              // for memory
)

// Peer is who takes a place.
type Peer struct {
	// Addr is zero for unix sockets, which count as one address.
	Addr netip.Addr
	// Trusted says that the peer is of this machine and may stand for many, as a proxy does: only the total
	// limits it. All of them count as one address, which is nobody else's.
	Trusted bool
}

// Limits are weights.
type Limits struct {
	Total   int64
	Address int64 // of an IPv4 address or an IPv6 /64; 0 means no limit
	Net56   int64 // of an IPv6 /56; 0 means no limit
	Net48   int64 // of an IPv6 /48; 0 means no limit
}

// Shares is limits by which one address has at most a part of the total, a /56 twice and a /48 four times as
// much.
func Shares(total, parts int64) Limits {
	share := max(1, total/parts)
	return Limits{Total: total, Address: share, Net56: min(2*share, total), Net48: min(4*share, total)}
}

// Verdict is what becomes of one who comes.
type Verdict uint8

// Verdicts.
const (
	Taken       Verdict = iota
	AddressFull         // the address, or its network, holds as much as it may
	Full                // all is taken, and nobody holds more than the address of the newcomer
)

// Table is places by address. Whoever owns it guards it.
//
// Invariants: the weight of a node is the sum of its children's, a node but the root has children or is a
// place; among siblings the first is the one that gives way.
type Table[T any] struct {
	limits Limits
	order  Order
	root   node[T]
	nets   map[netip.Prefix]*node[T]
	stamp  int64
	held   int
}

// Place is one place. It may be taken again after it was left.
type Place[T any] struct {
	Value T
	node  node[T]
}

// node is a place, an address, or a network.
type node[T any] struct {
	parent   *node[T]
	net      netip.Prefix // of an address or a network
	place    *Place[T]    // nil for addresses and networks
	weight   int64
	stamp    int64 // when a place was last taken here
	at       int   // among the parent's children
	children []*node[T]
}

// New returns an empty table.
func New[T any](limits Limits, order Order) *Table[T] {
	return &Table[T]{limits: limits, order: order, nets: make(map[netip.Prefix]*node[T])}
}

// Weight is that of all places, Len their number.
func (t *Table[T]) Weight() int64 { return t.root.weight }

// Len is the number of places.
func (t *Table[T]) Len() int { return t.held }

// Of is what an address holds.
func (t *Table[T]) Of(from Peer) int64 {
	list, n := lineage(from)
	if x := t.nets[list[n-1].net]; x != nil {
		return x.weight
	}
	return 0
}

// Take takes place p, of at least weight 1, if its address may have it. Those who must give way for it have
// lost their places when Take returns.
func (t *Table[T]) Take(p *Place[T], from Peer, weight int64) (gone []*Place[T], v Verdict) {
	if !t.May(from, weight) {
		return nil, AddressFull
	}
	t.Put(p, from, weight)
	for t.Over() {
		m := t.Most()
		t.Leave(m)
		if m == p {
			return gone, Full
		}
		gone = append(gone, m)
	}
	return gone, Taken
}

// Over says that there is more than the total.
func (t *Table[T]) Over() bool { return t.root.weight > t.limits.Total }

// May says that the limits of an address leave room for so much more. Who holds nothing may have one place,
// however large.
func (t *Table[T]) May(from Peer, more int64) bool { return t.Blocking(from, more) == nil }

// Put takes a place without asking for limits.
func (t *Table[T]) Put(p *Place[T], from Peer, weight int64) {
	t.stamp++
	t.held++
	parent := &t.root
	list, n := lineage(from)
	for _, l := range list[:n] {
		x := t.nets[l.net]
		if x == nil {
			x = &node[T]{parent: parent, net: l.net}
			t.nets[l.net] = x
			t.adopt(parent, x)
		}
		parent = x
	}
	p.node = node[T]{parent: parent, place: p}
	t.adopt(parent, &p.node)
	t.add(&p.node, weight, t.stamp)
}

// Grow changes the weight of a place that is taken.
func (t *Table[T]) Grow(p *Place[T], by int64) { t.add(&p.node, by, p.node.stamp) }

// Held says that a place is taken.
func (p *Place[T]) Held() bool { return p.node.parent != nil }

// Weight is what a place that is taken weighs.
func (p *Place[T]) Weight() int64 { return p.node.weight }

// Most is the place that would give way; nil if none is taken.
func (t *Table[T]) Most() *Place[T] { return t.root.first() }

// Blocking is the place that would give way of the address or network whose limit leaves no room for so much
// more; nil if there is room.
func (t *Table[T]) Blocking(from Peer, more int64) *Place[T] {
	if from.Trusted {
		return nil
	}
	list, n := lineage(from)
	for _, l := range list[:n] {
		x, limit := t.nets[l.net], t.limit(l)
		if x != nil && limit > 0 && x.weight+more > limit {
			return x.first()
		}
	}
	return nil
}

// first is the place below x that gives way.
func (x *node[T]) first() *Place[T] {
	for len(x.children) > 0 {
		x = x.children[0]
	}
	return x.place
}

// Leave gives a place up, if it is taken.
func (t *Table[T]) Leave(p *Place[T]) {
	if !p.Held() {
		return
	}
	t.held--
	t.add(&p.node, -p.node.weight, 0)
	for x := &p.node; x.parent != nil && len(x.children) == 0; {
		parent := x.parent
		t.disown(parent, x)
		if x.place == nil {
			delete(t.nets, x.net)
		}
		x.parent = nil
		x = parent
	}
}

// add changes the weight of a place and of all above it.
func (t *Table[T]) add(x *node[T], by, stamp int64) {
	for ; x != nil; x = x.parent {
		x.weight += by
		x.stamp = max(x.stamp, stamp)
		if x.parent != nil {
			t.settle(x.parent.children, x.at)
		}
	}
}

// before says that x gives way before y, a sibling. Among equals it is the one who came last, so that nobody
// is pushed out by one who is no better; by Oldest it is the one of whom nothing new was heard for longest.
func (t *Table[T]) before(x, y *node[T]) bool {
	if (x.place == nil || t.order == Largest) && x.weight != y.weight {
		return x.weight > y.weight
	}
	if t.order == Oldest {
		return x.stamp < y.stamp
	}
	return x.stamp > y.stamp
}

// adopt, disown and settle keep children as a heap.
func (t *Table[T]) adopt(parent, x *node[T]) {
	x.at = len(parent.children)
	parent.children = append(parent.children, x)
	t.settle(parent.children, x.at)
}

func (t *Table[T]) disown(parent, x *node[T]) {
	list, last := parent.children, len(parent.children)-1
	i := x.at
	list[i] = list[last]
	list[i].at = i
	list[last] = nil
	parent.children = list[:last]
	if i < last {
		t.settle(parent.children, i)
	}
	if last == 0 {
		parent.children = nil
	}
}

func (t *Table[T]) settle(list []*node[T], i int) {
	swap := func(i, j int) {
		list[i], list[j] = list[j], list[i]
		list[i].at, list[j].at = i, j
	}
	for i > 0 && t.before(list[i], list[(i-1)/2]) {
		swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		first := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(list); c++ {
			if t.before(list[c], list[first]) {
				first = c
			}
		}
		if first == i {
			return
		}
		swap(i, first)
		i = first
	}
}

// level is a network to which an address belongs.
type level struct {
	net  netip.Prefix
	bits int // of IPv6 networks; 0 for an IPv4 address
}

// lineage is the networks of a peer, the widest first.
func lineage(from Peer) (list [3]level, n int) {
	a := from.Addr.Unmap().WithZone("")
	switch {
	case from.Trusted:
		return list, 1
	case !a.IsValid():
		a = netip.IPv6Unspecified()
		fallthrough
	case a.Is4(), a.IsLoopback():
		list[0].net = netip.PrefixFrom(a, a.BitLen())
		return list, 1
	}
	for i, bits := range [...]int{48, 56, 64} {
		net, _ := a.Prefix(bits) // has so many
		list[i] = level{net, bits}
	}
	return list, 3
}

// Net is what has a turn of its own: p with an IPv4 address, or the first of an IPv6 /48.
func (p Peer) Net() Peer {
	list, _ := lineage(p)
	return Peer{list[0].net.Addr(), p.Trusted}
}

// Key is what counts as one address: p with an IPv4 address, or the first of an IPv6 /64.
func (p Peer) Key() Peer {
	list, n := lineage(p)
	return Peer{list[n-1].net.Addr(), p.Trusted}
}

func (t *Table[T]) limit(l level) int64 {
	switch l.bits {
	case 48:
		return t.limits.Net48
	case 56:
		return t.limits.Net56
	}
	return t.limits.Address
}
