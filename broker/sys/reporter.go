package sys

// Reporter has one loop say the tree whenever it is due. It belongs to the loop.
type Reporter struct {
	Schedule

	// Set before the first use, then read-only:
	Gather  func()       // asks for the numbers, off the loop; Found is called with what is new
	Publish func(x Text) // on the loop

	Tree  *Tree // from Gather to Found, that goroutine's
	asked bool  // an answer is awaited
}

// Say publishes what a topic, named without Prefix, says.
func (r *Reporter) Say(topic, text string) {
	for _, x := range r.Tree.Say(nil, Prefix+topic, text) {
		r.Publish(x)
	}
}

// Tick starts an update when its time has come; now is in Unix seconds.
func (r *Reporter) Tick(now int64) {
	if !r.asked && r.Due(now) {
		r.Ask(now)
	}
}

// Ask starts an update.
func (r *Reporter) Ask(now int64) {
	r.asked = true
	r.Begin(now)
	r.Gather()
}

// Found publishes what is new.
func (r *Reporter) Found(list []Text) {
	r.asked = false
	for _, x := range list {
		r.Publish(x)
	}
}
