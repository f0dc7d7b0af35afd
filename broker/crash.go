package broker

import (
	"fmt"
	"time"

	"noctule/broker/crash"
	"noctule/broker/line"
	"noctule/wsnet"
)

// What a loop knows of whose packet it was when something panics; broker/crash reports it.

// crashed is wsnet's OnCrash.
func (b *Broker) crashed(c wsnet.Crash) {
	loop := crash.OffLoops
	if c.Loop != nil {
		loop = c.Loop.Index()
	}
	b.crash.Report(loop, func() string {
		if c.Loop == nil {
			return "in a handshake or the transport of " + line.Addr(c.Peer, "")
		}
		return doing(c.Loop.Handler().(*shard), c.Conn)
	}, c.Value, c.Stack)
}

// Crashed tells the log and stderr of a panic that the caller's goroutine has recovered from and is about to
// go on with: what says what it was doing. The loops stop for good. Any goroutine but a loop's may call it.
func (b *Broker) Crashed(what string, value any, stack []byte) {
	b.crash.Report(crash.OffLoops, func() string { return what }, value, stack)
}

// stopLoops has each loop but one stop for good before its next task.
func (b *Broker) stopLoops(except int) {
	for _, s := range b.shards {
		if s.index != except {
			s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { select {} }))
		}
	}
}

// doing says what the loop is doing for a client, c being the connection that it serves, if it does.
func doing(s *shard, c *wsnet.Conn) string {
	x := crash.Scene{Handling: s.handling, Topic: s.pub.Topic, Message: s.router.Live.Message()}
	if x.Conn != nil {
		x.Who = whoOf(s, x.Conn)
		_, x.Known = x.Conn.Attachment.(*client)
	}
	x.FromWhom = func() string { return s.b.whose(s, x.Message.Publisher) }
	switch text := x.String(); {
	case text != "":
		return text
	case c != nil:
		return "while serving " + whoOf(s, c)
	}
	return "in no client's packet"
}

// whoOf is the client of a connection.
func whoOf(s *shard, c *wsnet.Conn) string {
	switch a := c.Attachment.(type) {
	case *client:
		return crash.Client(a.id, line.Peer(c))
	case *greeting:
		if a.waits != nil {
			return crash.Client(a.waits.ClientID, line.Peer(c))
		}
	}
	if name := s.departed.Find(0, c.ID()); name != "" {
		return name
	}
	return fmt.Sprintf("a client before CONNECT [%s]", line.Peer(c))
}

// whose names the session that has a number; it may be of any loop. Shard s asks.
func (b *Broker) whose(s *shard, number uint64) string {
	if number == 0 {
		return "no client"
	}
	if name := named(s, number); name != "" {
		return name
	}
	answers := make(chan string, len(b.shards))
	for _, o := range b.shards {
		if o != s {
			o.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { answers <- named(o, number) }))
		}
	}
	end := time.NewTimer(crash.AskPatience)
	defer end.Stop()
	for range len(b.shards) - 1 {
		select {
		case name := <-answers:
			if name != "" {
				return name
			}
		case <-end.C:
			return "a client whose loop does not answer"
		}
	}
	return "a client whose session has ended"
}

// named is the client of a session of this loop; "" if it has none of that number.
func named(s *shard, number uint64) string {
	for _, cl := range s.sessions {
		if cl.number == number && cl.conn != nil {
			return whoOf(s, cl.conn)
		}
	}
	if name := s.departed.Find(number, 0); name != "" {
		return name
	}
	for _, cl := range s.sessions {
		if cl.number == number {
			return fmt.Sprintf("client %q, which is offline", cl.id)
		}
	}
	return ""
}
