// Package wheel is a lazy timer wheel: entries are never removed. Who is told of one looks whether it is
// still due, and adds it again if not; so a timer that is moved with each packet costs nothing but a stored
// time.
package wheel

// Wheel holds values until their tick. Not safe for concurrent use.
type Wheel[T any] struct {
	slots [][]entry[T]
	now   int64 // the last tick that was served
	n     int
	fired []entry[T] // scratch of Advance
}

type entry[T any] struct {
	at int64
	v  T
}

// New returns a wheel with a number of slots: entries further away than that many ticks are looked at once
// per round.
func New[T any](slots int) *Wheel[T] { return &Wheel[T]{slots: make([][]entry[T], slots)} }

// Len is the number of entries.
func (w *Wheel[T]) Len() int { return w.n }

// Add makes Advance call fire(v, at) once the time is at; times that have passed count as the next tick.
// now is the time of the call and matters only while the wheel is empty.
func (w *Wheel[T]) Add(now, at int64, v T) {
	if w.n == 0 {
		w.now = max(w.now, now)
	}
	slot := max(at, w.now+1) % int64(len(w.slots))
	w.slots[slot] = append(w.slots[slot], entry[T]{at, v})
	w.n++
}

// Advance serves every tick up to now. fire may call Add.
func (w *Wheel[T]) Advance(now int64, fire func(v T, at int64)) {
	if w.n == 0 || now-w.now >= int64(len(w.slots)) {
		w.now = max(w.now, now-int64(len(w.slots)))
	}
	for w.now < now {
		w.now++
		w.serve(w.now%int64(len(w.slots)), fire)
	}
}

// serve fires what is due in one slot and keeps the rest.
func (w *Wheel[T]) serve(i int64, fire func(T, int64)) {
	s := w.slots[i]
	if len(s) == 0 {
		return
	}
	w.fired = w.fired[:0]
	keep := s[:0]
	for _, e := range s {
		if e.at > w.now {
			keep = append(keep, e)
		} else {
			w.fired = append(w.fired, e)
		}
	}
	clear(s[len(keep):])
	if len(keep) == 0 && cap(s) > 64 {
		keep = nil
	}
	w.slots[i] = keep
	w.n -= len(w.fired)
	fired := w.fired
	w.fired = nil // fire may come back here through Add, not through Advance
	for i, e := range fired {
		fired[i] = entry[T]{}
		fire(e.v, e.at)
	}
	w.fired = fired[:0]
	if cap(w.fired) > 4096 {
		w.fired = nil
	}
}
