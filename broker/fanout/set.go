package fanout

// Set is receivers that have many filters in common: a filter's crowd refers to it, so that a receiver costs
// one place here, however many filters there are. The zero value is ready.
type Set[C comparable] struct {
	members []C // nobody: left while a job is under way
	busy    int // jobs under way
	left    int // places that are nobody's
	turn    uint64
	moved   map[int]move[C]
}

// Ref is a set in the crowd of one of its filters.
type Ref[C comparable] struct {
	Set     *Set[C]
	SubID   uint32
	Options Options
}

// move is a member that left for another set during a job: jobs that began before still have to reach it.
type move[C any] struct {
	c    C
	turn uint64
}

func (r *Ref[C]) hit(c C) Hit[C] {
	return Hit[C]{Member: Member[C]{C: c, SubID: r.SubID, Options: r.Options}, By: r.Set}
}

// Len is the number of places.
func (x *Set[C]) Len() int { return len(x.members) }

// At is the receiver at a place, nobody if it has left while a job is under way.
func (x *Set[C]) At(at int) C { return x.members[at] }

// Enter adds a receiver and returns its place.
func (x *Set[C]) Enter(c C) int {
	x.members = append(x.members, c)
	return len(x.members) - 1
}

// Exit takes the receiver at a place of a set out; moves says that it is a member of another set from now on.
func (t *Table[C]) Exit(x *Set[C], at int, moves bool) {
	var nobody C
	c := x.members[at]
	if x.busy > 0 {
		x.members[at] = nobody
		x.left++
		if moves {
			if x.moved == nil {
				x.moved = make(map[int]move[C])
			}
			x.moved[at] = move[C]{c: c, turn: x.turn}
		}
		return
	}
	last := len(x.members) - 1
	if at != last {
		x.members[at] = x.members[last]
		x.members[at].PlacedIn(x, at)
	}
	x.members[last] = nobody
	x.members = x.members[:last]
}

// done ends a job; with the last one the gaps are closed.
func (t *Table[C]) done(x *Set[C]) {
	x.busy--
	if x.busy > 0 || x.left == 0 {
		return
	}
	var nobody C
	to := 0
	for _, c := range x.members {
		if c != nobody {
			x.members[to] = c
			c.PlacedIn(x, to)
			to++
		}
	}
	clear(x.members[to:])
	x.members, x.left, x.moved = x.members[:to], 0, nil
}
