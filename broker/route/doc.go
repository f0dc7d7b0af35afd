// Package route takes a published message to all who get it, on whatever loop they live.
//
// The Router of a loop asks the index which filters match and which loops have subscribers for each: one
// Match, no lock. Subscribers of its own loop get the message at once, other loops one mailbox item each and
// turn (package mail), shared subscriptions go to the loop that deals for the group. A crowd larger than a
// slice is served in slices with other work in between (package fanout), and so is a message that matches
// very many filters: a passage. What is on its way to durable sessions of other loops, or in later turns, is
// owed (package durable).
//
// A Router and all that is in it belong to its loop; what it gives to those of other loops goes through their
// mailboxes. What a receiver does with a message, and whether it may have it, it knows itself.
package route
