package presub

import (
	"context"

	"noctule/broker"
	"noctule/codec"
)

// Sessions reads those that a caller may see, of the users given, or of all with none. It is to be closed
// unless it is read to its end.
func (e *Engine) Sessions(c Caller, usernames []string) *broker.Cursor[broker.Client] {
	sees := func(x *broker.Client) bool { return e.Sees(c, x.ID, x.Username) }
	if len(usernames) == 0 {
		return e.b.Clients(sees)
	}
	return e.b.ClientsOf(usernames, sees)
}

// Session is one that a caller may see.
func (e *Engine) Session(ctx context.Context, c Caller, clientID string) (broker.Client, bool, error) {
	x, ok, err := e.b.Find(ctx, clientID)
	if !ok || err != nil || !e.Sees(c, x.ID, x.Username) {
		return broker.Client{}, false, err
	}
	return x, true, nil
}

// Disconnect ends the connection of a client that a caller may see, and returns 1, or 0 if there is none. The
// session stays as the client wished; will says whether its will is published.
func (e *Engine) Disconnect(ctx context.Context, c Caller, clientID string, will bool) (int, error) {
	n := 0
	_, ok, err := e.Session(ctx, c, clientID)
	if ok {
		if ok, err = e.b.Disconnect(ctx, clientID, codec.AdministrativeAction, will); ok {
			n = 1
		}
	}
	e.audit(c, "disconnect", "clientid", clientID, "connections", n)
	return n, err
}

// DisconnectUser ends the connections of a user's clients that a caller may see.
func (e *Engine) DisconnectUser(
	ctx context.Context, c Caller, username string, will bool,
) (n int, err error) {
	defer func() { e.audit(c, "disconnect", "username", username, "connections", n) }()
	cursor := e.Sessions(c, []string{username})
	defer cursor.Close()
	for {
		page, err := cursor.Next(ctx, walkPage)
		if err != nil || len(page) == 0 {
			return n, err
		}
		for i := range page {
			ok, err := e.b.Disconnect(ctx, page[i].ID, codec.AdministrativeAction, will)
			if err != nil {
				return n, err
			}
			if ok {
				n++
			}
		}
	}
}
