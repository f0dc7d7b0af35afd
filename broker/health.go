package broker

import (
	"errors"
	"fmt"
	"time"
)

// hangLimit is how long a loop may not come to what waits for it before it counts as one that hangs. Turns
// are bounded to milliseconds, so this is no load but a fault, or a machine that does not run the process.
const hangLimit = 10 * time.Second

// Alive tells why the broker does not live any more: a loop hangs. nil as long as it lives, whatever it
// refuses meanwhile: who is to be restarted when it fails asks this. Any goroutine, and it answers at once.
func (b *Broker) Alive() error {
	if loop, d := b.net.Stalled(); d > b.hangAfter && !b.stopping.Load() {
		return fmt.Errorf("event loop %d has not turned for %v", loop, d.Round(time.Second))
	}
	return nil
}

// Ready tells why the broker does not do all of its work: it ends, a loop hangs, or persistent state cannot
// be written, so that durable sessions and what they are to get are refused. nil when all is well. Memory
// that is short, full queues and providers that fail are not its matter: another broker would not do better.
// Any goroutine, and it answers at once.
func (b *Broker) Ready() error {
	if b.stopping.Load() {
		return errors.New("the broker is shutting down")
	}
	if err := b.Alive(); err != nil {
		return err
	}
	if b.committer != nil && b.committer.Failing() {
		err := b.storeError.Load()
		if err == nil { // it fails since just now
			return errors.New("persistent state cannot be written")
		}
		return fmt.Errorf("persistent state cannot be written: %w", *err)
	}
	return nil
}
