package mail_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"noctule/broker/mail"
	"noctule/broker/message"
	"noctule/topictree"
)

// What is put into a batch comes out of it in its order, with its filters and what is owed, though the loans that
// it was made of are gone.
func TestLettersComeAsTheyWere(t *testing.T) {
	index := topictree.New(topictree.Options{})
	var ids []topictree.FilterID
	for i := range 5 {
		id, err := index.Add(fmt.Append(nil, "f/", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	var box mail.Box[int, int]
	var want []string
	text := func(m *message.Message, order int, ids, owed []topictree.FilterID) string {
		return fmt.Sprint(order, string(m.Topic), len(m.Payload), m.QoS, m.Retain, m.Publisher, m.Expiry, m.Interval, ids, owed)
	}
	loan := make([]byte, 4096)
	for i := range 200 {
		m := &message.Message{
			Topic: fmt.Append(loan[:0], "t/", i), Payload: loan[100 : 100+rnd.IntN(2000)], QoS: uint8(rnd.IntN(3)),
			Retain: rnd.IntN(2) == 0, Publisher: rnd.Uint64(), Expiry: rnd.Int64(), Interval: rnd.Uint32(),
		}
		b := box.Open(3, 4)
		l := b.Add(m)
		l.Order = i
		var to, owed []topictree.FilterID
		for _, id := range ids[:rnd.IntN(len(ids))] {
			to = append(to, id)
			if b.For(l, id); rnd.IntN(2) == 0 {
				b.Owe(l, id)
				owed = append(owed, id)
			}
		}
		want = append(want, text(m, i, to, owed))
	}
	clear(loan)
	b, _ := box.Close()
	var far message.Message
	n := 0
	b.Each(&far, func(o mail.Opened[int]) {
		if got := text(o.Message, *o.Order, o.IDs, o.Owed); got != want[n] {
			t.Errorf("seed %d: letter %d is %s, want %s", seed, n, got, want[n])
		}
		n++
	})
	if n != len(want) || b.From != 3 || b.To != 4 {
		t.Errorf("%d letters from %d", n, b.From)
	}
	if b, _ := box.Close(); b != nil {
		t.Error("a batch is posted twice")
	}
}

// Who has too much at another loop stops once, and goes on once when half of it has been done.
func TestDebt(t *testing.T) {
	var box mail.Box[int, int]
	payload := make([]byte, 1<<20)
	var posted []*mail.Batch[int, int]
	blocks := 0
	for range 20 {
		box.Open(0, 1).Add(&message.Message{Topic: []byte("t"), Payload: payload})
		b, block := box.Close()
		if posted = append(posted, b); block {
			blocks++
		}
	}
	if blocks != 1 || box.Unblock() {
		t.Errorf("stopped %d times", blocks)
	}
	lows, goesOn := 0, 0
	for _, b := range posted {
		if b.Debt.Settle(b.Cost()) {
			lows++
			if box.Unblock() {
				goesOn++
			}
		}
	}
	if lows != 1 || goesOn != 1 || box.Unblock() {
		t.Errorf("%d times low, went on %d times", lows, goesOn)
	}
}
