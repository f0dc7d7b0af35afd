package view

import (
	"context"
	"errors"
	"time"

	"noctule/broker/message"
	"noctule/broker/retained"
	"noctule/codec"
)

// Retained is a retained message.
type Retained struct {
	Topic      string
	Payload    []byte // not to be changed
	QoS        uint8
	Properties codec.Properties // not to be changed
	Expires    time.Time        // zero: never
}

// retainedPageBytes is how many bytes of payloads a page of retained messages has before it ends early.
const retainedPageBytes = 4 << 20

// errShared says that a filter is of a shared subscription.
var errShared = errors.New("broker: retained messages are not for shared subscriptions")

// RetainedOf makes a cursor of the retained messages whose topics match a filter and that have not expired by
// the time of now, in Unix milliseconds as the messages have it; wall is the system's clock. No loop is
// asked.
func RetainedOf(
	p *Pages, x *retained.Index, filter string, now, wall func() int64,
) (*Cursor[Retained], error) {
	if err := codec.CheckTopicFilter([]byte(filter)); err != nil {
		return nil, err
	}
	if _, _, shared := codec.SplitShare([]byte(filter)); shared {
		return nil, errShared
	}
	walk := x.Cursor([]byte(filter))
	read := func(ctx context.Context, page []Retained, limit int) ([]Retained, bool, error) {
		size, over := 0, false
		for !over && len(page) < limit && size < retainedPageBytes {
			if err := ctx.Err(); err != nil {
				return nil, false, err
			}
			over = walk.Next(1, func(topic string, m *message.Message) {
				at := now()
				if m.Expired(at) {
					return
				}
				r := Retained{Topic: topic, Payload: m.Payload, QoS: m.QoS, Properties: m.Properties}
				if m.Expiry != 0 {
					left := time.Duration(m.Expiry-at) * time.Millisecond
					r.Expires = time.UnixMilli(wall()).Add(left)
				}
				page = append(page, r)
				size += len(m.Payload)
			})
		}
		return page, over, nil
	}
	return newCursor(p, func() {}, read), nil
}
