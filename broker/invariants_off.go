//go:build !invariants

package broker

// checkInvariants does nothing in production; with the build tag invariants it holds the loop against what
// must be so at the end of a turn, small loops each turn and large ones each second.
func checkInvariants(*shard, bool) {}
