package broker

import "noctule/codec"

// A session belongs to the user and the mount point with which its client has connected last. A client id
// is no secret, so it alone gives nobody the messages of another: who comes with the id of somebody else's
// session gets a new one, and the old one ends. Of sessions from before this was stored not all is known;
// what is not known is anybody's.

// OtherUsers says what happens to a CONNECT with the client id of another user's session.
type OtherUsers uint8

// The values of other_user_session.
const (
	FreshSession  OtherUsers = iota // it gets a new session, and the old one ends
	RefuseSession                   // it is refused while the other session lasts
	ResumeSession                   // it gets the session, as with Mosquitto, if the mount point is the same
)

// foreign reports whether a session is not that of the client in s.connect, who has come in by g.
func (s *shard) foreign(cl *client, g *greet) bool {
	if !cl.anyMount && cl.rights().mountPoint() != g.opts.MountPoint {
		return true
	}
	return !cl.anyUser && cl.username() != string(s.connect.Username) && s.opts.OtherUsers != ResumeSession
}

// username is the name of the user to whom the session belongs; "" for anonymous ones.
func (c *client) username() string {
	if c.rare == nil {
		return ""
	}
	return c.rare.username
}

// turnsAway refuses a client that is let in but must not have a session: there is no place or no memory
// for one, or the one of its client id is another user's. old is that session, nil without.
func (s *shard) turnsAway(g *greet, old *client, foreign bool) bool {
	c, p := g.conn, &s.connect
	switch {
	case foreign && s.opts.OtherUsers == RefuseSession:
		s.leaveOut(g)
		s.logf(LevelNotice, "Client %s [%s] is refused: another user's session has this client id.",
			old.id, peer(c))
		s.refuse(c, p, codec.ClientIdentifierNotValid)
	case old == nil && s.full():
		s.leaveOut(g)
		s.turnAway(c, p)
	case s.b.memory.Short() && (old == nil || p.HasWill && tooLarge(&p.Will, old)):
		s.leaveOut(g)
		s.refuseMemory(c, p)
	default:
		return false
	}
	return true
}

// leaveOut gives up what has been prepared for a client.
func (s *shard) leaveOut(g *greet) {
	s.unpinAll(g.grants)
	g.conn.Attachment = nil
}
