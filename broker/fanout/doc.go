// Package fanout knows who gets a message on one event loop: filter -> receivers.
//
// A filter has receivers that have subscribed to it themselves, sets of receivers that share a list of
// filters, and taps. One with a single subscriber, the most frequent kind, is a pointer in a map; more become
// a crowd. A crowd larger than a slice is served in slices with other work in between: messages to it queue
// in the crowd, so that order holds, and receivers that leave meanwhile are only marked.
//
// What a hit leads to, whether the receiver may have the message, has it already or waits, is for the visitor
// that the caller gives. A Table and all that is in it belong to one loop.
package fanout
