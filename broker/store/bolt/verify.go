package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"noctule/broker/store"
)

// bbolt trusts its file: a damaged page makes it panic, on a goroutine of its own while it opens. So verify
// looks at the tree of pages first: every page within the file, of the right kind, reached once, its elements
// within it.
//
// The layout of bbolt's version 2, in the machine's byte order: a page begins with id (8 bytes), flags (2),
// count (2), overflow (4); elements of 16 bytes follow, of a branch position, key size, page id (8), of a
// leaf flags, position, key size, value size; positions count from the element. The value of a bucket is
// root page (8), sequence (8) and, with root 0, a page inside the value.
const (
	pageHead    = 16
	elementSize = 16
	branchPage  = 0x01
	leafPage    = 0x02
	bucketLeaf  = 0x01
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	maxDepth    = 64
)

// verifier walks one file.
type verifier struct {
	f     *os.File
	size  uint32 // of a page
	pages uint64 // in use, from the meta page
	seen  []uint64
	order binary.ByteOrder
}

// verify checks the tree of a file that exists; a file without a page is none of its business.
func verify(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	v := &verifier{f: f, order: binary.NativeEndian}
	root, err := v.meta(info.Size())
	if err != nil {
		return err
	}
	v.seen = make([]uint64, v.pages/64+1)
	return v.page(root, 0)
}

// meta finds the newest valid meta page and returns the root of the tree.
func (v *verifier) meta(size int64) (root uint64, err error) {
	var newest uint64
	buf := make([]byte, pageHead+64)
	found := false
	for _, at := range v.metaPlaces(buf) {
		if _, err := v.f.ReadAt(buf, at); err != nil {
			continue
		}
		m := buf[pageHead:]
		h := fnv.New64a()
		_, _ = h.Write(m[:56]) // never fails
		txid := v.order.Uint64(m[48:])
		if v.order.Uint32(m) != metaMagic || v.order.Uint32(m[4:]) != metaVersion ||
			v.order.Uint64(m[56:]) != h.Sum64() || found && txid < newest {
			continue
		}
		found, newest = true, txid
		v.size, root, v.pages = v.order.Uint32(m[8:]), v.order.Uint64(m[16:]), v.order.Uint64(m[40:])
	}
	if !found {
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
		if n := v.order.Uint32(buf[pageHead+8:]); n >= 512 && n <= 64<<10 {
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

// page checks a page and all below it.
func (v *verifier) page(id uint64, depth int) error {
	if id < 2 || id >= v.pages {
		return damaged(id, "out of range")
	}
	head := make([]byte, v.size)
	if _, err := v.f.ReadAt(head, int64(id)*int64(v.size)); err != nil {
		return err
	}
	last := id + uint64(v.order.Uint32(head[12:]))
	if v.order.Uint64(head) != id || last >= v.pages || depth > maxDepth {
		return damaged(id, "not what its parent refers to")
	}
	for p := id; p <= last; p++ {
		if v.seen[p/64]&(1<<(p%64)) != 0 {
			return damaged(p, "in use twice")
		}
		v.seen[p/64] |= 1 << (p % 64)
	}
	return v.elements(id, head, (last-id+1)*uint64(v.size), depth)
}

// elements checks what a page holds; head is at least its beginning, size its length.
func (v *verifier) elements(id uint64, head []byte, size uint64, depth int) error {
	flags, count := v.order.Uint16(head[8:]), uint64(v.order.Uint16(head[10:]))
	end := pageHead + count*elementSize
	if flags != branchPage && flags != leafPage || end > size || flags == branchPage && count == 0 {
		return damaged(id, "neither branch nor leaf")
	}
	if end > uint64(len(head)) { // many elements in a page with overflow
		whole := make([]byte, end)
		if _, err := v.f.ReadAt(whole, int64(id)*int64(v.size)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		head = whole
	}
	for at := uint64(pageHead); at < end; at += elementSize {
		e := head[at : at+elementSize]
		if flags == branchPage {
			if at+uint64(v.order.Uint32(e))+uint64(v.order.Uint32(e[4:])) > size {
				return damaged(id, "a key beyond its end")
			}
			if err := v.page(v.order.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		key, value := uint64(v.order.Uint32(e[8:])), uint64(v.order.Uint32(e[12:]))
		from := at + uint64(v.order.Uint32(e[4:])) + key
		if from+value > size {
			return damaged(id, "a value beyond its end")
		}
		if v.order.Uint32(e)&bucketLeaf != 0 {
			if from+value > uint64(len(head)) {
				head = make([]byte, size)
				if _, err := v.f.ReadAt(head, int64(id)*int64(v.size)); err != nil {
					return err
				}
			}
			if err := v.bucket(id, head, from, value, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks the bucket that a leaf's value describes.
func (v *verifier) bucket(id uint64, head []byte, from, size uint64, depth int) error {
	if size < 16 || from+size > uint64(len(head)) || depth > maxDepth {
		return damaged(id, "a bucket is cut off")
	}
	value := head[from : from+size]
	if root := v.order.Uint64(value); root != 0 {
		return v.page(root, depth+1)
	}
	if size < 16+pageHead {
		return damaged(id, "a bucket is cut off")
	}
	inline := value[16:]
	if v.order.Uint16(inline[8:]) != leafPage ||
		pageHead+uint64(v.order.Uint16(inline[10:]))*elementSize > uint64(len(inline)) {
		return damaged(id, "a bucket is damaged")
	}
	return v.elements(id, inline, uint64(len(inline)), depth+1)
}
