// Package sys knows what the $SYS tree says, as Mosquitto's: at wall-clock multiples of an interval, and
// only what has changed since the last time. Where the numbers come from and who publishes is others'
// business, so that nothing of this needs an event loop.
package sys

import (
	"fmt"
	"math"
	"strconv"
)

// Prefix is what all topics begin with.
const Prefix = "$SYS/broker/"

// Value is one number of the tree.
type Value struct {
	Topic string // with Prefix
	Value int64
}

// Text is a topic of the tree with what it says.
type Text struct{ Topic, Text string }

// Schedule says when the tree is due. The zero value is due at once.
type Schedule struct {
	Interval int64 // seconds

	next int64 // Unix seconds
}

// Due reports whether the tree is due at a time in Unix seconds.
func (s *Schedule) Due(now int64) bool {
	return now >= s.next || s.next-now > s.Interval // the system's clock was set back
}

// Begin notes that an update begins at a time in Unix seconds.
func (s *Schedule) Begin(now int64) { s.next = now - now%s.Interval + s.Interval }

// Tree is what was said last.
type Tree struct {
	last  map[string]string // by topic
	loads []load
	at    int64 // Unix ms of the last loads
}

// load is one counter's three moving averages, per minute.
type load struct {
	name string
	prev int64
	avg  [3]float64
}

// minutes are what loads are averages of.
func minutes() [3]int { return [...]int{1, 5, 15} }

// New makes an empty tree, with the moving averages of counters by these names.
func New(loads ...string) *Tree {
	t := &Tree{last: make(map[string]string)}
	for _, name := range loads {
		t.loads = append(t.loads, load{name: name})
	}
	return t
}

// Say adds what a topic says to list, if it is new.
func (t *Tree) Say(list []Text, topic, text string) []Text {
	if t.last[topic] == text {
		return list
	}
	t.last[topic] = text
	return append(list, Text{topic, text})
}

// Update is what is new at a time in Unix milliseconds: the values, and the averages of counters, which
// are in the order of New's.
func (t *Tree) Update(now int64, values []Value, counters []int64) (list []Text) {
	for _, v := range values {
		text := strconv.FormatInt(v.Value, 10)
		switch v.Topic {
		case Prefix + "uptime":
			text += " seconds"
		case Prefix + "clients/maximum":
			if v.Value <= 1 { // Mosquitto starts with 1 and tells only more
				continue
			}
		}
		list = t.Say(list, v.Topic, text)
	}
	return t.updateLoads(list, now, counters)
}

// updateLoads moves the averages over 1, 5 and 15 minutes: i = delta per minute, v = i + e^(-dt/tau) (v - i).
func (t *Tree) updateLoads(list []Text, now int64, counters []int64) []Text {
	dt := float64(now-t.at) / 1000
	first := t.at == 0
	t.at = now
	for i := range t.loads {
		l := &t.loads[i]
		delta := counters[i] - l.prev
		l.prev = counters[i]
		for k, n := range minutes() {
			switch {
			case first:
				list = t.Say(list, loadTopic(l.name, n), "0.00")
			case dt > 0:
				perMinute := float64(delta) * 60 / dt
				avg := perMinute + math.Exp(-dt/float64(60*n))*(l.avg[k]-perMinute)
				moved := math.Abs(avg-l.avg[k]) >= 0.01
				l.avg[k] = avg
				if moved {
					list = t.Say(list, loadTopic(l.name, n), strconv.FormatFloat(avg, 'f', 2, 64))
				}
			}
		}
	}
	return list
}

func loadTopic(name string, minutes int) string {
	return fmt.Sprintf("%sload/%s/%dmin", Prefix, name, minutes)
}
