package bolt_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/storetest"
)

// FuzzPages changes bytes of a file, three of the input a byte: where (in the file's pages) and what. The file is
// opened or refused, and what is opened can be read or says that it cannot; nothing panics or reads beyond.
func FuzzPages(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "db")
	s := open(f, path, bolt.Options{NoSync: true, FoldBytes: 4000})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		if err := s.Commit(storetest.RandomBatch(rnd).Bytes()); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	whole = whole[:min(len(whole), 1<<18)]
	f.Add([]byte{})
	for at := 0; at < min(len(whole), 1<<16); at += 2039 {
		f.Add([]byte{byte(at >> 8), byte(at), 0xff})
	}
	const page = 4096
	for p := 0; p < min(32, len(whole)/page); p++ { // flags, count and overflow of each page, and its first element
		for _, at := range []int{8, 12, 16, 28} {
			where := (p*page + at) >> 2
			f.Add([]byte{byte(where >> 8), byte(where), 1, byte(where >> 8), byte(where), 0x80})
		}
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		raw := append([]byte(nil), whole...)
		for ; len(changes) >= 3; changes = changes[3:] {
			at := int(binary.BigEndian.Uint16(changes)) * 4 // the low bits come from the value
			at += int(changes[2] & 3)
			raw[at%len(raw)] ^= changes[2]
		}
		name := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := bolt.Open(name, bolt.Options{NoSync: true})
		if err != nil {
			return
		}
		for table := range store.Tables {
			_ = s.Walk(table, func(_, _ []byte) error { return nil })
		}
		_ = s.Check()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
