package broker

import (
	"context"
	"fmt"
	"time"
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
