package bench

import (
	"context"
	"testing"

	"noctule/wsnet"
)

func TestLists(t *testing.T) {
	address, b := serve(t, wsnet.ListenerConfig{})
	plan := Load{}.Lists(1005, 3, true)
	if a, z := plan.Groups[0].Filters(5)[2], plan.Groups[0].Filters(1004)[0]; a != "/e/5/im/g/2" || z != "/e/004/im/g/0" {
		t.Errorf("filters %s, %s", a, z)
	}
	for own, want := range map[bool]int64{true: 150, false: 0} {
		plan := Load{}.Lists(50, 3, own)
		target := Target{Address: address, Persistent: true, Prefix: t.Name()}
		if !own {
			target.Prefix += "silent"
		}
		before := b.Metrics(context.Background()).Subscriptions
		if _, err := Run(t.Context(), target, plan, Options{KeepSessions: true}); err != nil {
			t.Fatal(err)
		}
		if got := b.Metrics(context.Background()).Subscriptions - before; got != want {
			t.Errorf("own %v: %d subscriptions, want %d", own, got, want)
		}
	}
}
