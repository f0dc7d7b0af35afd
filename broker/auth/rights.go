package auth

import (
	"bytes"

	"noctule/codec"
)

// Rights is what is known of a client, for as long as its session lives: who it is, as far as that
// matters, and what it may do. A value that others have is read-only.
type Rights struct {
	Permissions *Permissions // nil: everything
	Stay        *Stay        // what of its Pass goes on; nil: it has come without
	Mark        uint32       // of its entry in the password file; 0 if none has let it in
	Named       bool         // it has a username, maybe an empty one
	Identified  bool         // a certificate vouches for it
	MountPoint  string       // before each of its topics
}

// Entitled is r with what a policy says of a client that has been let in; p may be nil.
func (r Rights) Entitled(p *Policy, clientID, username string) Rights {
	r.Permissions, r.Mark = nil, 0
	if p == nil {
		p = &Policy{}
	}
	r.Permissions = p.permissions(clientID, username, r.Named, r.Stay.rules())
	if !r.Identified && r.Named && r.Stay == nil {
		r.Mark = p.Mark(username)
	}
	return r
}

// Renewed is r by another policy, which may be nil; welcome says whether the client would still be let in,
// where without a policy everybody is if anonymous says so. Its password is not kept: who has the same
// entry in the password file as before stays,
// and who came with a Pass if who gave it says so.
func (r Rights) Renewed(p *Policy, clientID, username string, anonymous bool) (next Rights, welcome bool) {
	r.Permissions = nil
	if p == nil {
		p = &Policy{AllowAnonymous: anonymous}
	}
	r.Permissions = p.permissions(clientID, username, r.Named, r.Stay.rules())
	switch {
	case r.Identified:
		return r, true
	case r.Stay != nil:
		return r, p.Keeps(r.Stay, username)
	}
	return r, p.StillValid(username, r.Named, r.Mark)
}

// Tell reports whether there is anything worth remembering; not so for most clients without a username.
func (r *Rights) Tell(p *Policy) bool {
	return r.Permissions != nil || r.MountPoint != "" || r.Identified || r.Stay != nil || p != nil && r.Named
}

// MayBeGiven reports whether a client may be subscribed to a filter by others. One without wildcards whose
// topic may not be read is refused, though a SUBSCRIBE would be granted: who asks is to know that nothing
// would come. With wildcards each message is asked about.
func (p *Permissions) MayBeGiven(filter string) bool {
	name := []byte(filter)
	if !p.Allows(Subscribe, name) {
		return false
	}
	if _, inner, shared := codec.SplitShare(name); shared {
		name = inner
	}
	return bytes.ContainsAny(name, "+#") || p.Allows(Read, name)
}

// CoversSubscription is Covers for a filter that may be shared.
func (p *Permissions) CoversSubscription(filter []byte) bool {
	if _, name, shared := codec.SplitShare(filter); shared {
		filter = name
	}
	return p.Covers(filter)
}
