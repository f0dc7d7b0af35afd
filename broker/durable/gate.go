package durable

// Gate is output of one connection that must not leave yet. The zero value is ready.
type Gate struct {
	buf   []byte
	from  int       // what is before has left
	parts []segment // oldest first
}

// segment is output up to a place, and the post it waits for.
type segment struct {
	post uint64
	end  int
}

// wait has what comes wait for a post; true if nothing did.
func (g *Gate) wait(post uint64) bool {
	if n := len(g.parts); n > 0 && g.parts[n-1].post == post {
		return false
	}
	g.parts = append(g.parts, segment{post: post, end: len(g.buf)})
	return true
}

// Reserve returns n bytes at the end, to be filled at once.
func (g *Gate) Reserve(n int) []byte {
	at := len(g.buf)
	g.buf = append(g.buf, make([]byte, n)...)
	g.parts[len(g.parts)-1].end = at + n
	return g.buf[at : at+n : at+n]
}

// Len is the number of bytes held.
func (g *Gate) Len() int { return len(g.buf) - g.from }

// First is the first byte held, if there is one.
func (g *Gate) First() (b byte, ok bool) {
	if g.Len() == 0 {
		return 0, false
	}
	return g.buf[g.from], true
}

// Last is the post that the last of it waits for.
func (g *Gate) Last() uint64 { return g.parts[len(g.parts)-1].post }

// Open lets out what waits for posts up to one: it is copied into what reserve returns. It reports whether
// nothing waits any more.
func (g *Gate) Open(post uint64, reserve func(n int) []byte) (over bool) {
	n, end := 0, g.from
	for ; n < len(g.parts) && g.parts[n].post <= post; n++ {
		end = g.parts[n].end
	}
	copy(reserve(end-g.from), g.buf[g.from:end])
	g.from = end
	g.parts = g.parts[n:]
	if len(g.parts) > 0 && g.from > len(g.buf)/2 {
		g.shift()
	}
	return len(g.parts) == 0
}

// shift gives the room of what has left to what comes.
func (g *Gate) shift() {
	by := g.from
	g.buf = g.buf[:copy(g.buf, g.buf[by:])]
	g.from = 0
	for i := range g.parts {
		g.parts[i].end -= by
	}
}
