package fanout

// Group is the members of one shared subscription, of whom each message goes to one: strict round robin that
// skips those who cannot take it now. The zero value is ready.
type Group[M comparable] struct {
	members []M
	next    int
}

// Len is the number of members.
func (g *Group[M]) Len() int { return len(g.members) }

// Page is some members, from a place on. It is read before the group changes.
func (g *Group[M]) Page(from, limit int) []M {
	n := len(g.members)
	return g.members[min(from, n):min(from+limit, n)]
}

// Join adds a member.
func (g *Group[M]) Join(m M) { g.members = append(g.members, m) }

// Leave takes a member out.
func (g *Group[M]) Leave(m M) {
	for i, x := range g.members {
		if x != m {
			continue
		}
		g.members = append(g.members[:i], g.members[i+1:]...)
		var none M
		g.members[:len(g.members)+1][len(g.members)] = none
		if g.next > i {
			g.next--
		}
		return
	}
}

// Deal finds the next member of the lowest rank, 0 being the best. One whose rank is none or more is passed
// over; false when all are.
func (g *Group[M]) Deal(none uint32, rank func(m M) uint32) (m M, ok bool) {
	n := len(g.members)
	best, bestRank := -1, none
	for i := range n {
		k := g.next + i
		if k >= n {
			k -= n
		}
		if r := rank(g.members[k]); r < bestRank {
			if best, bestRank = k, r; r == 0 {
				break
			}
		}
	}
	if best < 0 {
		return m, false
	}
	g.next = (best + 1) % n
	return g.members[best], true
}
