package presub

import (
	"context"
	"errors"

	"noctule/broker"
)

// ErrTenants is the error of calls that are not for who is bound to tenants.
var ErrTenants = errors.New("it is not for a token that is bound to tenants")

// Ban has somebody not be here any more: see broker.Broker.Ban. The author is the caller.
func (e *Engine) Ban(ctx context.Context, c Caller, b broker.Ban) (_ broker.Ban, ended int, err error) {
	if c.Tenants != nil {
		return broker.Ban{}, 0, ErrTenants
	}
	b.By = string(c.Door) + ":" + c.Principal
	b, ended, err = e.b.Ban(ctx, b)
	if b.Name == "" {
		return b, 0, err
	}
	pairs := []any{b.Kind.String(), b.Name, "connections", ended}
	if !b.Until.IsZero() {
		pairs = append(pairs, "until", b.Until.UTC())
	}
	e.audit(c, "ban", pairs...)
	return b, ended, err
}

// Unban takes a ban out, whoever has added it; ok is false if there is none.
func (e *Engine) Unban(ctx context.Context, c Caller, k broker.BanKind, name string) (ok bool, err error) {
	if c.Tenants != nil {
		return false, ErrTenants
	}
	b, ok, err := e.b.Unban(ctx, k, name)
	if ok {
		e.audit(c, "unban", k.String(), b.Name)
	}
	return ok, err
}

// Bans lists them: see broker.Broker.Bans.
func (e *Engine) Bans(
	c Caller, after broker.BanCursor, n int,
) (list []broker.Ban, next *broker.BanCursor, err error) {
	if c.Tenants != nil {
		return nil, nil, ErrTenants
	}
	list, at, more := e.b.Bans(after, n)
	if more {
		next = &at
	}
	return list, next, nil
}
