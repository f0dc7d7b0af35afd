package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/storetest"
)

func open(t testing.TB, path string, o bolt.Options) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBolt(t *testing.T) {
	for name, o := range map[string]bolt.Options{
		"folds at opening":   {NoSync: true},
		"folds all the time": {NoSync: true, FoldBytes: 2000, FoldTime: time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t testing.TB) storetest.Opener {
				path := filepath.Join(t.TempDir(), "db")
				return func(t testing.TB) store.Store { return open(t, path, o) }
			})
		})
	}
}

// A file that is copied between any two commits, as a crash would leave it, opens with what was committed.
func TestEveryCommitIsAWholeFile(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "db"), filepath.Join(dir, "copy")
	s := open(t, path, bolt.Options{FoldBytes: 3000, FoldTime: 20 * time.Microsecond, NoSync: true})
	m := store.NewMemory()
	for i := range 300 {
		b := storetest.RandomBatch(rnd).Bytes()
		if err := errors.Join(s.Commit(b), m.Commit(b)); err != nil {
			t.Fatal(err)
		}
		if i%7 != 0 {
			continue
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(copied, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, copied, bolt.Options{NoSync: true})
		storetest.Compare(t, c, m, seed)
		if p := c.Check(); len(p) > 0 {
			t.Fatalf("seed %d: %v", seed, p)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

const page = 4096

// A crash within a commit leaves any part of its pages: before the meta page is written the file is the one
// before the commit, whatever pages have arrived; with the meta page torn at any sector it is one or the
// other.
func TestCrashBetweenPages(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	path, torn := filepath.Join(dir, "db"), filepath.Join(dir, "torn")
	s := open(t, path, bolt.Options{FoldBytes: 3000, FoldTime: 50 * time.Microsecond, NoSync: true})
	was := store.NewMemory()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		b := storetest.RandomBatch(rnd).Bytes()
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file := bytes.Clone(before)
		file = append(file, make([]byte, max(0, len(after)-len(before)))...)
		for at := 2 * page; at < len(after); at += page {
			if rnd.IntN(2) == 0 {
				copy(file[at:at+page], after[at:])
			}
		}
		check := func(what string, wants ...*store.Memory) {
			t.Helper()
			if err := os.WriteFile(torn, file, 0o600); err != nil {
				t.Fatal(err)
			}
			c := open(t, torn, bolt.Options{NoSync: true})
			defer c.Close()
			for _, w := range wants {
				if same(c, w) {
					return
				}
			}
			t.Fatalf("seed %d: %s: neither the state before nor the one after", seed, what)
		}
		check("some pages", was)
		now := store.NewMemory()
		for table := range store.Tables {
			_ = was.Walk(table, func(k, v []byte) error {
				var p store.Batch
				p.Put(table, k, v)
				return now.Commit(p.Bytes())
			})
		}
		if err := now.Commit(b); err != nil {
			t.Fatal(err)
		}
		copy(file[2*page:], after[2*page:])
		cut := rnd.IntN(9) * 512
		for meta := range 2 {
			at := meta * page
			if !bytes.Equal(before[at:at+page], after[at:at+page]) {
				copy(file[at:at+cut], after[at:])
			}
		}
		check(fmt.Sprintf("meta page torn at %d", cut), was, now)
		was, before = now, after
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// same reports whether two stores hold the same.
func same(a, b store.Store) bool {
	text := func(s store.Store) string {
		var out bytes.Buffer
		for table := range store.Tables {
			_ = s.Walk(table, func(k, v []byte) error {
				fmt.Fprintf(&out, "%d %x %x\n", table, k, v)
				return nil
			})
		}
		return out.String()
	}
	return text(a) == text(b)
}

// The log does not grow without bound while commits go on, nor does the file while its content stays small.
func TestFoldingBoundsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path, bolt.Options{FoldBytes: 1 << 20, NoSync: true})
	defer s.Close()
	value := make([]byte, 1000)
	for i := range 20000 {
		var b store.Batch
		b.Put(store.Messages, fmt.Appendf(nil, "%08d", i), value)
		if i >= 50 {
			b.Delete(store.Messages, fmt.Appendf(nil, "%08d", i-50))
		}
		if err := s.Commit(b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 40<<20 { // 20 MB went through a megabyte of log
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"text": "this is a text that is as long as nothing\n", "short": "x",
		"mosquitto": "\x00\xB5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x06",
		"zeros":     string(make([]byte, 64<<10)),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bolt.Open(path, bolt.Options{}); !errors.Is(err, bolt.ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("%s has been changed", name)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path, bolt.Options{})
	defer s.Close()
	if _, err := bolt.Open(path, bolt.Options{LockTimeout: 10 * time.Millisecond}); !errors.Is(err, bolt.ErrLocked) {
		t.Error(err)
	}
}

// Damage anywhere in the file is told, not panicked about, and never read beyond.
func TestDamagedFiles(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 4))
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "db"), filepath.Join(dir, "bad")
	s := open(t, path, bolt.Options{NoSync: true, FoldBytes: 20000})
	for range 100 {
		if err := s.Commit(storetest.RandomBatch(rnd).Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 150 {
		file := bytes.Clone(whole)
		switch round % 3 {
		case 0:
			file = file[:rnd.IntN(len(file))]
		case 1:
			for range 1 + rnd.IntN(50) {
				file[rnd.IntN(len(file))] ^= byte(1 + rnd.IntN(255))
			}
		default:
			at := rnd.IntN(len(file)/page) * page
			clear(file[at : at+page])
		}
		if err := os.WriteFile(bad, file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := bolt.Open(bad, bolt.Options{NoSync: true})
		if err != nil {
			continue
		}
		_ = s.Check()
		for table := range store.Tables {
			_ = s.Walk(table, func(_, _ []byte) error { return nil })
		}
		_ = s.Close()
	}
}

func TestBackupAndCompact(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "db"), bolt.Options{NoSync: true, FoldBytes: 2000})
	m := store.NewMemory()
	rnd := rand.New(rand.NewPCG(1, 1))
	step := func() {
		b := storetest.RandomBatch(rnd).Bytes()
		if err := errors.Join(s.Commit(b), m.Commit(b)); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		step()
	}
	var copied bytes.Buffer
	if err := s.Backup(&copied); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "backup")
	if err := os.WriteFile(name, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, name, bolt.Options{NoSync: true})
	storetest.Compare(t, b, m, 1)
	small := filepath.Join(dir, "compact")
	if err := errors.Join(b.Compact(small), b.Close()); err != nil {
		t.Fatal(err)
	}
	c := open(t, small, bolt.Options{})
	storetest.Compare(t, c, m, 1)
	if _, tables, err := c.Stats(); err != nil || len(tables) != int(store.Tables)+2 {
		t.Errorf("%v %v", tables, err)
	}
	if err := errors.Join(c.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	r := open(t, small, bolt.Options{ReadOnly: true})
	defer r.Close()
	if p := r.Check(); len(p) > 0 {
		t.Error(p)
	}
}

// oldFile makes a file of an old format: tables and log have what m and then the batches say.
func oldFile(t *testing.T, path, format string, m *store.Memory, batches ...[]byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		f, err := tx.CreateBucket([]byte("format"))
		if err != nil {
			return err
		}
		if err := f.Put([]byte("format"), []byte(format)); err != nil {
			return err
		}
		for table := range store.Tables {
			if table >= store.Sets && format == "noctule 1" {
				break
			}
			b, err := tx.CreateBucket([]byte(table.String()))
			if err == nil {
				err = m.Walk(table, b.Put)
			}
			if err != nil {
				return err
			}
		}
		l, err := tx.CreateBucket([]byte("log"))
		if err != nil {
			return err
		}
		for i, raw := range batches {
			v := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)))
			seq := uint64(i + 7)
			err = errors.Join(err, l.Put(binary.BigEndian.AppendUint64(nil, seq), append(v, raw...)), l.SetSequence(seq))
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Files of the old formats, without checksums and, format 1, without the tables of subscriptions made by servers, are
// read as they are, and become ones of the present format with the first commit, whatever cuts that off.
func TestOldFormats(t *testing.T) {
	for _, format := range []string{"noctule 1", "noctule 2"} {
		for _, logged := range []int{0, 5} {
			t.Run(fmt.Sprint(format, " with ", logged, " entries of the log"), func(t *testing.T) {
				seed := rand.Uint64()
				rnd := rand.New(rand.NewPCG(seed, 5))
				path := filepath.Join(t.TempDir(), "db")
				m := store.NewMemory()
				var batches [][]byte
				for i := range 40 + logged {
					b := storetest.RandomBatch(rnd)
					if format == "noctule 1" {
						b = old(b)
					}
					if i >= 40 {
						batches = append(batches, b.Bytes())
						continue
					}
					if err := m.Commit(b.Bytes()); err != nil {
						t.Fatal(err)
					}
				}
				oldFile(t, path, format, m, batches...)
				if err := m.Commit(batches...); err != nil {
					t.Fatal(err)
				}
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range []bolt.Options{{ReadOnly: true}, {NoSync: true}} {
					s := open(t, path, o)
					storetest.Compare(t, s, m, seed)
					if p := s.Check(); len(p) > 0 {
						t.Errorf("seed %d: %v", seed, p)
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
					t.Error("opening has changed the file")
				}
				s := open(t, path, bolt.Options{NoSync: true})
				for range 3 {
					b := storetest.RandomBatch(rnd).Bytes()
					if err := errors.Join(s.Commit(b), m.Commit(b)); err != nil {
						t.Fatal(err)
					}
				}
				storetest.Compare(t, s, m, seed)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, path, bolt.Options{NoSync: true})
				defer s.Close()
				storetest.Compare(t, s, m, seed)
				if p := s.Check(); len(p) > 0 {
					t.Errorf("seed %d: %v", seed, p)
				}
			})
		}
	}
}

// old is what of a batch is about the tables of format 1.
func old(b *store.Batch) *store.Batch {
	out := &store.Batch{}
	_ = store.Each(b.Bytes(), func(op store.Op) error {
		switch {
		case op.Table >= store.Sets:
		case op.Kind == store.Put:
			out.Put(op.Table, op.Key, op.Value)
		case op.Kind == store.Delete:
			out.Delete(op.Table, op.Key)
		}
		return nil
	})
	return out
}

// A format that is not known is refused.
func TestUnknownFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	oldFile(t, path, "noctule 4", store.NewMemory())
	if _, err := bolt.Open(path, bolt.Options{}); !errors.Is(err, bolt.ErrForeign) {
		t.Error(err)
	}
}
