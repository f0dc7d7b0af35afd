package broker

import (
	"context"
	"fmt"
	"time"

	"noctule/broker/store"
)

// Feature is a part of the program beside the broker, such as pre-subscription: it has its say in the
// options, and does the rest by the broker's doors. Options.Features has them.
type Feature interface {
	// Options adds to the options what the feature needs: hooks, limits. New calls it before anything else,
	// and Reload again, on what it was given, for those options that Reload replaces; what the feature wants
	// by then it has been told by the program before. It may add to lists and maps, and must not keep o.
	Options(o *Options)
	// Attach gives the feature the broker at the end of New, which has its loops and its state by then, but
	// no listener. Its error is New's. The feature is the program's to close, after Shutdown.
	Attach(b *Broker) error
}

// Stored is a table of Options.Store that belongs to a feature: New shows what is in it before Attach.
type Stored struct {
	Table store.Table
	// Take gets each record. The bytes are a loan that ends with the call.
	Take func(key, value []byte)
}

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
