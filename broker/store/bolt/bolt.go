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
// that have seen part of it gives the same tables. Opening a file changes nothing: Walk reads the tables with
// what the log has made of them since.
package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.etcd.io/bbolt"
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
	// ReadOnly opens a file that exists and that no other process writes, and never changes it.
	ReadOnly bool
	// NoSync leaves it to the system when data reaches the disk: for imports into files that are synced at
	// their end, never for a broker.
	NoSync bool
	// Bulk has commits put what they hold into the tables at once, without the log: for imports, with NoSync.
	Bulk bool
	// Log receives progress, and what is wrong and does not stop it; nil discards it.
	Log *slog.Logger

	faulty func(io.WriterAt) io.WriterAt // tests let writes fail with it
}

// Store is an open file. See store.Store for who may call what.
type Store struct {
	// Set by Open, then read-only:
	file *file
	opts Options

	// Owned by the goroutine that commits:
	fresh    bool   // the file was empty when it was opened
	ready    bool   // the file is of the present format, and seq and logBytes are known
	seq      uint64 // of the last log entry
	logBytes int64  // in the log
	fold     *fold  // being applied; nil while there is none
	prepared chan prepared
	busy     bool // a fold is being prepared
	value    []byte
	unfolded *fold // what Walk adds to the tables; nil before the first

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
	// pieceBytes is about how long one entry of the log becomes.
	pieceBytes = 64 << 10
	// mapBytes is the address space taken for the file from the start, so that growing it never waits for a
	// backup that is being read.
	mapBytes = 16 << 30
)

// Open opens a file, or makes one. It changes nothing in a file that exists; the first Commit makes one of
// an old format one of the present. Where the disk is full or may not be written, it opens what is there
// all the same, and commits fail until that is over.
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
	s = &Store{opts: o, prepared: make(chan prepared, 1)}
	s.file = newFile(path, &s.opts)
	if err := s.file.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.file.mu.db == nil {
		s.fresh = true
		return s, nil
	}
	err = s.file.view(func(tx *bbolt.Tx) (err error) {
		s.fresh, err = checkHead(tx)
		return err
	})
	switch {
	case err != nil:
	case s.fresh && o.ReadOnly:
		err = ErrForeign
	case s.fresh:
		if err = s.prepare(); diskFails(err) {
			s.opts.Log.Error("Error: the file of persistent state cannot be written: " + err.Error())
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.file.close())
	}
	return s, nil
}

// prepare makes the file one of the present format and finds the end of the log.
func (s *Store) prepare() error {
	if s.ready {
		return nil
	}
	if err := s.prepareFile(); err != nil {
		return err
	}
	s.logBytes = 0
	err := s.file.view(func(tx *bbolt.Tx) error {
		l := tx.Bucket([]byte(logBucket))
		s.seq = l.Sequence()
		return l.ForEach(func(_, v []byte) error {
			s.logBytes += int64(len(v))
			return nil
		})
	})
	s.ready = err == nil
	return err
}

// Close closes the file.
func (s *Store) Close() error {
	if s.busy { // the goroutine reads the file
		<-s.prepared
	}
	return s.file.close()
}

// Commit implements store.Store.
func (s *Store) Commit(batches ...[]byte) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if s.opts.Bulk {
		return s.fill(batches)
	}
	s.takePrepared()
	var seq uint64
	var size int64
	var at progress
	err := s.file.update(func(tx *bbolt.Tx) (err error) {
		if seq, size, err = s.append(tx, batches); err == nil && s.fold != nil {
			at, err = s.fold.step(tx, now().Add(s.foldTime()))
		}
		return err
	})
	if err != nil {
		if diskFails(err) {
			s.makeRoom()
		}
		return err
	}
	s.unfolded = nil
	s.seq = seq
	s.logBytes += size
	s.reached(at)
	if s.logBytes >= s.opts.FoldBytes {
		s.beginFold()
	}
	return nil
}

// reached notes how far the fold is.
func (s *Store) reached(at progress) {
	if s.fold == nil {
		return
	}
	s.logBytes -= at.freed - s.fold.at.freed
	if s.fold.at = at; at.done {
		s.fold = nil
	}
}

// beginFold prepares a fold of the whole log, unless one is under way.
func (s *Store) beginFold() {
	if s.fold != nil || s.busy {
		return
	}
	s.busy = true
	go func(upTo uint64) { // Close waits for it
		f, err := s.prepareFold(upTo, 0)
		s.prepared <- prepared{f, err}
	}(s.seq)
}

// roomTime is how long one commit that has failed may fold.
const roomTime = 100 * time.Millisecond

// makeRoom folds although nothing can be added: what has come and gone within the log gives its pages back,
// and the next commit may find room in them.
func (s *Store) makeRoom() {
	if s.logBytes > 0 {
		s.beginFold()
	}
	for until := now().Add(roomTime); s.fold != nil && now().Before(until); {
		var at progress
		err := s.file.update(func(tx *bbolt.Tx) (err error) {
			at, err = s.fold.step(tx, now().Add(s.opts.FoldTime))
			return err
		})
		if err != nil {
			return // Commit has told
		}
		s.reached(at)
	}
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
	seq = s.seq         // what a failed commit has left behind that is replaced
	v := s.value[:0]
	flush := func(from int) error {
		seq++
		binary.LittleEndian.PutUint32(v[from:], pieceSum(seq, v[from+checksumSize:]))
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

// Backup writes a copy of the file as it is now, while commits go on. Any goroutine.
func (s *Store) Backup(w io.Writer) error {
	return s.file.view(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// TableStats says how large a table is.
type TableStats struct {
	Name  string
	Keys  int
	Bytes int64 // in pages
}

// Stats says how large the file and its tables are.
func (s *Store) Stats() (file int64, tables []TableStats, err error) {
	err = s.file.view(func(tx *bbolt.Tx) error {
		file = tx.Size()
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			st := b.Stats()
			bytes := int64(st.BranchAlloc + st.LeafAlloc)
			tables = append(tables, TableStats{string(name), st.KeyN, bytes})
			return nil
		})
	})
	return file, tables, err
}

// compactTx is how many bytes Compact copies in one transaction.
const compactTx = 16 << 20

// Compact writes the content of the store into a new file, without the gaps and, unless it is open for
// reading only, without the log.
func (s *Store) Compact(path string) error {
	if !s.opts.ReadOnly {
		if err := s.prepare(); err != nil {
			return err
		}
		if err := s.foldAll(); err != nil {
			return err
		}
	}
	dst, err := bbolt.Open(path, 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoSync: true,
	})
	if err != nil {
		return err
	}
	err = guard(func() error { return bbolt.Compact(dst, s.file.mu.db, compactTx) })
	return errors.Join(err, dst.Sync(), dst.Close())
}

// Sync makes a file that was opened with NoSync durable.
func (s *Store) Sync() error {
	if s.file.mu.db == nil {
		return errNotOpen
	}
	return s.file.mu.db.Sync()
}
