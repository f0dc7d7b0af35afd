// Package grants holds what servers have given sessions: subscriptions that a client has not made itself.
//
// All that one origin has given to one session is a grant, and its topics are a set. Sessions of a loop with
// the same list are members of one and the same: the index, the crowds (fanout) and the list of topics exist
// once a set, and a session costs one place in its members and one grant, however many topics there are.
//
// A filter's crowd refers to the sets that contain it. A set is planted, which is to enter its topics in the
// index, before it has its first member, and uprooted after its last has left; both in pieces. A member that
// has subscribed to one of the filters itself, or has it by an earlier grant, is passed over in the fan-out
// (List.Masks), so that it gets one copy.
//
// A Table is one loop's, and a List one session's: they belong to the loop. Doors are for other goroutines.
// They work on a request off the loops: the loop says what the session has of the request's origin, the new
// list is put together (behalf.NewPlan), it is planted on the loop in pieces, and then the loop exchanges one
// set for the other, if nothing has changed meanwhile; else it begins again. So a loop never does more than
// plantStep topics at a time, whatever the size of the list.
//
// Requests for clients that are not connected wait on the loop that the session will live on; those for users
// on every loop. What is given to durable sessions is noted in the loop's journal (stored.go).
//
// Rejected: one subscription a client and topic with an origin beside it (50 topics took 4 KB a client and
// 20 us a connect), and marks per origin in a table beside the list (a session's reconciliation then walks it
// all at each CONNECT).
package grants
