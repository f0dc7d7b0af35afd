package bolt_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/storetest"
)

// disk fails some writes.
type disk struct {
	io.WriterAt
	fail func(at int64, b []byte) error
}

func (d *disk) WriteAt(b []byte, at int64) (int, error) {
	if err := d.fail(at, b); err != nil {
		return 0, err
	}
	return d.WriterAt.WriteAt(b, at)
}

// faulty are options with which fail decides about each write.
func faulty(o bolt.Options, fail func(at int64, b []byte) error) bolt.Options {
	o.SetFaulty(func(w io.WriterAt) io.WriterAt { return &disk{w, fail} })
	return o
}

// Whatever write of a commit fails, of a page or of the meta page, the commit has not happened, is no crash, and can be
// tried again; reads and backups go on beside it (with -race).
func TestFailedWritesLeaveTheStateBefore(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 8))
	path := filepath.Join(t.TempDir(), "db")
	left := -1 // writes until one fails
	o := faulty(bolt.Options{NoSync: true, FoldBytes: 4000, FoldTime: 20 * time.Microsecond},
		func(int64, []byte) error {
			if left--; left == 0 {
				return []error{syscall.ENOSPC, syscall.EIO}[rnd.IntN(2)]
			}
			return nil
		})
	s := open(t, path, o)
	m := store.NewMemory()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = s.ReadMessages([]uint64{1, 2, 3}, func(int, []byte) error { return nil })
					_ = s.Backup(io.Discard)
				}
			}
		})
	}
	failed := 0
	for range 150 {
		b := storetest.RandomBatch(rnd).Bytes()
		left = 1 + rnd.IntN(8)
		for err := s.Commit(b); err != nil; err = s.Commit(b) {
			failed++
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			storetest.Compare(t, s, m, seed)
			left = rnd.IntN(8) - 2
		}
		left = -1
		if err := m.Commit(b); err != nil {
			t.Fatal(err)
		}
		storetest.Compare(t, s, m, seed)
	}
	close(stop)
	wg.Wait()
	if failed < 50 {
		t.Errorf("seed %d: %d failures", seed, failed)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, path, bolt.Options{})
	defer s.Close()
	storetest.Compare(t, s, m, seed)
	if p := s.Check(); len(p) > 0 {
		t.Errorf("seed %d: %v", seed, p)
	}
}

// A file that is cut off while it is open, which is to the mapping what a disk is that cannot be read, is an error of
// whatever reads or writes, for good, and never a fault of the process.
func TestPagesThatCannotBeRead(t *testing.T) {
	for _, size := range []int64{0, 100, page, 2 * page, 10 * page, -1} {
		for first := range 6 {
			t.Run(fmt.Sprint("cut to ", size, ", ", first), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "db")
				s := open(t, path, bolt.Options{NoSync: true, FoldBytes: 10000, FoldTime: time.Microsecond})
				rnd := rand.New(rand.NewPCG(1, 9))
				for range 100 {
					if err := s.Commit(storetest.RandomBatch(rnd).Bytes()); err != nil {
						t.Fatal(err)
					}
				}
				if size < 0 {
					info, err := os.Stat(path)
					if err != nil {
						t.Fatal(err)
					}
					size = info.Size() / 8
				}
				if err := os.Truncate(path, size); err != nil {
					t.Fatal(err)
				}
				for n := range 12 {
					what, err := useOf(s, rnd, (first+n)%6)
					if err == nil && size < 10*page {
						t.Errorf("%s: no error", what)
					}
				}
				_ = s.Close()
				if info, _ := os.Stat(path); info.Size() > size && size < 10*page {
					t.Errorf("the file has %d bytes", info.Size())
				}
			})
		}
	}
}

// useOf is one of the ways to use a store.
func useOf(s *bolt.Store, rnd *rand.Rand, n int) (what string, err error) {
	switch n {
	case 0:
		return "commit", s.Commit(storetest.RandomBatch(rnd).Bytes())
	case 1:
		return "backup", s.Backup(io.Discard)
	case 2:
		_, err = contentOf(s)
		return "walk", err
	case 3:
		return "read", s.ReadMessages([]uint64{1, 2}, func(int, []byte) error { return nil })
	case 4:
		return "check", errors.Join(s.Check()...)
	default:
		_, _, err = s.Stats()
		return "stats", err
	}
}

// A disk that fails reads and writes at once: the write fails, and the pages that bbolt would look at are gone.
func TestDiskThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	gone := false
	s := open(t, path, faulty(bolt.Options{NoSync: true}, func(int64, []byte) error {
		if gone {
			return errors.Join(syscall.EIO, os.Truncate(path, 3*page))
		}
		return nil
	}))
	rnd := rand.New(rand.NewPCG(1, 10))
	for range 50 {
		if err := s.Commit(storetest.RandomBatch(rnd).Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	gone = true
	for range 5 {
		if err := s.Commit(storetest.RandomBatch(rnd).Bytes()); err == nil {
			t.Error("committed")
		}
	}
	if err := s.Backup(io.Discard); err == nil {
		t.Error("a backup")
	}
	_ = s.Close()
}

// A file that is removed or replaced while it is open is not made anew after a failed write.
func TestReplacedFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	fail := false
	s := open(t, path, faulty(bolt.Options{NoSync: true}, func(int64, []byte) error {
		if fail {
			return syscall.ENOSPC
		}
		return nil
	}))
	rnd := rand.New(rand.NewPCG(1, 11))
	b := storetest.RandomBatch(rnd).Bytes()
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := s.Commit(b); err == nil {
		t.Error("committed")
	}
	fail = false
	if err := s.Commit(b); err == nil {
		t.Error("committed into another file")
	}
	_ = s.Close()
	if got, _ := os.ReadFile(path); string(got) != "other" {
		t.Errorf("%d bytes", len(got))
	}
}

// On a full disk a file is opened, read, and, once there is room, written; one that is not there yet is made then.
func TestOpenOnAFullDisk(t *testing.T) {
	for _, exists := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "db")
		m := store.NewMemory()
		rnd := rand.New(rand.NewPCG(1, 12))
		if exists {
			s := open(t, path, bolt.Options{NoSync: true})
			b := storetest.RandomBatch(rnd).Bytes()
			if err := errors.Join(s.Commit(b), m.Commit(b), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
		full := true
		s := open(t, path, faulty(bolt.Options{NoSync: true}, func(int64, []byte) error {
			if full {
				return syscall.ENOSPC
			}
			return nil
		}))
		storetest.Compare(t, s, m, 0)
		b := storetest.RandomBatch(rnd).Bytes()
		for range 3 {
			if err := s.Commit(b); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("exists %v: %v", exists, err)
			}
		}
		storetest.Compare(t, s, m, 0)
		full = false
		if err := errors.Join(s.Commit(b), m.Commit(b)); err != nil {
			t.Fatal(err)
		}
		storetest.Compare(t, s, m, 0)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What has come and gone within the log gives its room back although nothing can be added.
func TestAFullDiskFoldsTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	limit := int64(1 << 40)
	s := open(t, path, faulty(bolt.Options{NoSync: true}, func(at int64, b []byte) error {
		if at+int64(len(b)) > limit {
			return syscall.ENOSPC
		}
		return nil
	}))
	put := func(id uint64, size int) []byte {
		var b store.Batch
		b.PutMessage(id, &message.Message{Topic: []byte("t"), Payload: make([]byte, size)})
		return b.Bytes()
	}
	for id := range uint64(100) {
		if err := s.Commit(put(id, 20000)); err != nil {
			t.Fatal(err)
		}
		var gone store.Batch
		gone.DeleteMessage(id)
		if err := s.Commit(gone.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	file, _, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	limit = file
	more := put(1000, 1<<20)
	for range 200 {
		if err = s.Commit(more); err == nil {
			break
		}
		time.Sleep(time.Millisecond) // the committer's wait
	}
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
