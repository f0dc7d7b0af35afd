package deny

import (
	"fmt"
	"sync"
	"testing"
)

// Loops ask while operators add and remove: what is durable in the end is what the table has.
func TestManyAtOnce(t *testing.T) {
	f := newFixture(t, 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				name := fmt.Sprint("u", (g+i)%20)
				if _, err := f.Add(Entry{Kind: User, Name: name, By: fmt.Sprint(g)}); err != nil {
					t.Error(err)
				}
				f.Match(&Query{User: name})
				if i%3 == 0 {
					f.Remove(User, name)
				}
				f.Page(Cursor{}, 3)
				f.Expire(1)
			}
		})
	}
	wg.Wait()
	if s := f.Stats(); s.Entries != f.stored() {
		t.Errorf("%+v, %d stored", s, f.stored())
	}
}
