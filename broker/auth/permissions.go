package auth

import "context"

// Permissions makes what one client may do; nil means that everything is allowed, since nobody restricts.
func (p *Policy) Permissions(clientID, username string, hasUsername bool) *Permissions {
	return p.permissions(clientID, username, hasUsername, nil)
}

// permissions are those with one more source of rules, which comes last; nil: none.
func (p *Policy) permissions(clientID, username string, hasUsername bool, last Rules) *Permissions {
	var out *Permissions
	for _, a := range p.Authorizers {
		out = out.and(a.Rules(clientID, username, hasUsername), p.Combine)
	}
	return out.and(last, p.Combine)
}

// and adds rules, which may be nil, to those that are there.
func (p *Permissions) and(r Rules, combine Combine) *Permissions {
	switch {
	case r == nil:
		return p
	case p == nil:
		p = &Permissions{first: r, combine: combine}
	default:
		p.more = append(p.more, r)
	}
	if _, asks := r.(Asker); asks {
		p.asks = true
	}
	return p
}

// Permissions are the rules of one client. They are immutable, and nil allows everything.
type Permissions struct {
	first   Rules
	more    []Rules
	asks    bool // some of them are an Asker
	combine Combine
}

// Allows reports whether the client may do one thing; topic is a filter for Subscribe and Unsubscribe. It
// allocates nothing.
func (p *Permissions) Allows(a Access, topic []byte) bool {
	if p == nil {
		return true
	}
	v := p.check(a, topic)
	return v == Allow || v == Ignore
}

// check is what the rules come to: Allow; Ignore if nobody has an opinion; Deny; Defer, which is no; Ask if
// that depends on who has to be asked.
func (p *Permissions) check(a Access, topic []byte) Verdict {
	v := p.first.Check(a, topic)
	for _, r := range p.more {
		if p.decided(v) {
			break
		}
		v = p.join(v, r.Check(a, topic))
	}
	return v
}

// decided reports that no further verdict changes what is there.
func (p *Permissions) decided(v Verdict) bool { return v == Deny || v >= Deny && p.combine == First }

// join is what two verdicts come to, the first of which has not decided. By First no opinion gives way to the
// next one; by Every a no is a no, and then somebody who is to be asked may still say no.
func (p *Permissions) join(v, w Verdict) Verdict {
	if p.combine == Every && w == Deny {
		return Deny
	}
	return max(v, w)
}

// Asks reports whether some of the rules are an Asker.
func (p *Permissions) Asks() bool { return p != nil && p.asks }

// Open reports whether Allows says no only because somebody has to be asked.
func (p *Permissions) Open(a Access, topic []byte) bool {
	return p != nil && p.check(a, topic) == Ask
}

// Resolve is Allows for who can wait; answered is false when somebody who was asked has not said yes or no.
// Nobody is asked while another's no is there already; those who are, are asked in their order, to the first
// who decides or does not answer.
func (p *Permissions) Resolve(ctx context.Context, a Access, topic []byte) (allowed, answered bool) {
	if !p.Open(a, topic) {
		return p.Allows(a, topic), true
	}
	v, answered := ask(ctx, p.first, a, topic)
	for _, r := range p.more {
		if !answered || p.decided(v) {
			break
		}
		var w Verdict
		w, answered = ask(ctx, r, a, topic)
		v = p.join(v, w)
	}
	if !answered {
		return false, false
	}
	return v == Allow || v == Ignore, true
}

// ask is the verdict of one of the rules, who is asked if need be. Who says Ask and cannot be asked says no.
func ask(ctx context.Context, r Rules, a Access, topic []byte) (v Verdict, answered bool) {
	if v = r.Check(a, topic); v != Ask {
		return v, true
	}
	x, ok := r.(Asker)
	if !ok {
		return Deny, true
	}
	v = x.Ask(ctx, a, topic)
	return v, v == Allow || v == Deny
}

// Covers reports that every topic which filter, not a shared subscription, matches may be read: messages
// for it need no check. False is always safe.
func (p *Permissions) Covers(filter []byte) bool {
	if p == nil {
		return true
	}
	// By First the first Rules decide alone where they allow; where they have no opinion the next ones would
	// have to agree topic by topic, which is not worth the trouble. By Every all have to cover it.
	if !p.first.Covers(filter) {
		return false
	}
	for i := 0; p.combine == Every && i < len(p.more); i++ {
		if !p.more[i].Covers(filter) {
			return false
		}
	}
	return true
}
