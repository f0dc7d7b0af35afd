package admit

import (
	"bytes"
	"context"
	"net/netip"
	"time"

	"noctule/broker/auth"
	"noctule/codec"
)

// AskTimeout bounds the time in which an auth.Asker answers about one packet.
const AskTimeout = 20 * time.Second

// askWorkers is how many questions are asked at once.
const askWorkers = 64

// Answers are what has been said about one packet, for which somebody had to be asked, and about nothing
// else. nil says nothing.
type Answers struct{ list []answer }

type answer struct {
	access  auth.Access
	topic   []byte
	allowed bool
}

// Allow reports whether somebody was asked, and has said yes.
func (a *Answers) Allow(access auth.Access, topic []byte) bool {
	x := a.find(access, topic)
	return x != nil && x.allowed
}

func (a *Answers) find(access auth.Access, topic []byte) *answer {
	if a == nil {
		return nil
	}
	for i := range a.list {
		if x := &a.list[i]; x.access == access && bytes.Equal(x.topic, topic) {
			return x
		}
	}
	return nil
}

// Question is what of a packet is for somebody else to say.
type Question struct {
	// Who asks, set by its caller:
	ClientID string
	Peer     string // its address, for the report of a panic
	Address  netip.Addr
	Trusted  bool // it is of this machine: auth.Login.Local

	access auth.Access
	rules  *auth.Permissions
	open   []answer
}

// Ask is the question about those topics, or filters, which the rules leave open and about which have says
// nothing; nil if there are none.
func (a *Answers) Ask(rules *auth.Permissions, access auth.Access, topics ...[]byte) *Question {
	var open []answer
	for _, topic := range topics {
		if a.find(access, topic) == nil && rules.Open(access, topic) {
			open = append(open, answer{access: access, topic: bytes.Clone(topic)})
		}
	}
	if open == nil {
		return nil
	}
	return &Question{access: access, rules: rules, open: open}
}

// Answers are what has been said, beside what was said before: the rules may have changed in between.
func (q *Question) Answers(before *Answers) *Answers {
	if before == nil {
		return &Answers{q.open}
	}
	return &Answers{append(q.open, before.list...)}
}

func (q *Question) size() (n int) {
	for i := range q.open {
		n += 64 + len(q.open[i].topic)
	}
	return n
}

// resolve asks, one topic after the other; false if somebody has not said yes or no.
func (q *Question) resolve(ctx context.Context) (known bool) {
	known = true
	for i := range q.open {
		if known {
			q.open[i].allowed, known = q.rules.Resolve(ctx, q.access, q.open[i].topic)
		}
	}
	return known
}

// Resolve asks. done is called once, maybe before Resolve returns: with Success when the question has its
// Answers, else with the reason for which it has none. Where too many wait, the newest of the address with
// most gives way.
func (d *Desk) Resolve(q *Question, done func(codec.Reason)) {
	ok := d.asking.Submit(auth.Job{
		Address: q.Address, Trusted: q.Trusted, Bytes: q.size(),
		Work: func() bool {
			defer d.cfg.Guard(func() string { return deciding(q.ClientID, q.Peer) })
			ctx, cancel := context.WithTimeout(context.Background(), AskTimeout)
			defer cancel()
			if q.resolve(ctx) {
				done(codec.Success)
			} else {
				done(codec.ServerBusy)
			}
			return false
		},
		Refuse: done,
	})
	if !ok {
		done(codec.ServerBusy)
	}
}
