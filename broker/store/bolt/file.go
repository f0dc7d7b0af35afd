package bolt

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"noctule/broker/store"
)

// file is the bbolt file, and what keeps a disk that fails from ending the process.
//
// bbolt reads through a mapping: a page that the disk does not give, or that is no longer there, is a
// fault, and a damaged one a panic. guard turns both into errors, on the goroutine that it runs on. After a
// failed write bbolt looks for its free pages once more, through the mapping, on a goroutine of its own
// that nothing guards. So it never hears of a failed write: write drops what follows it, the meta page
// above all, which leaves the file as it was before the commit, and the file is opened again, after verify
// has read its pages by system calls.
type file struct {
	// Set by newFile, then read-only:
	path string
	opts *Options

	// Owned by the goroutine that commits:
	is     os.FileInfo // which file it is, once it is open
	os     *os.File    // bbolt's own
	page   int64       // size of a page
	failed error       // of a write of the current transaction

	// Guarded by mu, which who reads holds shared; written by the goroutine that commits:
	mu struct {
		sync.RWMutex
		db *bbolt.DB // nil: the file is not there, or cannot be opened
	}

	// Atomic:
	stuck atomic.Bool // bbolt holds a lock for good
}

var (
	// ErrUnreadable says that the disk did not give what it should hold.
	ErrUnreadable = errors.New("the file cannot be read: the disk fails, or the file has been cut off")

	errStuck    = errors.New("the file was lost while it was in use: the program must be started again")
	errNotOpen  = errors.New("the file is not open")
	errReplaced = errors.New("the file was removed or replaced while it was in use")
)

// guard turns what bbolt does with pages that are damaged, which is to panic, or that cannot be read, which
// is to fault, into an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // the runtime's error of a fault
			err = ErrUnreadable
		default:
			err = fmt.Errorf("%w: %v", store.ErrCorrupt, r)
		}
	}()
	return f()
}

// diskFails reports whether an error is of a disk that is full, broken, or may not be written: one for
// which the file is not to blame.
func diskFails(err error) bool {
	for _, e := range [...]syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS, syscall.EIO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open opens the file, which may not exist, for the first time. A file that may not be written is opened for
// reading, one that cannot be made is not there yet; writing tries again.
func (f *file) open() error {
	info, err := os.Stat(f.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) || err != nil && f.opts.ReadOnly {
		return err
	}
	exists := err == nil && info.Size() > 0
	err = f.openAs(f.opts.ReadOnly)
	switch {
	case err == nil || f.opts.ReadOnly:
		return err
	case exists && errors.Is(err, syscall.EROFS):
		f.opts.Log.Error("Error: the file of persistent state may not be written: " + err.Error())
		return f.openAs(true)
	case !exists && diskFails(err):
		f.opts.Log.Error("Error: the file of persistent state cannot be made: " + err.Error())
		return f.clear()
	}
	return err
}

// clear makes a file empty again that could not be made whole.
func (f *file) clear() error {
	err := os.Truncate(f.path, 0)
	if errors.Is(err, os.ErrNotExist) || diskFails(err) {
		return nil
	}
	return err
}

// openAs opens a file that is not open.
func (f *file) openAs(readOnly bool) error {
	if f.is != nil {
		if now, err := os.Stat(f.path); err != nil || !os.SameFile(now, f.is) {
			return errors.Join(errReplaced, err)
		}
	}
	if err := verify(f.path, f.opts.Log); err != nil {
		return err
	}
	db, err := f.bbolt(readOnly)
	if err != nil {
		return err
	}
	if f.is, err = f.os.Stat(); err != nil {
		return errors.Join(err, db.Close())
	}
	err = guard(func() error {
		f.page = int64(db.Info().PageSize)
		return nil
	})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	db.NoSync = true // write and update sync
	hookWrites(db, f.write)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.db = db
	return nil
}

func (f *file) bbolt(readOnly bool) (db *bbolt.DB, err error) {
	bo := *bbolt.DefaultOptions
	bo.Timeout = f.opts.LockTimeout
	bo.FreelistType = bbolt.FreelistMapType
	bo.NoFreelistSync = true
	bo.ReadOnly = readOnly
	bo.NoSync = f.opts.NoSync
	bo.NoStatistics = true
	bo.InitialMmapSize = initialMap
	bo.OpenFile = func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
		f.os, err = os.OpenFile(name, flag, perm)
		return f.os, err
	}
	open := func() error {
		return guard(func() (err error) {
			db, err = bbolt.Open(f.path, 0o600, &bo)
			return err
		})
	}
	err = open()
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

// hookWrites makes all writes of a bbolt database go through w. bbolt has no door for that.
func hookWrites(db *bbolt.DB, w func(b []byte, at int64) (int, error)) {
	f := reflect.ValueOf(db).Elem().FieldByName("ops").FieldByName("writeAt")
	reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem().Set(reflect.ValueOf(w))
}

// write is how bbolt writes. The meta page comes last, when all others are on the disk.
func (f *file) write(b []byte, at int64) (int, error) {
	if f.failed != nil {
		return len(b), nil //nolint:nilerr // bbolt is not to hear of it
	}
	w := io.WriterAt(f.os)
	if f.opts.faulty != nil {
		w = f.opts.faulty(w)
	}
	if at < 2*f.page && !f.opts.NoSync {
		f.failed = f.mu.db.Sync()
	}
	if f.failed == nil {
		_, f.failed = w.WriteAt(b, at)
	}
	return len(b), nil
}

// begin begins a transaction, if the pages that it needs for that are there: bbolt does not let go of its
// locks when it faults here.
func (f *file) begin(db *bbolt.DB, writable bool) (tx *bbolt.Tx, err error) {
	if f.stuck.Load() {
		return nil, errStuck
	}
	var page [pageHead + 64]byte
	for n := range int64(2) {
		if _, err := f.os.ReadAt(page[:], n*f.page); err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrUnreadable, err)
		}
	}
	begun := false
	err = guard(func() (err error) {
		tx, err = db.Begin(writable)
		begun = true
		return err
	})
	if !begun {
		f.stuck.Store(true)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.os.Stat()
	if err == nil && info.Size() < tx.Size() {
		err = fmt.Errorf("%w (%d bytes instead of %d)", ErrUnreadable, info.Size(), tx.Size())
	}
	if err != nil {
		return nil, errors.Join(err, f.rollback(tx))
	}
	return tx, nil
}

// rollback ends a transaction that is not committed.
func (f *file) rollback(tx *bbolt.Tx) error {
	err := guard(tx.Rollback)
	if errors.Is(err, bolterrors.ErrTxClosed) {
		return nil
	}
	if err != nil {
		f.stuck.Store(true)
	}
	return err
}

// view calls do with what is in the file. Any goroutine.
func (f *file) view(do func(tx *bbolt.Tx) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.mu.db == nil {
		return errNotOpen
	}
	tx, err := f.begin(f.mu.db, false)
	if err != nil {
		return err
	}
	err = guard(func() error { return do(tx) })
	return errors.Join(err, f.rollback(tx))
}

// writable opens the file for writing if it is not.
func (f *file) writable() error {
	db := f.mu.db
	switch {
	case f.stuck.Load():
		return errStuck
	case f.opts.ReadOnly:
		return bolterrors.ErrDatabaseReadOnly
	case db == nil:
		err := f.openAs(false)
		if err != nil && f.is == nil {
			err = errors.Join(err, f.clear())
		}
		return err
	case !db.IsReadOnly():
		return nil
	}
	// Not before it may be written: opening it reads all of it.
	o, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(o.Close(), f.reopen())
}

// update makes the changes of do durable, all or, as far as bbolt and its pages know, none. After an error
// they may be in the file and not yet on the disk.
func (f *file) update(do func(tx *bbolt.Tx) error) error {
	if err := f.writable(); err != nil {
		return err
	}
	db := f.mu.db
	tx, err := f.begin(db, true)
	if err != nil {
		return err
	}
	f.failed = nil
	committing, returned := false, false
	err = guard(func() error {
		err := do(tx)
		if err == nil {
			committing = true
			err = tx.Commit()
		}
		returned = true
		return err
	})
	err = errors.Join(err, f.rollback(tx)) // nothing, if it is committed
	if f.failed != nil || committing && !returned {
		return errors.Join(err, f.failed, f.reopen())
	}
	if err == nil && !f.opts.NoSync {
		err = db.Sync()
	}
	return err
}

// reopen closes the file and opens it again, for writing.
func (f *file) reopen() error {
	if err := f.close(); err != nil {
		return err
	}
	return f.openAs(false)
}

// close closes the file, when those who read have ended.
func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	db := f.mu.db
	f.mu.db = nil
	switch {
	case f.stuck.Load(): // it would wait for the lock
		return errStuck
	case db == nil:
		return nil
	}
	return db.Close()
}

// newFile is a file that is not open.
func newFile(path string, o *Options) *file {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &file{path: path, opts: o}
}
