// Package topictree indexes MQTT topics: Index finds the filters that match a topic, Retained finds the
// topics that match a filter.
//
// Readers take no lock. A filter without wildcards is one entry of an open-addressing hash table; wildcard
// filters are also paths in a trie whose edges are such tables, and in which a path of single children is
// one node. Writers hold the mutex of one shard of the table, and that of the trie for a wildcard filter;
// they publish with atomic stores, and what they retire is left to the garbage collector, so that a reader
// never sees memory that was given to something else. Hashes are the runtime's, with a seed of each index,
// and the bytes are compared on each hit: who chooses topics does not know which collide (ADR 14).
//
// Match costs one look-up for the exact filters, and for wildcards at most one step per trie node that
// matches a prefix of the topic: a walk visits no node twice and none that does not match, whatever filters
// there are.
package topictree
