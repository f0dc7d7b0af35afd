package wsnet

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gobwas/ws"

	"noctule/internal/wsproto"
)

// wsState is the WebSocket layer of one connection.
type wsState struct {
	frames      wsproto.Decoder
	pongTime    uint32 // seconds; when pongs was 0
	pongs       uint8
	subprotocol uint8 // place in the listener's list
	upgraded    bool
	closeReply  uint16 // to the client's close frame; 0 before
	waiting     uint16 // pongs that have been put behind output that is blocked
}

// pongsPerSecond is how many pings a client may send; more is a flood.
const pongsPerSecond = 100

// maxWaiting is how many pongs wait for a client that does not read; further pings have no answer.
const maxWaiting = 1000

// inputWebSocket takes raw bytes through the upgrade and the frames.
func (l *Loop) inputWebSocket(c *Conn, b []byte) {
	w := c.ws
	if x := c.extra; x != nil && len(x.raw) > 0 {
		b = append(x.raw, b...)
		x.raw = nil
		c.settle()
	}
	if !w.upgraded {
		b = l.upgrade(c, b)
	}
	for len(b) > 0 && !c.ended && !c.stopped() {
		used, piece, ctl, err := w.frames.Next(b)
		if err != nil {
			c.end(fmt.Errorf("%w: %w", ErrProtocol, err))
			return
		}
		if used == 0 {
			c.more().raw = append([]byte(nil), b...)
			return
		}
		b = b[used:]
		if len(piece) > 0 {
			l.deliver(c, piece)
		}
		if ctl.Op != 0 {
			l.control(c, ctl)
		}
	}
	if len(b) > 0 && c.stopped() {
		c.more().raw = append([]byte(nil), b...)
	}
}

// upgrade answers the request and returns the bytes behind it.
func (l *Loop) upgrade(c *Conn, b []byte) []byte {
	if err := alien(b[0]); err != nil {
		c.refuse(CauseUpgrade, err)
		return nil
	}
	resp, used, sub, err := c.listener.live.Load().rules.Upgrade(b)
	if resp == nil {
		c.more().raw = append([]byte(nil), b...)
		return nil
	}
	c.control(resp)
	var origin *wsproto.OriginError
	switch {
	case errors.As(err, &origin):
		c.tell(Refusal{Cause: CauseOrigin, Err: err, Origin: origin.Origin})
		c.end(ErrRefused)
		return nil
	case err != nil:
		c.refuse(CauseUpgrade, err)
		return nil
	}
	c.ws.upgraded = true
	c.ws.subprotocol = uint8(max(slices.Index(c.listener.cfg.Subprotocols, sub), 0))
	c.greeted()
	l.opened(c)
	return b[used:]
}

// closeCode is the code that tells the client why its connection ends.
func (w *wsState) closeCode(reason error) uint16 {
	var e *wsproto.Error
	switch {
	case w.closeReply != 0:
		return w.closeReply
	case errors.As(reason, &e):
		return e.Code
	case errors.Is(reason, ErrServerClosed):
		return wsproto.CloseGoingAway
	case errors.Is(reason, ErrPending):
		return wsproto.CloseTooBig
	}
	return wsproto.CloseNormal
}

// control answers control frames: pong to ping, and close to close with the end of the turn.
func (l *Loop) control(c *Conn, ctl wsproto.Control) {
	w := c.ws
	switch ctl.Op {
	case ws.OpPing:
		if now := uint32(l.now / 1000); now != w.pongTime {
			w.pongTime, w.pongs = now, 0
		}
		if w.pongs++; w.pongs > pongsPerSecond {
			flood := &wsproto.Error{Code: wsproto.ClosePolicy, Text: "too many pings"}
			c.end(fmt.Errorf("%w: %w", ErrProtocol, flood))
			return
		}
		if !c.blocked {
			w.waiting = 0
		}
		if w.waiting < maxWaiting {
			w.waiting++
			c.control(wsproto.AppendPong(nil, ctl.Payload))
		}
	case ws.OpClose:
		w.closeReply = wsproto.CloseReply(ctl.Payload)
		c.end(errPeerClosed)
	}
}
