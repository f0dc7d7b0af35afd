//go:build !invariants

package wsnet

// poison does nothing in production; with the build tag invariants it overwrites a loan that has ended.
func poison([]byte) {}
