package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
)

// What a file says of itself, in the bucket "format": "format" the name of the format, "state" how much of
// the log is in the tables and what the tables hold, "upgraded" how far the change from an old format has
// come; other names are of notes, whose values have checksums like records.
//
// Each value of a table ends with a checksum of table, key and value, each entry of the log begins with one
// of its number and its operations. They tell which record is damaged. That none is missing, or one of long
// ago in its place, because a page with references to others is damaged, is told by the sum of the
// checksums of each table, and by the numbers of the log's entries, which have no gaps.
//
// Formats: 1 has neither checksums nor the tables from store.Sets on, 2 has no checksums; both have one in
// each entry of the log, of its operations. A bit that flips must not make one name of another.
const (
	formatName = "noctule 3, with checksums"
	formatHalf = "noctule 3, unfinished"
	format2    = "noctule 2"
	format1    = "noctule 1"
)

const (
	formatBucket = "format"
	logBucket    = "log"
	// checksumSize is the length of the checksum in a record and in an entry of the log.
	checksumSize = 4
)

func formatKey() []byte   { return []byte("format") }
func stateKey() []byte    { return []byte("state") }
func upgradedKey() []byte { return []byte("upgraded") }

func bucketOf(t store.Table) []byte { return []byte(t.String()) }

func castagnoli(sum uint32, b []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), b)
}

// checksum is the checksum of a record.
func checksum(t store.Table, key, value []byte) uint32 {
	head := [3]byte{byte(t), byte(len(key) >> 8), byte(len(key))}
	return castagnoli(castagnoli(castagnoli(0, head[:]), key), value)
}

// seal is a value with its checksum.
func seal(t store.Table, key, value []byte) []byte {
	out := make([]byte, 0, len(value)+checksumSize)
	return binary.LittleEndian.AppendUint32(append(out, value...), checksum(t, key, value))
}

// unseal is the value without its checksum, if that is right.
func unseal(t store.Table, key, sealed []byte) ([]byte, error) {
	n := len(sealed) - checksumSize
	if n < 0 || binary.LittleEndian.Uint32(sealed[n:]) != checksum(t, key, sealed[:n]) {
		return nil, fmt.Errorf("%w: checksum of the record %x of %s", store.ErrCorrupt, key, t)
	}
	return sealed[:n:n], nil
}

// pieceSum is the checksum of an entry of the log.
func pieceSum(seq uint64, ops []byte) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], seq)
	return castagnoli(castagnoli(0, n[:]), ops)
}

// piece checks an entry of the log and returns its operations.
func piece(seq uint64, v []byte, upgraded place) ([]byte, error) {
	var sum uint32
	if len(v) >= checksumSize {
		if sum = castagnoli(0, v[checksumSize:]); upgraded.hasEntry(seq) {
			sum = pieceSum(seq, v[checksumSize:])
		}
	}
	if len(v) < checksumSize || binary.LittleEndian.Uint32(v) != sum {
		return nil, fmt.Errorf("%w: checksum of log entry %d", store.ErrCorrupt, seq)
	}
	return v[checksumSize:], nil
}

// tally is how many records a table holds, and the sum of their checksums.
type tally struct{ count, sum uint64 }

func (t *tally) add(sealed []byte) {
	t.count++
	t.sum += tail(sealed)
}

func (t *tally) remove(sealed []byte) {
	t.count--
	t.sum -= tail(sealed)
}

// tail is the checksum at the end of a value.
func tail(sealed []byte) uint64 {
	if len(sealed) < checksumSize {
		return math.MaxUint64 // damaged; the tally will not be right
	}
	return uint64(binary.LittleEndian.Uint32(sealed[len(sealed)-checksumSize:]))
}

// state is what changes with each part of a fold.
type state struct {
	tables store.Table // how many of them the file has
	folded uint64      // number of the last log entry that has gone
	tally  [store.Tables]tally
}

// stateVersion is the first byte of a stored state.
const stateVersion = 1

const (
	stateHead = 10 // version, number of tables, folded
	tallySize = 16
)

func (s *state) put(tx *bbolt.Tx) error {
	v := append(make([]byte, 0, stateHead+int(s.tables)*tallySize+checksumSize), stateVersion, byte(s.tables))
	v = binary.BigEndian.AppendUint64(v, s.folded)
	for _, t := range s.tally[:s.tables] {
		v = binary.BigEndian.AppendUint64(v, t.count)
		v = binary.BigEndian.AppendUint64(v, t.sum)
	}
	v = binary.LittleEndian.AppendUint32(v, castagnoli(0, v))
	return tx.Bucket([]byte(formatBucket)).Put(stateKey(), v)
}

func readState(tx *bbolt.Tx) (s state, err error) {
	v := tx.Bucket([]byte(formatBucket)).Get(stateKey())
	n := len(v) - checksumSize
	if n < stateHead || v[0] != stateVersion || castagnoli(0, v[:n]) != binary.LittleEndian.Uint32(v[n:]) ||
		n != stateHead+int(v[1])*tallySize {
		return s, fmt.Errorf("%w: state of the file", store.ErrCorrupt)
	}
	s.tables = store.Table(v[1])
	if s.tables > store.Tables {
		return s, fmt.Errorf("%w: %d tables, of a newer program", ErrForeign, s.tables)
	}
	s.folded = binary.BigEndian.Uint64(v[2:])
	for i := range s.tables {
		at := v[stateHead+int(i)*tallySize:]
		s.tally[i] = tally{binary.BigEndian.Uint64(at), binary.BigEndian.Uint64(at[8:])}
	}
	return s, nil
}

// place says how far a file has been upgraded: records up to one have checksums. Tables come in their order,
// then the log.
type place struct {
	table byte
	key   []byte
}

const (
	placeLog = 0xFE
	placeAll = 0xFF
)

func (p place) has(t store.Table, key []byte) bool {
	return p.table > byte(t) || p.table == byte(t) && bytes.Compare(key, p.key) <= 0
}

func (p place) hasEntry(seq uint64) bool {
	return p.table > placeLog || p.table == placeLog && seq <= store.KeyNumber(p.key)
}

func (p place) put(tx *bbolt.Tx) error {
	v := append([]byte{p.table}, p.key...)
	v = binary.LittleEndian.AppendUint32(v, castagnoli(0, v))
	return tx.Bucket([]byte(formatBucket)).Put(upgradedKey(), v)
}

// readUpgraded says how far the file has been upgraded, if it is one of ours.
func readUpgraded(tx *bbolt.Tx) (p place, err error) {
	b := tx.Bucket([]byte(formatBucket))
	if b == nil {
		return p, ErrForeign
	}
	switch name := string(b.Get(formatKey())); name {
	case formatName:
		return place{table: placeAll}, nil
	case format2, format1:
		return place{}, nil
	case formatHalf:
		v := b.Get(upgradedKey())
		n := len(v) - checksumSize
		if n < 1 || castagnoli(0, v[:n]) != binary.LittleEndian.Uint32(v[n:]) {
			return p, fmt.Errorf("%w: state of the upgrade", store.ErrCorrupt)
		}
		return place{v[0], bytes.Clone(v[1:n])}, nil
	default:
		return p, fmt.Errorf("%w: format %q", ErrForeign, name)
	}
}

// checkHead finds out whether the buckets are those of the format that the file says it has; fresh: there are
// none.
func checkHead(tx *bbolt.Tx) (fresh bool, err error) {
	known := map[string]bool{formatBucket: true, logBucket: true}
	for t := range store.Tables {
		known[t.String()] = true
	}
	there := map[string]bool{}
	unknown := ""
	err = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if there[string(name)] = true; !known[string(name)] || b == nil {
			unknown = string(name)
		}
		return nil
	})
	switch {
	case err != nil:
		return false, err
	case len(there) == 0:
		return true, nil
	case !there[formatBucket] && !there[logBucket]: // one flipped bit cannot make it so
		return false, ErrForeign
	case !there[formatBucket]:
		return false, fmt.Errorf("%w: no bucket %q", store.ErrCorrupt, formatBucket)
	}
	tables, err := tablesOf(tx)
	if err != nil {
		return false, err
	}
	if unknown != "" {
		return false, fmt.Errorf("%w: unknown bucket %q", store.ErrCorrupt, unknown)
	}
	for t := range store.Tables {
		if t < tables && !there[t.String()] {
			return false, fmt.Errorf("%w: no table of %s", store.ErrCorrupt, t)
		}
	}
	if !there[logBucket] {
		return false, fmt.Errorf("%w: no log", store.ErrCorrupt)
	}
	return false, checkNotes(tx.Bucket([]byte(formatBucket)))
}

// tablesOf is how many tables a file must have.
func tablesOf(tx *bbolt.Tx) (store.Table, error) {
	if _, err := readUpgraded(tx); err != nil {
		return 0, err
	}
	switch string(tx.Bucket([]byte(formatBucket)).Get(formatKey())) {
	case format1:
		return store.Sets, nil
	case format2:
		return store.Grants + 1, nil
	default:
		s, err := readState(tx)
		return s.tables, err
	}
}
