// Package store holds what survives a restart: the seam that a durable store implements, the records, the
// committer that makes them durable in groups, and a twin in memory.
//
// A store is a set of tables of keys and values. It changes only by Commit, which applies batches of
// operations in their order, all or nothing. Every operation names the whole new value of its key, or removes
// it, so applying a sequence twice is applying it once: that is what lets a failed commit be tried again, and
// a log be folded into tables while it is still there.
//
// Event loops do not wait for a store. Each collects the operations of a turn in a Batch and posts it to the
// Committer, which answers with the number of the post and tells later that it is durable; what promises
// something about it leaves the broker only then.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Table names one table.
type Table uint8

// The tables. Keys of Subscriptions, Entries, Inbound and Grants begin with the 8 bytes of their session's
// number, so that they can be dropped together.
const (
	Config        Table = iota // "state" -> Meta
	Sessions                   // session number -> Session
	Subscriptions              // session number, filter -> Subscription
	Messages                   // message id -> message
	Entries                    // session number, sequence -> Entry
	Inbound                    // session number, packet id -> Handshake
	Retained                   // topic -> message
	Transits                   // message id, target -> Transit
	Sets                       // key -> Set; since version 2 of the file, as is Grants
	Grants                     // session number, origin -> Grant
	Denials                    // kind, name -> Denial; files that are older get it when they are opened
	Answers                    // 0, key -> Set; 1, key of a question, whose -> Answer; as Denials
	Tables                     // number of tables
)

// String is the table's name in tools.
func (t Table) String() string {
	names := [...]string{
		"config", "sessions", "subscriptions", "messages", "entries", "inbound", "retained", "transits",
		"sets", "grants", "denials", "answers",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("table %d", uint8(t))
}

// Store keeps tables. Walk is for the time between opening and the first Commit, and for tools; Commit is
// called by one goroutine at a time.
type Store interface {
	// Commit applies batches, each the bytes of a Batch, in their order: all, durably, or none. After an
	// error the same batches may be given again.
	Commit(batches ...[]byte) error
	// Walk calls f for each pair of a table, in the order of the keys, until it returns an error. The bytes
	// are a loan that ends with the call.
	Walk(t Table, f func(key, value []byte) error) error
	// Close gives everything up.
	Close() error
}

// Reader is a store whose messages can be read by their ids, from any goroutine and while commits go on. A
// message never changes under its id.
type Reader interface {
	// ReadMessages calls f, in their order, for those of ids that are stored durably, until it returns an
	// error. What has been deleted may still be found. The bytes are a loan that ends with the call.
	ReadMessages(ids []uint64, f func(i int, value []byte) error) error
}

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Put    Kind = iota
	Delete      // remove one key
	Drop        // remove all keys that begin with Key, which has 8 bytes
)

// Op is one operation of a batch. Key and Value alias the batch.
type Op struct {
	Kind       Kind
	Table      Table
	Key, Value []byte
}

// ownerSize is the length of a Drop's key.
const ownerSize = 8

// ErrCorrupt is wrapped by errors about bytes that no Batch has written.
var ErrCorrupt = errors.New("store: corrupt")

// Batch is operations in their order, as bytes: kind<<4|table, length of the key, key and, of a Put, length
// of the value, value; lengths are unsigned varints. The zero value is empty.
type Batch struct {
	b   []byte
	ops int
}

// Bytes is what Commit takes. They are the batch's until Reset.
func (b *Batch) Bytes() []byte { return b.b }

// Len is the number of operations.
func (b *Batch) Len() int { return b.ops }

// Size is the number of bytes.
func (b *Batch) Size() int { return len(b.b) }

// Take returns the bytes and leaves an empty batch on other memory.
func (b *Batch) Take(spare []byte) []byte {
	out := b.b
	b.b, b.ops = spare[:0], 0
	return out
}

// Append adds the operations of another batch, which keeps them.
func (b *Batch) Append(other *Batch) {
	b.b = append(b.b, other.b...)
	b.ops += other.ops
}

// head appends what stands before the value.
func (b *Batch) head(k Kind, t Table, key int) {
	b.ops++
	b.b = append(b.b, byte(k)<<4|byte(t))
	b.b = binary.AppendUvarint(b.b, uint64(key))
}

// Put stores a value under a key.
func (b *Batch) Put(t Table, key, value []byte) {
	b.head(Put, t, len(key))
	b.b = append(b.b, key...)
	b.b = binary.AppendUvarint(b.b, uint64(len(value)))
	b.b = append(b.b, value...)
}

// Delete removes a key.
func (b *Batch) Delete(t Table, key []byte) {
	b.head(Delete, t, len(key))
	b.b = append(b.b, key...)
}

// drop removes all keys of an owner.
func (b *Batch) drop(t Table, owner uint64) {
	b.head(Drop, t, ownerSize)
	b.b = binary.BigEndian.AppendUint64(b.b, owner)
}

// Each calls f for each operation in raw, until it returns an error. The bytes of an Op alias raw.
func Each(raw []byte, f func(Op) error) error {
	for len(raw) > 0 {
		op := Op{Kind: Kind(raw[0] >> 4), Table: Table(raw[0] & 0x0F)}
		if op.Kind > Drop || op.Table >= Tables {
			return fmt.Errorf("%w: operation 0x%02x", ErrCorrupt, raw[0])
		}
		var ok bool
		if op.Key, raw, ok = field(raw[1:]); ok && op.Kind == Put {
			op.Value, raw, ok = field(raw)
		}
		if !ok || op.Kind == Drop && len(op.Key) != ownerSize {
			return fmt.Errorf("%w: an operation on %s is cut off", ErrCorrupt, op.Table)
		}
		if err := f(op); err != nil {
			return err
		}
	}
	return nil
}

// field cuts a length and as many bytes off.
func field(raw []byte) (f, rest []byte, ok bool) {
	n, size := binary.Uvarint(raw)
	if size <= 0 || n > uint64(len(raw)-size) {
		return nil, raw, false
	}
	end := size + int(n)
	return raw[size:end:end], raw[end:], true
}
