//go:build !invariants

package wsnet

// owner is nothing in production; with the build tag invariants it is the goroutine that runs a loop.
type owner struct{}

func (owner) enter() {}
func (owner) exit()  {}
func (owner) turn()  {}

// MustBeHere does nothing in production; with the build tag invariants it panics unless the caller is the
// loop's goroutine, or the loop does not run.
func (*Loop) MustBeHere() {}
