package broker

import (
	"bytes"
	"context"
	"errors"
	"time"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// What a client may do can be somebody else's to say, who takes time to answer (auth.Asker). Then the
// client's connection is held with the packet unread, and the question goes to a pool off the loops, which is
// bounded and fair between addresses; all others go on. With the answer the packet is read again, and the
// answers are there for it and for nothing else. Without an answer, or where too many wait, the connection
// ends, so that nothing is acknowledged that was not passed on: the client can come again.

// AskTimeout bounds the time in which an auth.Asker answers about one packet.
const AskTimeout = 20 * time.Second

// askWorkers is how many questions are asked at once.
const askWorkers = 64

// errAsked says that a packet waits for an answer, and comes again.
var errAsked = errors.New("broker: somebody has to be asked")

// answer is one that the packet needs that comes again.
type answer struct {
	access  auth.Access
	topic   []byte
	allowed bool
}

// answered reports whether somebody was asked, and has said yes.
func (c *client) answered(a auth.Access, topic []byte) bool {
	x := c.answer(a, topic)
	return x != nil && x.allowed
}

// answer is what there is of one question; nil if nothing.
func (c *client) answer(a auth.Access, topic []byte) *answer {
	if c.rare == nil || c.rare.answers == nil {
		return nil
	}
	list := *c.rare.answers
	for i := range list {
		if x := &list[i]; x.access == a && bytes.Equal(x.topic, topic) {
			return x
		}
	}
	return nil
}

// asks reports whether the client's rules may have to ask somebody.
func (c *client) asks() bool {
	r := c.rights()
	return r != nil && r.Permissions.Asks()
}

// mustAsk, for a client that asks, reports whether something of a packet is for somebody else to say, which
// has not been asked yet. Then the connection is held, and the packet is to be left unread.
func (s *shard) mustAsk(cl *client, a auth.Access, topics ...[]byte) bool {
	r := cl.rights()
	var open []answer
	for _, topic := range topics {
		if cl.answer(a, topic) == nil && r.Permissions.Open(a, topic) {
			open = append(open, answer{access: a, topic: bytes.Clone(topic)})
		}
	}
	if open == nil {
		return false
	}
	conn, perms := cl.conn, r.Permissions
	conn.Hold()
	peer := peer(conn)
	finish := func(known bool, why codec.Reason) {
		s.post(func() { s.settleAnswers(cl, conn, open, known, why) }) // one a connection
	}
	ok := s.b.asking.Submit(auth.Job{
		Address: conn.RemoteAddr().Addr(), Trusted: conn.Local(), Bytes: answersSize(open),
		Work: func() bool {
			defer s.b.guard(func() string { return askingText(cl.id, peer) })
			ctx, cancel := context.WithTimeout(context.Background(), AskTimeout)
			defer cancel()
			known := true
			for i := range open {
				if known {
					open[i].allowed, known = perms.Resolve(ctx, a, open[i].topic)
				}
			}
			finish(known, codec.ServerBusy)
			return false
		},
		Refuse: func(why codec.Reason) { finish(false, why) },
	})
	if !ok {
		finish(false, codec.ServerBusy)
	}
	return true
}

func answersSize(list []answer) (n int) {
	for i := range list {
		n += 64 + len(list[i].topic)
	}
	return n
}

// settleAnswers lets a connection go on whose packet was asked about.
func (s *shard) settleAnswers(cl *client, conn *wsnet.Conn, list []answer, known bool, why codec.Reason) {
	if cl.conn != conn { // it has ended meanwhile
		return
	}
	if !known {
		s.fail(cl, &codec.Error{Reason: why, Detail: "nobody says what the client may do"})
		return
	}
	conn.Release(s.loop, wsnet.TaskFunc(func(*wsnet.Loop) {
		cl.lastSeen = uint32(s.seconds())
		if old := cl.extra().answers; old != nil { // the rules have changed meanwhile
			list = append(list, *old...)
		}
		cl.rare.answers = &list
		s.told = cl
	}))
}

// forgetAnswers ends the packet that has come again.
func (s *shard) forgetAnswers() {
	cl := s.told
	s.told = nil
	if cl.rare != nil {
		cl.rare.answers = nil
		cl.settle()
	}
}

// unread takes back what was counted of a packet that comes again.
func (s *shard) unread(n int) {
	s.count.packetsIn--
	s.count.bytesIn -= int64(n)
}

// filterNames are the filters of a SUBSCRIBE as the broker knows them.
func filterNames(cl *client, p *codec.Subscribe) [][]byte {
	list := make([][]byte, len(p.Filters))
	for i := range p.Filters {
		list[i] = cl.mounted(p.Filters[i].Name)
	}
	return list
}

// mountedNames are those of an UNSUBSCRIBE.
func mountedNames(cl *client, names [][]byte) [][]byte {
	list := make([][]byte, len(names))
	for i, name := range names {
		list[i] = cl.mounted(name)
	}
	return list
}
