//go:build linux

package bench

import (
	"fmt"
	"time"
)

// Load is what scenarios have in common.
type Load struct {
	QoS      uint8
	Size     int
	Rate     float64 // messages per second and publisher; 0: closed loop
	Window   int     // of a closed loop, and of QoS 1 and 2
	Topic    string  // root of the topics; "bench" if empty
	Retain   bool
	Limit    uint32
	Warmup   time.Duration
	Duration time.Duration
}

func (l Load) root() string {
	if l.Topic == "" {
		return "bench"
	}
	return l.Topic
}

func (l Load) plan(name string, groups ...Group) Plan {
	return Plan{Name: name, Groups: groups, Warmup: l.Warmup, Duration: l.Duration}
}

func (l Load) publishers(n int, topic func(i int) string) Group {
	return Group{
		Name: "publishers", Count: n, Topic: topic, QoS: l.QoS, Retain: l.Retain,
		Rate: l.Rate, Window: l.Window, Size: l.Size, Limit: l.Limit,
	}
}

// Idle is n clients with a subscription each, and nothing said.
func (l Load) Idle(n int) Plan {
	return l.plan("idle", Group{
		Name: "clients", Count: n, SubQoS: l.QoS,
		Filters: func(i int) []string { return []string{fmt.Sprintf("%s/idle/%d", l.root(), i)} },
	})
}

// Clients is n clients that connect and do nothing.
func (l Load) Clients(n int) Plan { return l.plan("conn", Group{Name: "clients", Count: n}) }

// Pairs is n publishers with a subscriber of its own each.
func (l Load) Pairs(n int) Plan {
	topic := func(i int) string { return fmt.Sprintf("%s/pair/%06d", l.root(), i) }
	return l.plan("p2p",
		Group{
			Name: "subscribers", Count: n, SubQoS: l.QoS,
			Filters: func(i int) []string { return []string{topic(i)} },
			Hears:   func(i int) Span { return Span{i, 1} },
		},
		l.publishers(n, topic))
}

// Fanout is publishers whose messages go to every one of n subscribers.
func (l Load) Fanout(publishers, n int) Plan {
	return l.plan("fanout",
		Group{
			Name: "subscribers", Count: n, SubQoS: l.QoS,
			Filters: func(int) []string { return []string{l.root() + "/fanout/#"} },
			Hears:   func(int) Span { return Span{0, publishers} },
		},
		l.publishers(publishers, func(i int) string { return fmt.Sprintf("%s/fanout/%06d", l.root(), i) }))
}

// Fanin is n publishers whose messages go to every one of a few subscribers.
func (l Load) Fanin(n, subscribers int) Plan {
	p := l.Fanout(n, subscribers)
	p.Name = "fanin"
	return p
}

// Shared is publishers whose messages are dealt among a group of n members of a shared subscription.
func (l Load) Shared(publishers, n int) Plan {
	return l.plan("shared",
		Group{
			Name: "members", Count: n, SubQoS: l.QoS, Jointly: true,
			Filters: func(int) []string { return []string{"$share/bench/" + l.root() + "/shared/#"} },
			Hears:   func(int) Span { return Span{0, publishers} },
		},
		l.publishers(publishers, func(i int) string { return fmt.Sprintf("%s/shared/%06d", l.root(), i) }))
}

// Subscribers is n clients that listen to what others publish, with no judgement of it.
func (l Load) Subscribers(n int, filter string) Plan {
	return l.plan("sub", Group{
		Name: "subscribers", Count: n, SubQoS: l.QoS,
		Filters: func(i int) []string { return []string{topicOf(filter, i)} },
	})
}

// Publishers is n clients that publish to whoever listens.
func (l Load) Publishers(n int, topic string) Plan {
	return l.plan("pub", l.publishers(n, func(i int) string { return topicOf(topic, i) }))
}

// Retained is a run of RunRetained.
type Retained struct {
	Messages    uint32
	Subscribers int
	QoS         uint8  // of the subscriptions
	Size        int    // bytes of payload, at least HeaderSize; 0: DefaultSize
	Topic       string // root of the topics; "bench" if empty
	Shape       Plan   // how; its groups are set by RunRetained, its Duration is the longest wait
}

func (p *Retained) root() string { return Load{Topic: p.Topic}.root() }

// Storm is n clients with a subscription each that are all cut, and come back.
func (l Load) Storm(n int, s Storm) Plan {
	p := l.Idle(n)
	p.Name, p.Storm = "storm", &s
	return p
}

// Soak is pairs, and clients beside them that each are cut and come back once in every period.
func (l Load) Soak(pairs, churners int, period time.Duration) Plan {
	p := l.Pairs(pairs)
	p.Name = "soak"
	if churners > 0 {
		p.Groups = append(p.Groups, Group{
			Name: "churners", Count: churners, SubQoS: l.QoS, Churn: period,
			Filters: func(i int) []string { return []string{fmt.Sprintf("%s/churn/%d", l.root(), i)} },
		})
	}
	return p
}

// Slow is a fan-out to n subscribers and to some that read at most so many bytes per second and are counted
// apart. The figures tell how the others fare.
func (l Load) Slow(publishers, n, slow, bytesPerSecond int) Plan {
	p := l.Fanout(publishers, n)
	p.Name = "slow"
	g := p.Groups[0]
	g.Name, g.Count, g.ReadMax, g.Aside = "slow", slow, bytesPerSecond, true
	if slow > 0 {
		p.Groups = append(p.Groups, g)
	}
	return p
}
