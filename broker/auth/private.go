package auth

import (
	"bytes"
	"slices"

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

// Privates are all that is private. The zero value is nothing.
type Privates []Private

// MayRead reports whether nothing private keeps a client from reading a topic: username is its user, "" for
// nobody's, and p what access rules let it do, nil where there are none.
func (list Privates) MayRead(topic []byte, username string, p *Permissions) bool {
	for i := range list {
		x := &list[i]
		if !topictree.MatchFilter([]byte(x.Filter), topic) {
			continue
		}
		named := username != "" && slices.Contains(x.Usernames, username)
		ruled := x.Writers != "" && p != nil && p.Allows(Write, []byte(x.Writers))
		if !named && !ruled {
			return false
		}
	}
	return true
}

// Touches reports whether a filter, which may be shared, may match something private.
func (list Privates) Touches(filter []byte) bool {
	if len(list) == 0 {
		return false
	}
	if _, name, shared := codec.SplitShare(filter); shared {
		filter = name
	}
	return slices.ContainsFunc(list, func(x Private) bool { return meet([]byte(x.Filter), filter) })
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
