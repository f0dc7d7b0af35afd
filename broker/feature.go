package broker

import (
	"context"
	"fmt"
	"time"

	"noctule/broker/store"
)

// Keep has f add records of a feature's table to the next commit. It does not call f, and returns false, if
// there is no store, or it fails or is behind: what is kept so must be something that may be lost. It may be
// called from any goroutine; f must be short.
func (b *Broker) Keep(f func(b *store.Batch)) bool {
	return b.committer != nil && b.committer.Spared(f)
}

// showStored shows features what is theirs.
func (b *Broker) showStored() error {
	for _, x := range b.opts.Stored {
		err := b.opts.Store.Walk(x.Table, func(key, value []byte) error {
			x.Take(key, value)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle lets the features have their say.
func (o *Options) settle() {
	for _, f := range o.Features {
		f.Options(o)
	}
}

// attachTime bounds the end of a broker whose features cannot be attached.
const attachTime = 10 * time.Second

// attach gives the features the broker; if one fails, the broker ends.
func (b *Broker) attach() error {
	for _, f := range b.opts.Features {
		if err := f.Attach(b); err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), attachTime)
			defer cancel()
			_ = b.Shutdown(ctx) // the first error is the one that tells
			return fmt.Errorf("broker: %w", err)
		}
	}
	return nil
}
