// Package codec parses and appends the control packets of MQTT 3.1, 3.1.1 and 5.0.
//
// Parsing works in place: slices in a parsed packet alias the input, which is a loan of the caller's.
// ParseHeader finds where a packet ends; each packet type then has three verbs: Parse takes the body,
// Append adds the whole packet with its fixed header, and Len says how many bytes Append adds. Nothing is
// allocated for a PUBLISH, or for any packet whose struct is reused.
//
// An *Error carries the reason code that goes on the wire. The package keeps no state and is safe for
// concurrent use.
package codec
