//go:build linux

package bench

import (
	"fmt"
	"strings"
)

// String tells where the broker is and how it is spoken to, without secrets.
func (t *Target) String() string {
	words := []string{t.Address, map[bool]string{false: "TCP", true: "Unix socket"}[t.Unix]}
	if t.TLS != nil {
		words = append(words, "TLS")
	}
	if t.WebSocket {
		words = append(words, "WebSocket "+t.Path)
	}
	words = append(words, fmt.Sprintf("MQTT level %d, keep alive %d s", t.Version, t.KeepAlive))
	if t.Will != nil {
		words = append(words, "a Will each")
	}
	if t.Persistent {
		words = append(words, "sessions kept")
	} else {
		words = append(words, "clean sessions")
	}
	return strings.Join(words, ", ")
}

// words tells what each group does.
func (p *Plan) words() []string {
	list := make([]string, 0, len(p.Groups)+1)
	for i := range p.Groups {
		list = append(list, p.Groups[i].String())
	}
	const form = "warm-up %v, measured %v, connections at %s, %d at a time, %d event loops"
	return append(list, fmt.Sprintf(form,
		p.Warmup, p.Duration, rateWord(float64(p.ConnectRate)), p.Concurrent, p.Threads))
}

func rateWord(perSecond float64) string {
	if perSecond <= 0 {
		return "full speed"
	}
	return fmt.Sprintf("%g/s", perSecond)
}

// String tells what the clients of a group do.
func (g *Group) String() string {
	words := []string{fmt.Sprintf("%s: %d clients", g.Name, g.Count)}
	if g.Filters != nil {
		filters := strings.Join(g.Filters(0), " ")
		words = append(words, fmt.Sprintf("subscribe with QoS %d to %s", g.SubQoS, filters))
	}
	if g.Collect > 0 {
		words = append(words, fmt.Sprintf("collect %d retained messages", g.Collect))
	}
	if g.Churn > 0 {
		words = append(words, fmt.Sprintf("each cut every %v", g.Churn))
	}
	if g.Aside {
		words = append(words, "counted apart")
	}
	if g.ReadMax > 0 {
		words = append(words, fmt.Sprintf("read at most %d B/s", g.ReadMax))
	}
	if g.Topic != nil {
		words = append(words, fmt.Sprintf("publish %d B with QoS %d to %s", g.Size, g.QoS, g.Topic(0)))
		if g.Rate > 0 {
			words = append(words, fmt.Sprintf("%g/s each, open loop", g.Rate))
		} else {
			words = append(words, fmt.Sprintf("closed loop, %d outstanding each", g.Window))
		}
		if g.Retain {
			words = append(words, "retained")
		}
		if g.Limit > 0 {
			words = append(words, fmt.Sprintf("%d messages each", g.Limit))
		}
	}
	return strings.Join(words, ", ")
}
