package bench

import (
	"context"
	"strings"
	"time"
)

// Topics on which brokers tell their version, to those who may read them. noctule has both, ours asked for
// first, so that it is there when Mosquitto's comes.
const (
	versionTopic = "$SYS/broker/version"
	noctuleTopic = "$SYS/broker/noctule/version"
)

// UnknownVersion is the version of a broker that does not tell it.
const UnknownVersion = "unknown"

// How long a version is worth waiting for: the connection, the first answer, and another one after it.
const (
	versionConnect = 2 * time.Second
	versionFirst   = 500 * time.Millisecond
	versionOther   = 50 * time.Millisecond
)

// brokerVersion asks the broker for its version, on a connection of its own that has ended when it returns.
func brokerVersion(ctx context.Context, target Target) string {
	target.Persistent, target.Will = false, nil
	target.Prefix = target.withDefaults().Prefix + "-version"
	type message struct{ topic, payload string }
	heard := make(chan message, 8)
	e, err := newEngine(target, Plan{Groups: []Group{{
		Name: "version", Count: 1,
		Filters: func(int) []string { return []string{noctuleTopic, versionTopic} },
		heard: func(topic, payload []byte) {
			select {
			case heard <- message{string(topic), string(payload)}:
			default: // nobody listens any more
			}
		},
	}}})
	if err != nil {
		return UnknownVersion
	}
	defer e.stop()
	if err := e.start(); err != nil {
		return UnknownVersion
	}
	limited, cancel := context.WithTimeout(ctx, versionConnect)
	defer cancel()
	if e.connect(limited, func() {}) != nil || e.total().ready == 0 {
		return UnknownVersion
	}
	said := map[string]string{}
	wait := time.NewTimer(versionFirst)
	defer wait.Stop()
	for len(said) < 2 {
		select {
		case m := <-heard:
			said[m.topic] = strings.TrimSpace(m.payload)
			wait.Reset(versionOther)
			continue
		case <-wait.C:
		case <-ctx.Done():
		}
		break
	}
	return versionOf(said[noctuleTopic], said[versionTopic])
}

// versionOf is a broker's version in a line, of what it has told.
func versionOf(noctule, mosquitto string) string {
	switch {
	case noctule != "" && mosquitto != "":
		return "noctule " + noctule + ", speaks as " + mosquitto
	case noctule != "":
		return "noctule " + noctule
	case mosquitto != "":
		return mosquitto
	}
	return UnknownVersion
}
