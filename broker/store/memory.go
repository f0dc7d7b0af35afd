package store

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// Memory is a store that survives its broker but not the process: for tests. Safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	tables [Tables]map[string]string
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{} }

// Commit implements Store.
func (m *Memory) Commit(batches ...[]byte) error {
	for _, raw := range batches { // nothing changes if anything is wrong
		if err := Each(raw, func(Op) error { return nil }); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, raw := range batches {
		if err := Each(raw, m.applyLocked); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) applyLocked(op Op) error {
	t := m.tables[op.Table]
	if t == nil {
		t = make(map[string]string)
		m.tables[op.Table] = t
	}
	switch op.Kind {
	case Put:
		t[string(op.Key)] = string(op.Value)
	case Delete:
		delete(t, string(op.Key))
	case Drop:
		for k := range t {
			if strings.HasPrefix(k, string(op.Key)) {
				delete(t, k)
			}
		}
	}
	return nil
}

// Walk implements Store.
func (m *Memory) Walk(t Table, f func(key, value []byte) error) error {
	type pair struct{ k, v []byte }
	m.mu.Lock()
	list := make([]pair, 0, len(m.tables[t]))
	for k, v := range m.tables[t] {
		list = append(list, pair{[]byte(k), []byte(v)})
	}
	m.mu.Unlock()
	slices.SortFunc(list, func(a, b pair) int { return bytes.Compare(a.k, b.k) })
	for _, p := range list {
		if err := f(p.k, p.v); err != nil {
			return err
		}
	}
	return nil
}

// ReadMessages implements Reader.
func (m *Memory) ReadMessages(ids []uint64, f func(i int, value []byte) error) error {
	for i, id := range ids {
		m.mu.Lock()
		v, ok := m.tables[Messages][string(num(nil, id))]
		m.mu.Unlock()
		if !ok {
			continue
		}
		if err := f(i, []byte(v)); err != nil {
			return err
		}
	}
	return nil
}

// Close implements Store; the tables stay, for the next broker.
func (m *Memory) Close() error { return nil }
