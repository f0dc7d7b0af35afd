// Package bench is a load generator for MQTT brokers: thousands of clients on few event loops, messages
// numbered per publisher so that each loss, repetition and reordering is counted, and latencies measured
// from the time a message was due, not from when it could be sent, so that a stall of the broker is seen
// in full.
//
// A Plan says which clients there are and what they do, Run does it and returns a Report. The engine needs
// Linux. It shares with the broker only the packet codec.
package bench
