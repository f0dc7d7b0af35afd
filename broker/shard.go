package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"noctule/broker/admit"
	"noctule/broker/auth"
	"noctule/broker/crash"
	"noctule/broker/durable"
	"noctule/broker/fanout"
	"noctule/broker/grants"
	"noctule/broker/line"
	"noctule/broker/message"
	"noctule/broker/offer"
	"noctule/broker/reason"
	"noctule/broker/retained"
	"noctule/broker/route"
	"noctule/broker/session"
	"noctule/broker/sys"
	"noctule/broker/tally"
	"noctule/codec"
	"noctule/internal/memguard"
	"noctule/internal/ring"
	"noctule/internal/wheel"
	"noctule/wsnet"
)

// shard is the part of the broker that lives on one event loop. Nothing in it is locked: only the loop's
// goroutine touches it, and others post to the loop.
type shard struct {
	// Set by newShard, then read-only:
	b         *Broker
	loop      *wsnet.Loop
	index     int
	receivers *fanout.Table[*client] // of what this loop has subscribers for
	router    *route.Router[*client] // which brings messages to them, and to other loops
	grants    *grants.Table[*client] // what servers have given sessions

	// Owned by the loop:
	opts     *Options // in force; never written, only replaced
	limits   session.Limits
	totals   session.Totals // of sessions
	debug    bool           // log_type debug is on
	logSubs  bool           // log_type subscribe is on
	sessions map[string]*client
	greeting ring.Ring[*greeting] // connections that have not sent CONNECT, oldest first
	timers   *wheel.Wheel[*alarm]
	fence    retained.Fence[*client, *wsnet.Conn]
	covering auth.Uncovered[*client]
	leaving  ring.Ring[*client]    // sessions that have ended and still have subscriptions
	relays   route.Relays          // hear of what is published
	told     *client               // whose packet is handled with answers; nil mostly
	renewals map[*client]*renewal  // who authenticates again; nil until somebody does
	expiring ring.Ring[*client]    // whose time is over, and who are still to be told
	unread   ring.Ring[func()]     // what waits as long as no socket is read
	checking *auth.Review[*client] // what a reload has left to do; nil: nothing
	halted   int                   // reasons to leave sockets unread
	count    tally.Counters
	journal  *durable.Journal // nil without a store
	late     durable.Late[*client]
	away     *durable.Fetcher[*client] // nil unless max_queued_memory sets a bound
	sys      *sys.Reporter             // shard 0 only
	probe    memguard.Probe            // of the process's memory
	sweeper  retained.Sweep            // shard 0 only

	// Owned by the loop, scratch of the current packet:
	stored    message.Heads   // of a message that comes out of a queue
	pub       message.Message // loan of the PUBLISH being handled
	publish   codec.Publish
	connect   codec.Connect
	subs      codec.Subscribe
	unsubs    codec.Unsubscribe
	codes     []codec.Reason
	props     codec.Properties
	publisher *wsnet.Conn        // whose PUBLISH or PUBREL is handled
	handling  crash.Handling     // for the report of a panic
	departed  crash.Departures   // for the report of a panic
	fresh     []*retained.Replay // of the SUBSCRIBE being handled

	// Owned by the loop, scratch for clients of mount points:
	topic    []byte          // of the PUBLISH being handled
	bare     message.Message // the message being delivered, without the mount point
	stripped message.Heads   // of bare
}

// greeting is the Attachment of a connection until its CONNECT.
type greeting struct {
	conn     *wsnet.Conn
	deadline int64 // Unix ms
	done     bool
	asked    bool // its client has a challenge to answer

	waits *admit.Case // its CONNECT waits for an answer; nil mostly
}

// connectTimeout is how long a connection may stay silent before CONNECT, in milliseconds.
const connectTimeout = 20000

// watchLevels notes which of the levels that cost something are on, and whether connections have lines.
func (s *shard) watchLevels() {
	if s.index == 0 {
		s.b.knocks.Silence(!s.opts.ConnectionMessages)
	}
	s.debug = s.opts.Log.Enabled(context.Background(), LevelDebug)
	s.logSubs = s.opts.Log.Enabled(context.Background(), LevelSubscribe)
}

// Opened implements wsnet.Handler.
func (s *shard) Opened(c *wsnet.Conn) {
	s.loop.MustBeHere()
	s.count.Accepted++
	if s.refuseSocket(c) {
		return
	}
	if s.opts.ConnectionMessages {
		s.announce(c)
	}
	g := &greeting{conn: c, deadline: s.loop.Now() + connectTimeout}
	c.Attachment = g
	s.greeting.Push(g)
}

// announce logs a new connection. One through a proxy is not worth a line, unless it tells of TLS.
func (s *shard) announce(c *wsnet.Conn) {
	if c.Listener().Config().ProxyProtocol == 0 {
		s.logf(LevelNotice, "New connection from %s on port %d.", line.Peer(c), line.PortOf(c.Listener()))
		return
	}
	if h := c.Proxied(); h != nil && h.TLS != nil {
		t := h.TLS
		s.logf(LevelNotice, "Connection from %s negotiated %s cipher %s", line.Peer(c), t.Version, t.Cipher)
	}
}

// Data implements wsnet.Handler: it handles every whole packet in b.
func (s *shard) Data(c *wsnet.Conn, b []byte) (used, need int) {
	s.loop.MustBeHere()
	s.handling.Conn = c
	used, need = s.packets(c, b)
	s.handling = crash.Handling{}
	return used, need
}

func (s *shard) packets(c *wsnet.Conn, b []byte) (used, need int) {
	for {
		s.handling.Packet = b[used:]
		h, err := codec.ParseHeader(b[used:])
		cl, connected := c.Attachment.(*client)
		if err != nil {
			h, err = header31(cl, h, err, b[used:])
		}
		switch {
		case errors.Is(err, codec.ErrShort):
			return used, 0
		case err == nil && (connected || h.Type == codec.CONNECT || h.Type == codec.AUTH):
			err = offer.CheckSize(h, s.opts.MaxPacketSize)
		}
		if err != nil || !connected && h.Type != codec.CONNECT && !challenged(c) {
			s.refuseHeader(c, cl, h, err)
			return len(b), 0
		}
		total := h.Size + h.Len
		if len(b)-used < total {
			return used, total
		}
		body := b[used+h.Size : used+total]
		used += total
		s.count.PacketsIn++
		s.count.BytesIn += int64(total)
		if !connected {
			if s.greeted(c, h, body) {
				return used, 0
			}
			continue
		}
		cl.lastSeen = uint32(s.seconds())
		s.journal.Begin()
		if err := cl.handle(h, body); err != nil && s.failed(cl, err, total) {
			return used - total, 0
		}
		if s.told == cl {
			cl.forgetAnswers()
		}
		if cl.conn != c {
			return len(b), 0
		}
		if c.Held() {
			return used, 0
		}
	}
}

// greeted handles a packet of a connection that has no session yet; true means that the connection is no
// longer this loop's to read.
func (s *shard) greeted(c *wsnet.Conn, h codec.Header, body []byte) bool {
	if challenged(c) {
		s.handleReply(c, h, body)
		return true
	}
	return s.handleConnect(c, h, body)
}

// failed ends a client whose packet has come to an error; true if it is that somebody is asked about the
// packet, of so many bytes, which then comes again, with the answer.
func (s *shard) failed(cl *client, err error, size int) bool {
	if !errors.Is(err, errAsked) {
		cl.fail(err)
		return false
	}
	s.count.PacketsIn--
	s.count.BytesIn -= int64(size)
	return true
}

// header31 reads a fixed header that is none by MQTT 3.1.1 once more, if it may be one of MQTT 3.1.
func header31(cl *client, h codec.Header, err error, b []byte) (codec.Header, error) {
	if !flagsUnused(cl, h) {
		return h, err
	}
	return codec.ParseHeader31(b)
}

// flagsUnused reports whether the packet may come from a client of MQTT 3.1: cl, or one that is about to
// connect.
func flagsUnused(cl *client, h codec.Header) bool {
	if cl == nil {
		return h.Type == codec.CONNECT
	}
	return cl.version == codec.V31
}

// refuseHeader ends a connection whose next packet must not even be read.
func (s *shard) refuseHeader(c *wsnet.Conn, cl *client, h codec.Header, err error) {
	switch {
	case cl != nil:
		cl.fail(err)
	case bytes.HasPrefix(s.handling.Packet, []byte("GET ")): // no packet begins so
		s.b.knocks.Say(c.RemoteAddr().Addr(), "Protocol error from %s: First packet not CONNECT (71). "+
			"It is HTTP: WebSocket needs a listener with protocol websockets.", line.Peer(c))
		s.turnDown(c, nil, RefusedNotConnect, "protocol error", errNotConnect)
	case err == nil && h.Type != codec.CONNECT:
		s.b.knocks.Say(c.RemoteAddr().Addr(), "Protocol error from %s: First packet not CONNECT (%d).",
			line.Peer(c), byte(h.Type)<<4|h.Flags)
		s.turnDown(c, nil, RefusedNotConnect, "protocol error", errNotConnect)
	case h.Type == codec.CONNECT && h.Flags == tlsHello&0x0F && c.TLS() == nil:
		s.b.knocks.Say(c.RemoteAddr().Addr(),
			"Client from %s appears to be using TLS to connect to a non-TLS listener.", line.Peer(c))
		s.turnDown(c, nil, RefusedNotConnect, "protocol error", errNotConnect)
	default:
		why := RefusedNotConnect
		if h.Type == codec.CONNECT {
			why = reason.RefusalOf(&codec.Connect{}, reason.Of(err), s.opts.MaxKeepAlive)
		}
		s.turnDown(c, nil, why, reason.CloseText(reason.Of(err)), errNotConnect)
	}
}

// tlsHello is the first byte of a TLS connection; as MQTT it is a CONNECT with illegal flags.
const tlsHello = 0x16

var errNotConnect = errors.New("broker: first packet is not a valid CONNECT")

// handle dispatches one packet of a connected client. An error ends the connection.
func (c *client) handle(h codec.Header, body []byte) error {
	switch h.Type {
	case codec.PUBLISH:
		return c.handlePublish(h, body)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		return c.handleAck(h, body)
	case codec.PINGREQ:
		if len(body) > 0 {
			return malformed(h.Type, "body is not empty")
		}
		c.shard.debugf("Received PINGREQ from %s", c)
		c.shard.debugf("Sending PINGRESP to %s", c)
		c.sent(2)
		codec.AppendPingresp(c.reserveNow(2)[:0])
		return c.checkOutput()
	case codec.SUBSCRIBE:
		return c.handleSubscribe(h, body)
	case codec.UNSUBSCRIBE:
		return c.handleUnsubscribe(h, body)
	case codec.DISCONNECT:
		return c.handleDisconnect(h, body)
	case codec.AUTH:
		return c.handleAuth(h, body)
	default: // a second CONNECT [MQTT-3.1.0-2], and what only servers send
		return &codec.Error{
			Reason: codec.ProtocolError,
			Packet: h.Type,
			Detail: "not allowed from a connected client",
		}
	}
}

// checkOutput ends a client that makes the broker answer and does not read. Messages in transit do not
// count: their number has limits of its own, and a client on a slow line must be able to ping meanwhile.
func (c *client) checkOutput() error {
	if int(c.answers) <= c.shard.opts.MaxBufferedBytes {
		return nil
	}
	c.answers = int32(min(int(c.answers), c.buffered()))
	if int(c.answers) > 4*c.shard.opts.MaxBufferedBytes {
		return &codec.Error{Reason: codec.QuotaExceeded, Detail: "answers are not read"}
	}
	return nil
}

// Closed implements wsnet.Handler.
func (s *shard) Closed(c *wsnet.Conn, reason error) {
	s.loop.MustBeHere()
	switch a := c.Attachment.(type) {
	case *greeting:
		var id []byte
		if a.waits != nil {
			a.waits.Withdraw()
			id = []byte(a.waits.ClientID)
		}
		if (a.waits != nil || !a.done) && !errors.Is(reason, wsnet.ErrRefused) {
			s.logLost(c, id, reason)
		}
		a.done = true
	case *client:
		if a.conn == c {
			a.lost(reason)
			s.EndTurn() // it was called before this: a will must not wait for the next turn
		}
	}
	c.Attachment = nil
}

// Drained implements wsnet.DrainHandler.
func (s *shard) Drained(c *wsnet.Conn) {
	s.loop.MustBeHere()
	if cl, ok := c.Attachment.(*client); ok && cl.conn == c {
		cl.Continue(s.loop.Now(), cl)
		cl.updateFull()
		cl.replayRetained()
	}
}

// InputGaveWay implements wsnet.InputHandler: MQTT 5 clients hear why.
func (s *shard) InputGaveWay(c *wsnet.Conn) {
	s.loop.MustBeHere()
	if cl, ok := c.Attachment.(*client); ok && cl.conn == c {
		cl.fail(&codec.Error{Reason: codec.QuotaExceeded, Detail: "packets of all clients are too large"})
	}
}

// EndTurn implements wsnet.TurnHandler: what other shards must know leaves before any socket is written, so
// that a SUBACK is never ahead of its effect.
func (s *shard) EndTurn() {
	s.loop.MustBeHere()
	s.postJournal() // what others will refer to
	s.router.Post()
	s.endFence() // behind the messages
	s.readAway()
	s.watchMemory()
	checkInvariants(s, false)
}

// expireEach is how many denials that have ended are taken out in a tick.
const expireEach = 256

// Tick implements wsnet.TurnHandler.
func (s *shard) Tick(now int64) {
	s.loop.MustBeHere()
	for s.greeting.Len() > 0 {
		g := *s.greeting.At(0)
		if !g.done && g.deadline > now {
			break
		}
		s.greeting.Pop()
		if !g.done {
			s.turnDown(g.conn, nil, RefusedTimeout, reason.CloseText(codec.KeepAliveTimeout), errTimeout)
		}
	}
	s.timers.Advance(now/1000, s.timer)
	s.grants.Expire(now)
	s.away.Retry()
	s.answerLate(0, now)
	if s.index == 0 {
		s.b.denials.Expire(expireEach)
		s.watchClock()
		s.sampleMemory()
		s.b.knocks.Rest()
		if s.sys != nil {
			s.sys.Tick(s.b.clock.Wall(now) / 1000)
		}
		s.sweeper.Step(s.b.retained, now, func(m *message.Message) {
			s.b.retained.Forget(m, s.retainLog(m.Topic))
		})
	}
	checkInvariants(s, true)
}

var (
	errTimeout = errors.New("broker: exceeded timeout")
	errMemory  = errors.New("broker: memory_limit exceeded")
)

// seconds is the time of this turn; it may be up to a second later.
func (s *shard) seconds() int64 { return s.loop.Now() / 1000 }

// secondsUp is the first whole second that is not before the time of this turn: where an interval begins
// that must not end too early.
func (s *shard) secondsUp() int64 { return (s.loop.Now() + 999) / 1000 }

// wholeSeconds is an interval in seconds, a part of one counted as one.
func wholeSeconds(d time.Duration) int64 {
	n := int64(d / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return n
}

// halt stops and resumes reading from this loop's sockets; halts nest.
func (s *shard) halt(on bool) {
	s.loop.MustBeHere()
	if on {
		s.halted++
	} else {
		s.halted--
	}
	s.loop.PauseReads(s.halted > 0)
	if s.halted == 0 && s.unread.Len() > 0 {
		s.loop.Again(unreadTask{})
	}
}

// reading runs f when sockets are read, behind what has waited for that before: what others but clients want
// of the loop waits as they do.
func (s *shard) reading(f func()) {
	if s.halted > 0 || s.unread.Len() > 0 {
		s.unread.Push(f)
		return
	}
	f()
}

// unreadTask goes on with what has waited.
type unreadTask struct{}

// Run implements wsnet.Task.
func (unreadTask) Run(l *wsnet.Loop) {
	s := l.Handler().(*shard)
	for n := s.unread.Len(); n > 0 && s.halted == 0; n-- {
		s.unread.Pop()()
	}
	if s.unread.Len() > 0 && s.halted == 0 {
		l.Again(unreadTask{})
	}
}

func (s *shard) logf(level slog.Level, format string, args ...any) {
	line.Write(s.opts.Log, level, format, args...)
}

func (s *shard) debugf(format string, args ...any) {
	if s.debug {
		line.Write(s.opts.Log, LevelDebug, format, args...)
	}
}

// post runs f on the loop; for what is bounded by its cause.
func (s *shard) post(f func()) { s.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { f() })) }

// watchClock looks whether the system's clock has been set. Shard 0 only.
func (s *shard) watchClock() {
	moved, note := s.b.clock.Watch()
	if moved != 0 {
		s.logf(LevelNotice,
			"The system's clock has moved by %s (set, or asleep); intervals go on as they were.",
			moved.Round(time.Second))
		for _, o := range s.b.shards {
			o.loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { o.clockMoved() }))
		}
	}
	if note {
		s.noteClock()
	}
}

// noteClock tells the store what the time is. Shard 0 only.
func (s *shard) noteClock() {
	r := s.b.clock.Record()
	if s.journal != nil {
		s.journal.Batch.PutClock(r)
	}
}

// watchMemory measures under load, at the end of a turn; whichever loop comes first does.
func (s *shard) watchMemory() {
	s.loop.MustBeHere()
	if s.b.memory.Due(s.loop.Now()) {
		s.sampleMemory()
	}
}

// sampleMemory looks whether memory is short.
func (s *shard) sampleMemory() {
	s.loop.MustBeHere()
	g := &s.b.memory
	turn := g.Sample(&s.probe, s.loop.Now())
	switch n := g.Numbers(); turn {
	case memguard.Short:
		s.logf(LevelWarning, "Warning: memory_limit: %d of %d bytes are used. New clients are refused "+
			"and messages are not queued.", n.Used, n.Limit)
	case memguard.Enough:
		s.logf(LevelNotice, "memory_limit: %d of %d bytes are used. Clients and messages are taken "+
			"again.", n.Used, n.Limit)
	case memguard.Same:
	}
}
