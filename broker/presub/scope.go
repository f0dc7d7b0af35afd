package presub

import (
	"context"
	"errors"
	"slices"

	"noctule/broker/behalf"
)

// A caller may be bound to tenants: it asks for their clients alone, sees no others, and never goes round the
// rules of a client. Whose a client is, is decided here and nowhere else, by what the configuration says of
// tenants: with none, such a caller has no clients at all.

// Sees reports whether a client is one that a caller may see.
func (e *Engine) Sees(c Caller, clientID, username string) bool {
	return c.Tenants == nil || c.has(e.config().Tenant.of(clientID, username))
}

// has reports whether a tenant is one of the caller's.
func (c *Caller) has(tenant string) bool { return tenant != "" && slices.Contains(c.Tenants, tenant) }

// within says whether a caller may make an entry, and for which user's session it then is: one that was found
// to be of its tenant may be another user's by the time the entry takes effect.
func (e *Engine) within(ctx context.Context, c *Caller, x *Entry) (username string, code behalf.Code) {
	if c.Tenants == nil {
		return x.Username, behalf.Done
	}
	t := &e.config().Tenant
	username = x.Username
	if t.pattern != nil && t.From == "username" && username == "" {
		l, err := e.broker.List(ctx, x.ClientID)
		switch {
		case errors.Is(err, behalf.ErrNoAnswer):
			return "", behalf.Busy
		case err != nil: // whoever comes next may be of any tenant
			return "", behalf.NotAllowed
		}
		username = l.Username
	}
	if t.pattern != nil && t.From == "clientid" && x.ClientID == "" { // all clients of a user
		return "", behalf.NotAllowed
	}
	if !c.has(t.of(x.ClientID, username)) {
		return "", behalf.NotAllowed
	}
	return username, behalf.Done
}
