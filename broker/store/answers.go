package store

import (
	"encoding/binary"
	"slices"
)

// Records of what others have answered last, for when they cannot be asked: the lists of topics, each once,
// and who got which. Losing one loses no more than that, so nobody waits for them.

// Answer is the last answer to a question: a list of topics.
type Answer struct {
	Source string   // whose: the provider's name
	Key    [16]byte // a hash of what the question said
	List   SetKey
	Until  int64 // Unix seconds by the system's clock: afterwards it is not to be used
}

// The kinds of records in Answers, the first byte of a key.
const (
	answerList = 0
	answerOf   = 1
)

// answerHead is the bytes of a key before the name.
const answerHead = 1 + 16

// PutAnswer stores a, after the list that it refers to.
func (b *Batch) PutAnswer(a *Answer) {
	v := append(make([]byte, 0, 48), version)
	v = binary.AppendVarint(v, a.Until)
	v = append(v, a.List[:]...)
	b.Put(Answers, answerKey(a.Source, a.Key), appendLong(v, a.Source))
}

// DeleteAnswer removes the answer to a question.
func (b *Batch) DeleteAnswer(source string, key [16]byte) { b.Delete(Answers, answerKey(source, key)) }

// PutAnswerList stores a list that answers refer to.
func (b *Batch) PutAnswerList(x *Set) { b.Put(Answers, answerListKey(x.Key), x.Value()) }

// DeleteAnswerList removes one, once no answer refers to it.
func (b *Batch) DeleteAnswerList(key SetKey) { b.Delete(Answers, answerListKey(key)) }

func answerListKey(key SetKey) []byte { return slices.Concat([]byte{answerList}, key[:]) }

func answerKey(source string, key [16]byte) []byte {
	return appendKey(slices.Concat([]byte{answerOf}, key[:]), source)
}

// IsAnswerList tells by a key of Answers which of the two a record is.
func IsAnswerList(key []byte) bool { return len(key) > 0 && key[0] == answerList }

// ReadAnswerList reads a pair of Answers that is a list. Its texts are copies.
func ReadAnswerList(key, value []byte) (Set, error) { return ReadSet(key[1:], value) }

// ReadAnswer reads a pair of Answers that is none. Its texts are copies.
func ReadAnswer(key, value []byte) (a Answer, err error) {
	r := newReader(value)
	if len(key) <= answerHead || key[0] != answerOf {
		r.bad = true
		return a, r.end(Answers)
	}
	copy(a.Key[:], key[1:])
	a.Until = r.varint()
	for i := range a.List {
		a.List[i] = r.byte()
	}
	a.Source = keyText(key[answerHead:], r)
	r.bad = r.bad || a.Source == ""
	return a, r.end(Answers)
}
