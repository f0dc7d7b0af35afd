package broker_test

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A small model of what retained, replay.go and fence.go agree on, walked through exhaustively: one publisher's loop, the
// subscriber's loop, one topic with its retained message, one filter. Each step here is one that the other loop can
// come between:
//
//	retains, numbers   retained.Index.Put: the index changes, then the mark follows
//	matches            index.Match: is the filter's bit of the subscriber's loop set; the envelope waits for the turn
//	ends its turn      EndTurn: Router.Post, then endFence's answers
//	enters             subscribePlain or exchange: the bit is set, the client is a member
//	marks              Queue.Begin or Replay.Give: mark, skip and fence; then endFence's question
//	takes mail         batch.Run, fenceAnswer.Run; with a large crowd startJob
//	a slice            sliceTask
//	begins, gives      Queue.Run; replaying.Give
//	unsubscribes       dropReplay; of a grant mute, which leaves what is still to come where it is
//	cut, connects      offline, resumeReplays
//
// The oracle is the client: for one subscription numbers never go back, none is left out, none comes twice but
// where a subscription was renewed, and at rest the last one is there. rules are what the code holds to; the
// search finds what goes wrong without each. Two more are there for less: that the mark follows the index is
// nothing that a replay sees, as its fence waits for the packet under way; that a replay in place of another leaves
// out what that one did (Begin) spares the client a copy that it may get.
//
// Not in the model: several topics, a subscription of the client's own beside a granted one, passages (package route),
// which are waited for as slices are, and the store. TestModelRetainedAndLive has them, at random.
type rules struct {
	IndexBeforeMatch  bool // the publisher changes the index before it matches
	EnterBeforeMark   bool // the subscriber is a member before it reads its mark
	SkipBeforeBegun   bool // Awaits: up to the mark live copies are left out
	SkipOnlyWhenFresh bool // but not of a subscription that was there before
	PassOver          bool // Give: what is above the mark comes live
	Fence             bool // the replay begins behind the round
	AnswerBehindMail  bool // endFence comes behind Router.Post
	BehindSlices      bool // Behind
	DropAtEnd         bool // dropReplay, Outdate: a subscription that is new has a new mark
	ResumedMark       bool // resumeReplays: QoS 0 that was lost meanwhile is the cursor's
	ResumedFence      bool // and waits for a round
}

// replayCase is what is the same in all states of a run.
type replayCase struct {
	rules
	granted bool // the subscription is made on the client's behalf
	other   bool // the subscriber's loop has another subscriber of the filter
	sliced  bool // the filter's crowd is large
	qos0    bool
	pubs    uint8
	ops     uint8 // of the client
	cuts    uint8
}

// lotModel is a replay, of a grant a lot.
type lotModel struct {
	there, fresh             bool
	mark, skip, fence, until uint8
	waits                    bool
}

type jobModel struct {
	n    uint8
	mine bool // the client was a member when it began
}

// replayState is one state. It is comparable.
type replayState struct {
	index, last uint8
	bit         bool

	// The publisher's loop:
	at              uint8 // steps of the message under way that are done; 3: the turn can end
	sent            uint8
	matched         [4]uint8
	matchedN        uint8
	question, asked bool

	mail  [8]uint8 // to the subscriber's loop; answer is a fence's answer
	mailN uint8

	// The subscriber's loop:
	entering            bool // between enter and mark
	wasNew              bool
	member, online      bool
	begun, passed       uint8
	missing, wanted     bool
	lots                [3]lotModel // oldest first; own subscriptions have one
	lotsN               uint8
	cursor              bool
	mark                uint8 // of the cursor
	queueFence, resumed uint8
	jobs                [4]jobModel
	jobsN, over         uint8

	// The client:
	got            uint8
	first          bool // nothing has come by this subscription yet
	gap            bool // the next number may be any above
	renewed, twice uint8
	lossy          bool // QoS 0 was lost while it was away, and nothing retained is to come
	opsDone, cutsN uint8
}

const answer = 255

// replayStep is a step that a state can take.
type replayStep struct {
	name string
	do   func(c *replayCase, s *replayState) bool // false: it is not possible
}

func (s *replayState) post(n uint8) {
	s.mail[s.mailN] = n
	s.mailN++
}

func (s *replayState) endSubscriberTurn() {
	if s.wanted && !s.missing {
		s.wanted, s.missing, s.question = false, true, true
		s.begun++
	}
}

func (s *replayState) wantRound() uint8 {
	s.wanted = true
	return s.begun + 1
}

type replayFault string

// arrive is the client that gets a number.
func (s *replayState) arrive(n uint8) {
	switch {
	case n < s.got:
		panic(replayFault(fmt.Sprintf("%d comes behind %d", n, s.got)))
	case n == s.got && s.first: // it had it by the subscription before
	case n == s.got:
		if s.twice++; s.twice > s.renewed {
			panic(replayFault(fmt.Sprintf("%d comes again", n)))
		}
	case s.got != 0 && n > s.got+1 && !s.gap:
		panic(replayFault(fmt.Sprintf("%d comes after %d", n, s.got)))
	default:
		s.twice = 0
	}
	s.got, s.first, s.gap, s.lossy = n, false, false, false
}

// live is deliverOwn or deliverGranted.
func (s *replayState) live(c *replayCase, n uint8) {
	if !s.member {
		return
	}
	for i := range s.lotsN {
		if l := &s.lots[i]; c.SkipBeforeBegun && n <= l.skip {
			return
		}
	}
	if c.qos0 && !s.online {
		s.gap, s.lossy = true, s.lotsN == 0 && !s.cursor
		return
	}
	s.arrive(n)
}

func (s *replayState) dropLot(i uint8) {
	copy(s.lots[i:], s.lots[i+1:])
	s.lotsN--
	s.lots[s.lotsN] = lotModel{}
}

// subscribed is newReplay and addReplays, or replayGranted.
func (s *replayState) subscribed(c *replayCase, fresh bool) {
	if c.granted && fresh && c.DropAtEnd { // outdate
		s.lots, s.lotsN, s.cursor = [3]lotModel{}, 0, false
	}
	if s.index == 0 {
		return
	}
	l := lotModel{there: true, fresh: fresh, mark: s.last}
	if fresh || !c.SkipOnlyWhenFresh {
		l.skip = l.mark
	}
	if c.granted {
		if s.lotsN > 0 { // already there
			return
		}
	} else {
		if s.lotsN > 0 {
			l.skip = max(l.skip, s.lots[0].skip)
		}
		s.lotsN, s.cursor = 0, false
	}
	l.fence = s.wantRound()
	s.lots[s.lotsN] = l
	s.lotsN++
}

var replaySteps = []replayStep{
	{"the publisher's loop goes a step on with a message", stepPublish},
	{"the publisher's loop ends its turn", stepEndTurn},
	{"the publisher's loop takes the question", func(_ *replayCase, s *replayState) bool {
		ok := s.question && (s.at == 0 || s.at == 3)
		if ok {
			s.question, s.asked = false, true
		}
		return ok
	}},
	{"the client subscribes", stepSubscribe},
	{"its loop reads the mark", stepMark},
	{"the client unsubscribes", stepUnsubscribe},
	{"the connection is cut", func(c *replayCase, s *replayState) bool {
		ok := s.online && !s.entering && s.cutsN < c.cuts
		if ok {
			s.online = false
			s.cutsN++
		}
		return ok
	}},
	{"the client connects", stepConnect},
	{"the subscriber's loop takes mail", stepMail},
	{"a slice is served", func(c *replayCase, s *replayState) bool {
		if s.jobsN == 0 || s.entering {
			return false
		}
		j := s.jobs[0]
		copy(s.jobs[:], s.jobs[1:])
		s.jobsN--
		s.jobs[s.jobsN] = jobModel{}
		s.over++
		if j.mine {
			s.live(c, j.n)
		}
		return true
	}},
	{"the replay begins", stepBegin},
	{"the cursor gives what is retained", stepGive},
}

// stepPublish is publishMessage, a step at a time.
func stepPublish(c *replayCase, s *replayState) bool {
	if s.at == 0 || s.at == 3 {
		if s.sent == c.pubs {
			return false
		}
		s.sent++
		s.at = 0
	}
	order := []func(){
		func() { s.index = s.sent },
		func() { s.last = s.sent },
		func() {
			if s.bit {
				s.matched[s.matchedN] = s.sent
				s.matchedN++
			}
		},
	}
	if !c.IndexBeforeMatch {
		order[0], order[1], order[2] = order[2], order[0], order[1]
	}
	order[s.at]()
	s.at++
	return true
}

// stepEndTurn is EndTurn of the publisher's loop.
func stepEndTurn(c *replayCase, s *replayState) bool {
	if s.at != 0 && s.at != 3 || s.matchedN == 0 && !s.asked {
		return false
	}
	if s.asked && !c.AnswerBehindMail {
		s.post(answer)
		s.asked = false
	}
	for _, n := range s.matched[:s.matchedN] {
		s.post(n)
	}
	if s.asked {
		s.post(answer)
	}
	s.matched, s.matchedN, s.asked, s.at = [4]uint8{}, 0, false, 0
	return true
}

func stepSubscribe(c *replayCase, s *replayState) bool {
	if !s.online || s.entering || s.opsDone == c.ops {
		return false
	}
	s.opsDone++
	if s.wasNew = !s.member; s.wasNew {
		s.first, s.renewed, s.twice = true, 0, 0
	} else {
		s.renewed++
	}
	s.entering = true
	if c.EnterBeforeMark {
		s.member, s.bit = true, true
	} else {
		s.subscribed(c, s.wasNew)
	}
	return true
}

func stepMark(c *replayCase, s *replayState) bool {
	if !s.entering {
		return false
	}
	if c.EnterBeforeMark {
		s.subscribed(c, s.wasNew)
	} else {
		s.member, s.bit = true, true
	}
	s.entering, s.wasNew = false, false
	s.endSubscriberTurn()
	return true
}

func stepUnsubscribe(c *replayCase, s *replayState) bool {
	if !s.online || s.entering || !s.member || s.opsDone == c.ops {
		return false
	}
	s.opsDone++
	s.member, s.gap = false, true
	s.bit = c.other || c.granted // the set stays planted
	for i := range s.jobsN {
		s.jobs[i].mine = false
	}
	if !c.granted && c.DropAtEnd {
		s.lots, s.lotsN, s.cursor, s.mark = [3]lotModel{}, 0, false, 0
	}
	return true
}

func stepConnect(c *replayCase, s *replayState) bool {
	if s.online {
		return false
	}
	s.online = true
	if s.lotsN > 0 || s.cursor {
		if c.qos0 { // in the moment of the CONNECT one may come live too (docs/adr/0009)
			s.renewed++
		}
		if c.ResumedMark {
			s.resumed = s.last
		}
		if c.ResumedFence {
			s.queueFence = s.wantRound()
		}
		s.endSubscriberTurn()
	}
	return true
}

func stepMail(c *replayCase, s *replayState) bool {
	if s.mailN == 0 || s.entering {
		return false
	}
	n := s.mail[0]
	copy(s.mail[:], s.mail[1:])
	s.mailN--
	s.mail[s.mailN] = 0
	switch {
	case n == answer:
		s.missing, s.passed = false, s.begun
	case c.sliced:
		s.jobs[s.jobsN] = jobModel{n: n, mine: s.member}
		s.jobsN++
	default:
		s.live(c, n)
	}
	s.endSubscriberTurn()
	return true
}

// stepBegin is beginReplay, of a grant nextTopic.
func stepBegin(c *replayCase, s *replayState) bool {
	l := &s.lots[0]
	switch {
	case s.lotsN == 0 || s.cursor || s.entering || !s.online:
		return false
	case c.Fence && (s.queueFence > s.passed || l.fence > s.passed):
		return false
	case !s.member: // of a grant that does not have it any more
		s.dropLot(0)
		return true
	case c.BehindSlices && s.jobsN > 0 && !l.waits:
		l.waits, l.until = true, s.over+s.jobsN
		return true
	case l.waits && s.over < l.until:
		return false
	}
	s.cursor, s.mark = true, l.mark
	s.dropLot(0)
	return true
}

// stepGive is giveRetained for the one topic there is, and the end of the cursor.
func stepGive(c *replayCase, s *replayState) bool {
	if !s.cursor || s.entering || !s.online || c.Fence && s.queueFence > s.passed {
		return false
	}
	lost := c.qos0 && s.index <= s.resumed
	if s.member && (s.index <= s.mark || lost || !c.PassOver) {
		s.arrive(s.index)
	}
	s.cursor, s.mark = false, 0
	return true
}

// checkRest looks at a state that has nothing left to do but what client and publisher may begin.
func (s *replayState) checkRest() {
	if s.member && s.online && s.index != 0 && s.got != s.index && !s.lossy {
		panic(replayFault(fmt.Sprintf("at rest the client has %d of %d", s.got, s.index)))
	}
}

// searchReplay walks through all states and returns a way to a fault; "" if there is none.
func searchReplay(c *replayCase) (states int, found string) {
	type from struct {
		before replayState
		step   int
	}
	start := replayState{online: true, bit: c.other}
	seen := map[replayState]from{start: {step: -1}}
	list := []replayState{start}
	var now replayState
	doing := -1
	defer func() {
		if r := recover(); r != nil {
			var way []string
			if doing >= 0 {
				way = append(way, replaySteps[doing].name)
			}
			for at := now; seen[at].step >= 0; at = seen[at].before {
				way = append(way, replaySteps[seen[at].step].name)
			}
			slices.Reverse(way)
			states, found = len(seen), fmt.Sprintf("%v, after\n  %s", r, strings.Join(way, "\n  "))
		}
	}()
	for len(list) > 0 {
		var next []replayState
		for _, now = range list {
			rest := true
			for i := range replaySteps {
				doing = i
				s := now
				if !replaySteps[i].do(c, &s) {
					continue
				}
				rest = rest && (i == 0 && now.at%3 == 0 || 3 <= i && i <= 7 && i != 4)
				if _, ok := seen[s]; !ok {
					seen[s] = from{now, i}
					next = append(next, s)
				}
			}
			if doing = -1; rest {
				now.checkRest()
			}
		}
		list = next
	}
	return len(seen), ""
}

func allRules() rules {
	return rules{true, true, true, true, true, true, true, true, true, true, true}
}

// replayCases is all cases with so many messages, subscribing and unsubscribing, and cuts.
func replayCases(pubs, ops, cuts uint8) map[string]replayCase {
	list := map[string]replayCase{}
	for _, granted := range []bool{false, true} {
		for _, other := range []bool{false, true} {
			for _, kind := range []string{"cut", "sliced", "QoS 0"} {
				c := replayCase{rules: allRules(), granted: granted, other: other, pubs: pubs, ops: ops, cuts: cuts}
				c.sliced, c.qos0 = kind == "sliced", kind == "QoS 0"
				if kind == "sliced" {
					c.cuts = 0
				}
				list[fmt.Sprintf("%s, granted %v, other %v", kind, granted, other)] = c
			}
		}
	}
	return list
}

// TestSearchReplay walks through the model of retained messages beside live ones, with all rules.
// NOCTULE_SEARCH makes it larger.
func TestSearchReplay(t *testing.T) {
	cases := replayCases(2, 3, 1)
	if os.Getenv("NOCTULE_SEARCH") != "" {
		cases = replayCases(3, 4, 2)
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		c := cases[name]
		states, found := searchReplay(&c)
		if found != "" {
			t.Errorf("%s: %s", name, found)
		}
		t.Logf("%s: %d states, and there are no others", name, states)
	}
}

// TestSearchReplayRules leaves out each rule in turn: the search finds what goes wrong.
func TestSearchReplayRules(t *testing.T) {
	kind := reflect.TypeFor[rules]()
	cases := replayCases(3, 3, 1)
	for i := range kind.NumField() {
		name := kind.Field(i).Name
		shortest := ""
		for _, at := range slices.Sorted(maps.Keys(cases)) {
			c := cases[at]
			reflect.ValueOf(&c.rules).Elem().Field(i).SetBool(false)
			if _, found := searchReplay(&c); found != "" {
				shortest = at + ": " + found
				break
			}
		}
		if shortest == "" {
			t.Errorf("%s: nothing goes wrong without it", name)
		}
		t.Logf("without %s: %s", name, shortest)
	}
}
