package broker

import (
	"bytes"
	"slices"

	"noctule/broker/auth"
	"noctule/codec"
	"noctule/topictree"
)

// Private is topics that only some may read, whatever access rules say, and where there are none.
type Private struct {
	Filter    string
	Usernames []string // who may; without passwords a username proves nothing
	// Writers, when not "", lets those in as well whom an access rule lets publish on this topic.
	Writers string
}

// mayReadPrivate reports whether nothing private keeps the client from reading a topic.
func (c *client) mayReadPrivate(topic []byte) bool {
	list := c.shard.opts.Private
	for i := range list {
		p := &list[i]
		if !topictree.MatchFilter([]byte(p.Filter), topic) {
			continue
		}
		named := c.rare != nil && c.rare.username != "" && slices.Contains(p.Usernames, c.rare.username)
		r := c.rights()
		ruled := p.Writers != "" && r != nil && r.Permissions != nil &&
			r.Permissions.Allows(auth.Write, []byte(p.Writers))
		if !named && !ruled {
			return false
		}
	}
	return true
}

// touchesPrivate reports whether a filter, which may be shared, may match something private.
func (s *shard) touchesPrivate(filter []byte) bool {
	if len(s.opts.Private) == 0 {
		return false
	}
	if _, name, shared := codec.SplitShare(filter); shared {
		filter = name
	}
	return slices.ContainsFunc(s.opts.Private, func(p Private) bool {
		return meet([]byte(p.Filter), filter)
	})
}

// meet reports whether there may be a topic that two filters match.
func meet(a, b []byte) bool {
	for {
		x, restA, moreA := bytes.Cut(a, []byte("/"))
		y, restB, moreB := bytes.Cut(b, []byte("/"))
		switch {
		case string(x) == "#" || string(y) == "#":
			return true
		case !bytes.Equal(x, y) && string(x) != "+" && string(y) != "+":
			return false
		case !moreA && !moreB:
			return true
		case !moreA:
			return string(restB) == "#"
		case !moreB:
			return string(restA) == "#"
		}
		a, b = restA, restB
	}
}
