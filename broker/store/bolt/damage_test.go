package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/storetest"
)

// contentOf is all that a store holds, or why it cannot be read.
func contentOf(s store.Store) (string, error) {
	var out bytes.Buffer
	for table := range store.Tables {
		err := s.Walk(table, func(k, v []byte) error {
			fmt.Fprintf(&out, "%d %x %x\n", table, k, v)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// damagedFile is a file with tables, a log, free pages and an unfinished fold, and what it holds.
func damagedFile(t *testing.T, rnd *rand.Rand, path string) (file []byte, content string) {
	t.Helper()
	s := open(t, path, bolt.Options{NoSync: true, FoldBytes: 6000, FoldTime: 20 * time.Microsecond})
	for range 150 {
		if err := s.Commit(storetest.RandomBatch(rnd).Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetNote("name", []byte("note")); err != nil {
		t.Fatal(err)
	}
	content, err := contentOf(s)
	var used bytes.Buffer
	if err := errors.Join(err, s.Backup(&used), s.Close()); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return file[:used.Len()], content // behind that no page has been used
}

// A bit that flips anywhere in a file is found by Check and by a start, or the content is the same: it was in a
// page or a part of one that is not in use. If it is in the newer of the two first pages the state before the last
// commit is there, and the log says so. Nothing panics, and opening changes nothing.
func TestFlippedBits(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 6))
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "db"), filepath.Join(dir, "bad")
	whole, content := damagedFile(t, rnd, path)
	found, told := 0, 0
	for round := range 800 {
		at := rnd.IntN(len(whole))
		if round%2 == 0 { // where the structure is
			at = at/page*page + rnd.IntN(200)
		}
		bit := byte(1 << rnd.IntN(8))
		file := bytes.Clone(whole)
		file[at] ^= bit
		if err := os.WriteFile(bad, file, 0o600); err != nil {
			t.Fatal(err)
		}
		where := fmt.Sprintf("seed %d: bit %02x of byte %d of page %d", seed, bit, at%page, at/page)
		var log bytes.Buffer
		o := bolt.Options{NoSync: true, Log: slog.New(slog.NewTextHandler(&log, nil))}
		var got string
		s, err := bolt.Open(bad, o)
		if err == nil {
			got, err = contentOf(s)
			if n, noteErr := s.Note("name"); string(n) != "note" {
				got, err = "", errors.Join(err, noteErr)
			}
			err = errors.Join(err, s.Close())
		}
		seen := err != nil || strings.Contains(log.String(), "first pages")
		if !seen && got != content {
			t.Errorf("%s: a start does not see it", where)
		}
		if err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, bolt.ErrForeign) {
			t.Errorf("%s: %v", where, err)
		}
		if problems := checkReadOnly(bad); seen != (len(problems) > 0) {
			t.Errorf("%s: a start says %v %s, a check %v", where, err, log.String(), problems)
		}
		if after, _ := os.ReadFile(bad); !bytes.Equal(after, file) {
			t.Fatalf("%s: opening has changed the file", where)
		}
		if err != nil {
			found++
		} else if seen {
			told++
		}
	}
	t.Logf("seed %d: %d of 800 refused, %d in the first pages, %d bytes", seed, found, told, len(whole))
	if found < 100 {
		t.Errorf("seed %d: %d found", seed, found)
	}
}

func checkReadOnly(path string) []error {
	s, err := bolt.Open(path, bolt.Options{ReadOnly: true})
	if err != nil {
		return []error{err}
	}
	problems := s.Check()
	if err := s.Close(); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// The same for commits on a damaged file, as nothing reads all of it again: they fail or go on, and never panic.
func TestCommitsOnDamagedFiles(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 7))
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "db"), filepath.Join(dir, "bad")
	whole, _ := damagedFile(t, rnd, path)
	for range 150 {
		file := bytes.Clone(whole)
		for range 1 + rnd.IntN(3) {
			file[rnd.IntN(len(file)/page)*page+rnd.IntN(300)] ^= byte(1 << rnd.IntN(8))
		}
		if err := os.WriteFile(bad, file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := bolt.Open(bad, bolt.Options{NoSync: true, FoldBytes: 3000})
		if err != nil {
			continue
		}
		for range 5 {
			_ = s.Commit(storetest.RandomBatch(rnd).Bytes())
		}
		_ = s.Close()
	}
}
