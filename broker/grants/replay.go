package grants

import "noctule/broker/retained"

// replay sends the retained messages for topics of a grant, behind what is under way for it already. Of a
// long list only the first topics are held against the index now. It reports whether there are any.
func (t *Table[C]) replay(c C, g *grant[C], topics []retained.Topic) bool {
	if len(topics) == 0 {
		return false
	}
	r := g.replay()
	if r != nil {
		r.Outdate(topics)
	}
	l := c.Given(true)
	alone := r == nil && c.About().Subscriptions == 0 && l.first == g && g.next == nil
	var found, rest []retained.Topic
	for i := range topics {
		if i >= retained.Steps && alone {
			rest = topics[i:]
			break
		}
		p := topics[i]
		filter := p.ID.Filter()
		if p.RetainHandling == 2 || i < retained.Steps && !t.retained.MayMatch([]byte(filter)) {
			continue
		}
		if r != nil && r.ToCome(filter) {
			continue
		}
		p.Had = p.Had || !alone && (l.Has(filter, g.origin.Name) || c.Own(p.ID))
		found = append(found, p)
	}
	if len(found)+len(rest) == 0 {
		return false
	}
	t.giveReplay(c, g, found, rest)
	return true
}

// giveReplay adds topics to the replay of a grant.
func (t *Table[C]) giveReplay(c C, g *grant[C], lots ...[]retained.Topic) {
	q, round := t.host.Replays(c, true)
	r, mark := g.replay(), t.retained.Mark()
	if r == nil {
		r = retained.List()
		g.more().replay = r
		q.Add(r)
	}
	for _, todo := range lots {
		r.Give(todo, mark, round)
	}
}

// Sent notes that the retained messages of a list are all sent, and taken off the queue.
func (t *Table[C]) Sent(c C, r *retained.Replay) {
	t.loop.MustBeHere()
	g := c.Given(false).sending(r)
	if g == nil {
		return
	}
	g.extra.replay = nil
	g.settle()
	t.save(c, g)
}

// resumeReplay makes the replay of a grant again that the store has noted.
func (t *Table[C]) resumeReplay(c C, g *grant[C], owed []string, all bool) {
	if g.set == nil || !t.limits.Retained || len(owed) == 0 && !all {
		return
	}
	todo := g.set.topics
	if !all {
		todo = nil
		for _, filter := range owed {
			if i, ok := g.set.find(filter); ok {
				todo = append(todo, g.set.topics[i])
			}
		}
	}
	q, round := t.host.Replays(c, false)
	r := retained.List()
	r.Give(todo, t.retained.Mark(), round)
	g.more().replay = r
	q.Add(r)
}
