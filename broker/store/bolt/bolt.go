// Package bolt is the durable store: one bbolt file.
//
// A commit appends its batches to a log, a bucket with ascending keys, and nothing else: bbolt writes a few
// pages at the end of its tree and syncs twice. Folding moves the log into a bucket per table. When the log
// has grown by Options.FoldBytes a goroutine reads the new part and works out what is left of it: most
// messages and queue entries have come and gone within it and never reach a table. What is left is sorted
// and applied in slices, each as part of a commit that happens anyway, so that commits stay short and no
// sync is spent on it. Only when all of it is applied does that part of the log go, in slices too.
//
// A crash between slices is harmless: operations name whole values, so applying the log once more to tables
// that have seen part of it gives the same tables. Opening a file folds what is left; afterwards the tables
// are the state, and Walk reads it from them.
package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"noctule/broker/store"
)

// Options say how a file is opened.
type Options struct {
	// FoldBytes is the growth of the log after which it is folded; 0 means 16 MiB.
	FoldBytes int64
	// FoldTime is how long one commit may work on a fold; 0 means 1 ms. It is more when the log has become
	// much longer than FoldBytes.
	FoldTime time.Duration
	// LockTimeout is how long to wait for another process that has the file open; 0 means 1 s.
	LockTimeout time.Duration
	// ReadOnly opens a file that another process does not have open, without folding: the log is not seen.
	ReadOnly bool
	// NoSync leaves it to the system when data reaches the disk: for imports into files that are synced at
	// their end, never for a broker.
	NoSync bool
	// Bulk has commits put what they hold into the tables at once, without the log: for imports, with NoSync.
	Bulk bool
	// Log receives progress; nil discards it.
	Log *slog.Logger
}

// Store is an open file. See store.Store for who may call what.
type Store struct {
	// Set by Open, then read-only:
	db   *bbolt.DB
	opts Options

	// Owned by the goroutine that commits:
	seq      uint64 // of the last log entry
	logBytes int64  // in the log
	fold     *fold  // being applied; nil while there is none
	prepared chan prepared
	busy     bool // a fold is being prepared
	value    []byte

	recent recent // for those who read
}

type prepared struct {
	f   *fold
	err error
}

// Errors of Open.
var (
	// ErrForeign says that a file exists and is no store of this program.
	ErrForeign = errors.New("not a noctule database")
	// ErrLocked says that another process has the file open.
	ErrLocked = errors.New("database is in use by another process")
)

const (
	// format is what this program writes; files of formatOld are without the tables from store.Sets on, and
	// become files of format when they are opened for writing.
	format    = "noctule 2"
	formatOld = "noctule 1"
	logBucket = "log"
	// pieceBytes is about how long one entry of the log becomes.
	pieceBytes = 64 << 10
	// mapBytes is the address space taken for the file from the start, so that growing it never waits for a
	// backup that is being read.
	mapBytes = 16 << 30
	// checksumSize is what each entry of the log begins with.
	checksumSize = 4
)

func bucketOf(t store.Table) []byte { return []byte(t.String()) }

// Open opens or makes a file and folds its log.
func Open(path string, o Options) (s *Store, err error) {
	if o.FoldBytes == 0 {
		o.FoldBytes = 16 << 20
	}
	if o.FoldTime == 0 {
		o.FoldTime = time.Millisecond
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := verify(path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db, err := openDB(path, &o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s = &Store{db: db, opts: o, prepared: make(chan prepared, 1)}
	err = guard(func() error {
		if o.ReadOnly {
			return s.db.View(checkFormat)
		}
		if err := s.db.Update(s.prepareBuckets); err != nil {
			return err
		}
		return s.foldAll()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return s, nil
}

func openDB(path string, o *Options) (*bbolt.DB, error) {
	bo := *bbolt.DefaultOptions
	bo.Timeout = o.LockTimeout
	bo.FreelistType = bbolt.FreelistMapType
	bo.NoFreelistSync = true
	bo.ReadOnly = o.ReadOnly
	bo.NoSync = o.NoSync
	bo.NoStatistics = true
	bo.InitialMmapSize = initialMap
	var db *bbolt.DB
	open := func() error {
		return guard(func() (err error) {
			db, err = bbolt.Open(path, 0o600, &bo)
			return err
		})
	}
	err := open()
	if err != nil && bo.InitialMmapSize > 0 && isNoMemory(err) { // an address space limit
		bo.InitialMmapSize = 0
		err = open()
	}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w, or its first pages are damaged (%w)", ErrForeign, err)
	case errors.Is(err, bolterrors.ErrChecksum):
		return nil, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return db, err
}

// guard turns what bbolt does with damaged pages, which is to panic or to read beyond the file, into an
// error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", store.ErrCorrupt, r)
		}
	}()
	return f()
}

func checkFormat(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte("format"))
	if b == nil {
		return ErrForeign
	}
	switch v := string(b.Get([]byte("format"))); v {
	case format, formatOld:
		return nil
	default:
		return fmt.Errorf("%w: format %q", ErrForeign, v)
	}
}

// prepareBuckets makes what is not there and finds the end of the log.
func (s *Store) prepareBuckets(tx *bbolt.Tx) error {
	if name, _ := tx.Cursor().First(); name != nil {
		if err := checkFormat(tx); err != nil {
			return err
		}
	}
	b, err := tx.CreateBucketIfNotExists([]byte("format"))
	if err != nil {
		return err
	}
	if string(b.Get([]byte("format"))) != format {
		if err := b.Put([]byte("format"), []byte(format)); err != nil {
			return err
		}
	}
	for t := range store.Tables {
		if _, err := tx.CreateBucketIfNotExists(bucketOf(t)); err != nil {
			return err
		}
	}
	l, err := tx.CreateBucketIfNotExists([]byte(logBucket))
	if err != nil {
		return err
	}
	s.seq = l.Sequence()
	if k, _ := l.Cursor().Last(); k != nil {
		s.seq = max(s.seq, store.KeyNumber(k))
	}
	return nil
}

// Close closes the file.
func (s *Store) Close() error {
	if s.busy { // the goroutine reads the file
		<-s.prepared
	}
	return s.db.Close()
}

// Commit implements store.Store.
func (s *Store) Commit(batches ...[]byte) error {
	if s.opts.Bulk {
		return s.fill(batches)
	}
	s.takePrepared()
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	seq, size, err := s.append(tx, batches)
	var at progress
	if err == nil && s.fold != nil {
		at, err = s.fold.step(tx, now().Add(s.foldTime()))
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.seq = seq
	s.logBytes += size
	if s.fold != nil {
		s.logBytes -= at.freed - s.fold.at.freed
		if s.fold.at = at; at.done {
			s.fold = nil
		}
	}
	if s.logBytes >= s.opts.FoldBytes && s.fold == nil && !s.busy {
		s.busy = true
		go func(upTo uint64) { // Close waits for it
			f, err := s.prepare(upTo, 0)
			s.prepared <- prepared{f, err}
		}(s.seq)
	}
	return nil
}

// takePrepared starts on a fold that is ready.
func (s *Store) takePrepared() {
	select {
	case p := <-s.prepared:
		s.busy = false
		if s.fold = p.f; p.err != nil { // the log stays, and the next fold tries again
			s.fold = nil
			s.opts.Log.Error("Error: folding the persistence log: " + p.err.Error())
		}
	default:
	}
}

// foldTime is how long this commit may fold: more, the further folding is behind.
func (s *Store) foldTime() time.Duration {
	return s.opts.FoldTime * time.Duration(max(1, s.logBytes/(4*s.opts.FoldBytes)))
}

// append writes batches to the log in pieces, each with a checksum in front.
func (s *Store) append(tx *bbolt.Tx, batches [][]byte) (seq uint64, size int64, err error) {
	l := tx.Bucket([]byte(logBucket))
	l.FillPercent = 0.9 // keys ascend
	seq = s.seq
	v := s.value[:0]
	flush := func(from int) error {
		seq++
		binary.LittleEndian.PutUint32(v[from:], crc32.Checksum(v[from+4:], crc32.MakeTable(crc32.Castagnoli)))
		size += int64(len(v) - from)
		return l.Put(binary.BigEndian.AppendUint64(nil, seq), v[from:])
	}
	total := 0
	for _, b := range batches {
		total += len(b)
	}
	if need := total + 4*(total/pieceBytes+2) + 4*len(batches); cap(v) < need {
		v = make([]byte, 0, need) // the pieces alias it until the end of the transaction
	}
	from := 0
	v = append(v, 0, 0, 0, 0)
	for _, b := range batches {
		v = append(v, b...)
		if len(v)-from < pieceBytes {
			continue
		}
		if err := flush(from); err != nil {
			return 0, 0, err
		}
		from = len(v)
		v = append(v, 0, 0, 0, 0)
	}
	if len(v)-from > 4 {
		if err := flush(from); err != nil {
			return 0, 0, err
		}
	}
	if s.value = v; cap(v) > 1<<20 {
		s.value = nil
	}
	return seq, size, l.SetSequence(seq)
}

// piece checks a log entry and returns its operations.
func piece(seq uint64, v []byte) ([]byte, error) {
	if len(v) < 4 ||
		binary.LittleEndian.Uint32(v) != crc32.Checksum(v[4:], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, fmt.Errorf("%w: checksum of log entry %d", store.ErrCorrupt, seq)
	}
	return v[4:], nil
}

// Walk implements store.Store. It does not see what has been committed since Open and is not yet folded.
func (s *Store) Walk(t store.Table, f func(key, value []byte) error) error {
	return guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketOf(t))
			if b == nil && s.opts.ReadOnly && t >= store.Sets { // a file of formatOld
				return nil
			}
			if b == nil {
				return fmt.Errorf("%w: no table of %s", store.ErrCorrupt, t)
			}
			return b.ForEach(f)
		})
	})
}

// Backup writes a copy of the file as it is now, while commits go on. Any goroutine.
func (s *Store) Backup(w io.Writer) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// Check looks at every page and record of the file and returns what is wrong.
func (s *Store) Check() (problems []error) {
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				problems = append(problems, err)
			}
			return nil
		})
	})
	if err != nil {
		problems = append(problems, err)
	}
	return problems
}

// TableStats says how large a table is.
type TableStats struct {
	Name  string
	Keys  int
	Bytes int64 // in pages
}

// Stats says how large the file and its tables are.
func (s *Store) Stats() (file int64, tables []TableStats, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			file = tx.Size()
			return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
				st := b.Stats()
				bytes := int64(st.BranchAlloc + st.LeafAlloc)
				tables = append(tables, TableStats{string(name), st.KeyN, bytes})
				return nil
			})
		})
	})
	return file, tables, err
}

// compactTx is how many bytes Compact copies in one transaction.
const compactTx = 16 << 20

// Compact writes the content of the store into a new file, without the gaps.
func (s *Store) Compact(path string) error {
	dst, err := bbolt.Open(path, 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoSync: true,
	})
	if err != nil {
		return err
	}
	err = bbolt.Compact(dst, s.db, compactTx)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// Sync makes a file that was opened with NoSync durable.
func (s *Store) Sync() error { return s.db.Sync() }
