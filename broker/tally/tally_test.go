package tally

import (
	"reflect"
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

// Each counter of a loop is in the snapshot, once, and loops add up.
func TestCountersAddUp(t *testing.T) {
	var c Counters
	v := reflect.ValueOf(&c).Elem()
	fill := func(x reflect.Value, n int64) { x.SetInt(n) }
	sum := int64(0)
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Int64 {
			sum += int64(1) << i
			fill(f, int64(1)<<i)
			continue
		}
		for k := range f.Len() {
			sum += int64(k+1) << 32
			fill(f.Index(k), int64(k+1)<<32)
		}
	}
	var m Metrics
	c.AddTo(&m)
	c.AddTo(&m)
	got := int64(0)
	for f := range reflect.TypeFor[Metrics]().Fields() {
		switch x := reflect.ValueOf(m).FieldByIndex(f.Index); x.Kind() {
		case reflect.Int64:
			got += x.Int()
		case reflect.Array:
			for k := range x.Len() {
				got += x.Index(k).Int()
			}
		default:
		}
	}
	if got != 2*sum {
		t.Errorf("the sum is %x, want %x", got, 2*sum)
	}
}
