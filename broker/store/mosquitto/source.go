package mosquitto

import "fmt"

// Visitor is given the records of a Source one by one. Those whose function is nil are passed over. A record
// is a loan that ends with the call; what its fields refer to may be kept.
type Visitor struct {
	Message       func(*Message) error
	Client        func(*Client) error
	ClientMessage func(*ClientMessage) error
	Retained      func(*Retained) error
	Subscription  func(*Subscription) error
	List          func(*List) error
	Grant         func(*Grant) error
	Denial        func(*Denial) error
}

// Source is what Mosquitto's state can be read from, more than once and in parts, so that a file may be
// larger than memory.
type Source interface {
	// Each gives v all records, those of one kind in their order, until v returns an error.
	Each(v *Visitor) error
}

// each calls f for each record of a list, if there is an f.
func each[R any](list []R, f func(*R) error) error {
	for i := range list {
		if f == nil {
			return nil
		}
		if err := f(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// Each implements Source.
func (s *State) Each(v *Visitor) error {
	for _, step := range []func() error{
		func() error { return each(s.Messages, v.Message) },
		func() error { return each(s.Clients, v.Client) },
		func() error { return each(s.ClientMessages, v.ClientMessage) },
		func() error { return each(s.Retained, v.Retained) },
		func() error { return each(s.Subscriptions, v.Subscription) },
		func() error { return each(s.Lists, v.List) },
		func() error { return each(s.Grants, v.Grant) },
		func() error { return each(s.Denials, v.Denial) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// keep returns what adds records to a list.
func keep[R any](list *[]R) func(*R) error {
	return func(r *R) error {
		*list = append(*list, *r)
		return nil
	}
}

// Collect reads all of a source into memory.
func Collect(from Source) (*State, error) {
	s := &State{
		Messages: []Message{}, Clients: []Client{}, ClientMessages: []ClientMessage{},
		Retained: []Retained{}, Subscriptions: []Subscription{},
	}
	err := from.Each(&Visitor{
		Message: keep(&s.Messages), Client: keep(&s.Clients), ClientMessage: keep(&s.ClientMessages),
		Retained: keep(&s.Retained), Subscription: keep(&s.Subscriptions), List: keep(&s.Lists),
		Grant: keep(&s.Grants), Denial: keep(&s.Denials),
	})
	if err != nil {
		return nil, fmt.Errorf("mosquitto: %w", err)
	}
	return s, nil
}
