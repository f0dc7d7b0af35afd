package broker

import "noctule/wsnet"

// OnLoop runs f on a loop, between reading its sockets and writing them.
func (b *Broker) OnLoop(i int, f func()) {
	b.shards[i].loop.MustPost(wsnet.TaskFunc(func(*wsnet.Loop) { f() })) // a test's
}

// Halt is what a loop does while others, or the disk, do not keep up. On the loop.
func (b *Broker) Halt(i int, on bool) { b.shards[i].halt(on) }

// HomeOf is the loop on which a session lives.
func (b *Broker) HomeOf(clientID string) int { return b.home([]byte(clientID)).index }

// ShareHome is the loop that deals a shared subscription.
func (b *Broker) ShareHome(group, filter string) int {
	return b.shareHome([]byte(group), []byte(filter))
}

// Searches is the number of messages for which a loop, which must call it, still looks for subscriptions.
func (b *Broker) Searches(i int) int { return b.shards[i].router.Searches() }
