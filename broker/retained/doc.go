// Package retained holds the broker's retained messages and what single clients are still to be sent of them.
//
// The Index is one for all loops; the messages in it have numbers. A Queue is one client's: a subscriber
// gets the messages that match through a cursor, a bounded piece a turn and only as fast as its window and
// its socket take them, so that a large tree neither stalls the loop nor is lost at the queue limit. What
// is still to be sent when the connection ends waits for the next one with the session, and goes on where
// it has got to: what the session has been given already is not sent again.
//
// A Replay has a mark: the last number that the index had when the subscription was in effect. A later
// message matches the subscription and comes live; the cursor passes over it. One up to the mark is in the
// index, or a later one is: the cursor has it, and if the subscription is new, a live copy that still
// arrives is left out (Awaits). Such copies lie in the mail of other loops and in slices of large crowds.
// A replay begins when all of them have come (Receiver.Behind), so that no older message comes behind it
// [MQTT-4.6.0-6].
package retained
