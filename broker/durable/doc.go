// Package durable keeps the promises about durable state: what a loop notes, what of it is durable, what
// waits for that, and what loops owe each other.
//
// Whatever changes a durable session is noted as an operation in the Journal of its loop. At the end of
// the turn, before other loops are told anything and before a socket is written, the journal is posted to
// the committer (broker/store); some milliseconds later that tells that the post is durable. A packet that
// promises something waits behind a Gate of its client until then, and all that goes to this client later
// waits behind it, so that order holds [MQTT-4.6.0-2].
//
// The operations of a turn are durable together or not at all. So a PUBREL's fan-out to the sessions of
// this loop and the end of its packet id are one. For sessions of other loops the same post holds a
// transit per loop and filter: a debt, which the other loop pays in the one post that holds what its
// sessions got. What is still owed after a crash is paid at the start.
package durable
