package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"

	"noctule/broker/store"
	"noctule/internal/regular"
)

// bbolt trusts its file: a damaged page makes it panic, on a goroutine of its own while it opens. So verify
// looks at the tree of pages first, by system calls, which give an error where the mapping faults: every
// page within the file, of the right kind, reached once, its elements without gaps one behind the other as
// bbolt writes them, the keys in their order, each branch's key the first of the page that it refers to.
//
// The layout of bbolt's version 2, in the machine's byte order: a page begins with id (8 bytes), flags (2),
// count (2), overflow (4); elements of 16 bytes follow, of a branch position, key size, page id (8), of a
// leaf flags, position, key size, value size; positions count from the element. The value of a bucket is
// root page (8), sequence (8) and, with root 0, a page inside the value.
const (
	pageHead    = 16
	elementSize = 16
	bucketHead  = 16
	branchPage  = 0x01
	leafPage    = 0x02
	bucketLeaf  = 0x01
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	maxDepth    = 64
)

// errMeta says that one of the two meta pages is damaged. Then the file is as the other says, and if the
// damaged one was the newer, the newest commit is missing: a torn write of it was never acknowledged, but a
// bit that has flipped since is as good.
var errMeta = fmt.Errorf(
	"%w: one of the two first pages; what was stored last before the end may be missing", store.ErrCorrupt)

// verifier walks one file.
type verifier struct {
	f     *os.File
	size  uint32 // of a page
	pages uint64 // in use, from the meta page
	seen  []uint64
	order binary.ByteOrder
	torn  bool // one meta page is damaged
}

// verify checks the tree of a file that exists; a file without a page is none of its business.
func verify(path string, log *slog.Logger) error {
	torn, err := lookAt(path)
	if torn != nil && err == nil {
		log.Error("Error: " + path + ": " + torn.Error())
	}
	return err
}

// lookAt is verify that returns apart what does not stop the program.
func lookAt(path string) (torn, err error) {
	f, err := regular.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	v := &verifier{f: f, order: binary.NativeEndian}
	root, err := v.meta(info.Size())
	if err != nil {
		return nil, err
	}
	if v.torn {
		torn = errMeta
	}
	v.seen = make([]uint64, v.pages/64+1)
	_, _, err = v.page(root, 0)
	return torn, err
}

// meta finds the newest valid meta page and returns the root of the tree.
func (v *verifier) meta(size int64) (root uint64, err error) {
	var newest uint64
	buf := make([]byte, pageHead+64)
	found := 0
	for _, at := range v.metaPlaces(buf) {
		if _, err := v.f.ReadAt(buf, at); err != nil {
			continue
		}
		m := buf[pageHead:]
		h := fnv.New64a()
		_, _ = h.Write(m[:56]) // never fails
		txid := v.order.Uint64(m[48:])
		if v.order.Uint32(m) != metaMagic || v.order.Uint32(m[4:]) != metaVersion ||
			v.order.Uint64(m[56:]) != h.Sum64() {
			continue
		}
		if found++; found > 1 && txid < newest {
			continue
		}
		newest = txid
		v.size, root, v.pages = v.order.Uint32(m[8:]), v.order.Uint64(m[16:]), v.order.Uint64(m[40:])
	}
	v.torn = found == 1
	if found == 0 {
		return 0, fmt.Errorf("%w, or its first pages are damaged", ErrForeign)
	}
	if v.size < 512 || v.pages > uint64(size)/uint64(v.size) {
		return 0, fmt.Errorf("%w: the file has %d bytes instead of %d", store.ErrCorrupt, size,
			v.pages*uint64(v.size))
	}
	return root, nil
}

// metaPlaces is where the two meta pages can be: the first says how large a page is, if it is whole.
func (v *verifier) metaPlaces(buf []byte) []int64 {
	places := []int64{0}
	if _, err := v.f.ReadAt(buf, 0); err == nil && v.order.Uint32(buf[pageHead:]) == metaMagic {
		if n := v.order.Uint32(buf[pageHead+8:]); n >= 512 && n <= 64<<10 && n&(n-1) == 0 {
			return append(places, int64(n))
		}
	}
	for n := int64(1 << 10); n <= 64<<10; n <<= 1 {
		places = append(places, n)
	}
	return places
}

func damaged(id uint64, what string) error {
	return fmt.Errorf("%w: page %d: %s", store.ErrCorrupt, id, what)
}

// span is a page with its overflow, or one inside a value, of which the beginning has been read.
type span struct {
	v    *verifier
	id   uint64
	at   int64 // in the file
	size uint64
	head []byte
}

// bytes is a part of it, which must lie within.
func (s *span) bytes(from, n uint64) ([]byte, error) {
	if from+n <= uint64(len(s.head)) {
		return s.head[from : from+n], nil
	}
	b := make([]byte, n)
	_, err := s.v.f.ReadAt(b, s.at+int64(from))
	return b, err
}

// page checks a page and all below it, and returns the first and the last key.
func (v *verifier) page(id uint64, depth int) (first, last []byte, err error) {
	if id < 2 || id >= v.pages {
		return nil, nil, damaged(id, "out of range")
	}
	s := &span{v: v, id: id, at: int64(id) * int64(v.size), head: make([]byte, v.size)}
	if _, err := v.f.ReadAt(s.head, s.at); err != nil {
		return nil, nil, err
	}
	end := id + uint64(v.order.Uint32(s.head[12:]))
	if v.order.Uint64(s.head) != id || end >= v.pages || depth > maxDepth {
		return nil, nil, damaged(id, "not what its parent refers to")
	}
	for p := id; p <= end; p++ {
		if v.seen[p/64]&(1<<(p%64)) != 0 {
			return nil, nil, damaged(p, "in use twice")
		}
		v.seen[p/64] |= 1 << (p % 64)
	}
	s.size = (end - id + 1) * uint64(v.size)
	return v.elements(s, depth)
}

// elements checks what a page holds.
func (v *verifier) elements(s *span, depth int) (first, last []byte, err error) {
	flags, count := v.order.Uint16(s.head[8:]), uint64(v.order.Uint16(s.head[10:]))
	next := pageHead + count*elementSize // where the next key must be
	if flags != branchPage && flags != leafPage || next > s.size || flags == branchPage && count == 0 {
		return nil, nil, damaged(s.id, "neither branch nor leaf")
	}
	if lacksElements(s, count) {
		return nil, nil, damaged(s.id, "its elements are missing")
	}
	heads, err := s.bytes(pageHead, count*elementSize)
	if err != nil {
		return nil, nil, err
	}
	for i := range count {
		e, at := heads[i*elementSize:], pageHead+i*elementSize
		fields := v.fields(e, flags == branchPage)
		key, end := uint64(fields[2]), next+uint64(fields[2])+uint64(fields[3])
		if at+uint64(fields[1]) != next || end > s.size || key == 0 || fields[0] > bucketLeaf {
			return nil, nil, damaged(s.id, "an element is not where it should be")
		}
		k, err := s.bytes(next, key)
		if err != nil {
			return nil, nil, err
		}
		if i > 0 && bytes.Compare(k, last) <= 0 {
			return nil, nil, damaged(s.id, "keys are not in order")
		}
		last = bytes.Clone(k)
		if i == 0 {
			first = last
		}
		if flags == branchPage {
			last, err = v.child(s.id, v.order.Uint64(e[8:]), last, depth)
		} else if fields[0] == bucketLeaf {
			err = v.bucket(s, next+key, uint64(fields[3]), depth)
		}
		if err != nil {
			return nil, nil, err
		}
		next = end
	}
	return first, last, nil
}

// lacksElements reports that a page says it is empty and is not.
func lacksElements(s *span, count uint64) bool {
	return count == 0 && len(bytes.Trim(s.head[pageHead:], "\x00")) > 0
}

// fields are an element's flags, position, key size and value size; those of a branch have two of them.
func (v *verifier) fields(e []byte, branch bool) (list [4]uint32) {
	for n := range list {
		list[n] = v.order.Uint32(e[4*n:])
	}
	if branch {
		return [4]uint32{0, list[0], list[1], 0}
	}
	return list
}

// child checks a page that a branch refers to by a key, and returns the last key below.
func (v *verifier) child(id, child uint64, key []byte, depth int) (last []byte, err error) {
	first, last, err := v.page(child, depth+1)
	if err == nil && !bytes.Equal(first, key) {
		err = damaged(id, "a key is not that of the page it refers to")
	}
	return last, err
}

// bucket checks the bucket that a leaf's value describes.
func (v *verifier) bucket(s *span, from, size uint64, depth int) error {
	if size < bucketHead || depth > maxDepth {
		return damaged(s.id, "a bucket is cut off")
	}
	value, err := s.bytes(from, size)
	if err != nil {
		return err
	}
	if root := v.order.Uint64(value); root != 0 {
		if size != bucketHead {
			return damaged(s.id, "a bucket is damaged")
		}
		_, _, err := v.page(root, depth+1)
		return err
	}
	if size < bucketHead+pageHead || v.order.Uint16(value[bucketHead+8:]) != leafPage {
		return damaged(s.id, "a bucket is damaged")
	}
	in := &span{
		v: v, id: s.id, at: s.at + int64(from) + bucketHead,
		size: size - bucketHead, head: value[bucketHead:],
	}
	_, _, err = v.elements(in, depth+1)
	return err
}
