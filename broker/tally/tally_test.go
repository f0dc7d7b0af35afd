package tally

import (
	"strings"
	"testing"

	"noctule/broker/reason"
)

// Each average of the $SYS tree has its counter, and what an access rule denies is not counted as dropped there.
func TestLoads(t *testing.T) {
	m := Metrics{PacketsReceived: 1, PacketsSent: 2, PublishReceived: 4, PublishSent: 5, BytesReceived: 6, BytesSent: 7, ConnectionsTotal: 8, Connects: 9}
	m.Dropped[reason.DropQueueFull], m.Dropped[reason.DropDenied] = 3, 100
	loads := m.Loads()
	if len(loads) != len(LoadNames()) {
		t.Fatalf("%d counters for %q", len(loads), LoadNames())
	}
	for i, n := range loads {
		if n != int64(i+1) {
			t.Errorf("%s is %d", LoadNames()[i], n)
		}
	}
}

// The topics of the $SYS tree are told once each.
func TestSysValues(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range (&Metrics{}).SysValues() {
		if seen[v.Topic] || !strings.HasPrefix(v.Topic, "$SYS/broker/") {
			t.Error(v.Topic)
		}
		seen[v.Topic] = true
	}
}
