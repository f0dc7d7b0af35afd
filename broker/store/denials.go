package store

import "encoding/binary"

// Records of who may not be here: bans, kicks that last, tokens that were revoked.

// DenialOf says what a denial names.
type DenialOf uint8

// What denials name. The numbers are stored.
const (
	DenyToken DenialOf = iota
	DenyUser
	DenyClient
	DenyAddress // an address or a prefix
	denialKinds
)

// String is the word for it in tools.
func (k DenialOf) String() string {
	names := [...]string{"token", "user", "client", "address"}
	if int(k) < len(names) {
		return names[k]
	}
	return "?"
}

// Denial is one name that is denied.
type Denial struct {
	Of     DenialOf
	Name   string
	Since  int64 // Unix seconds by the system's clock, as tokens have their times
	Until  int64 // the same; 0: for ever
	By     string
	Reason string
}

// PutDenial stores d.
func (b *Batch) PutDenial(d *Denial) {
	v := make([]byte, 0, 32+len(d.By)+len(d.Reason))
	v = append(v, version)
	v = binary.AppendVarint(v, d.Since)
	v = binary.AppendVarint(v, d.Until)
	v = appendText(appendText(v, d.By), d.Reason)
	b.Put(Denials, denialKey(d.Of, d.Name), appendLong(v, d.Name))
}

// DeleteDenial removes what is stored of a name.
func (b *Batch) DeleteDenial(of DenialOf, name string) { b.Delete(Denials, denialKey(of, name)) }

func denialKey(of DenialOf, name string) []byte {
	return appendKey(append(make([]byte, 0, 1+min(len(name), longKey)), byte(of)), name)
}

// ReadDenial reads a pair of Denials. Its texts are copies.
func ReadDenial(key, value []byte) (d Denial, err error) {
	r := newReader(value)
	if len(key) < 2 || key[0] >= byte(denialKinds) {
		r.bad = true
		return d, r.end(Denials)
	}
	d.Of = DenialOf(key[0])
	d.Since, d.Until = r.varint(), r.varint()
	d.By, d.Reason = string(r.text()), string(r.text())
	d.Name = keyText(key[1:], r)
	r.bad = r.bad || d.Name == ""
	return d, r.end(Denials)
}
