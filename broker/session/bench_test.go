package session

import (
	"fmt"
	"testing"

	"noctule/broker/message"
	"noctule/codec"
)

// acker is a client that notes the packet ids it is sent.
type acker struct{ ids []uint16 }

func (a *acker) SendPublish(_ *message.Message, d message.Delivery) bool {
	a.ids = append(a.ids, d.PacketID)
	return true
}
func (*acker) SendAck(codec.Type, uint16, codec.Reason) {}
func (*acker) Changed(Change)                           {}

// BenchmarkDelivery is one message of a full window, acknowledged in order.
func BenchmarkDelivery(b *testing.B) {
	for _, window := range []int{1, 20, 65535} {
		for qos := uint8(1); qos <= 2; qos++ {
			b.Run(fmt.Sprintf("window=%d/qos=%d", window, qos), func(b *testing.B) {
				s := New(&Limits{})
				a := &acker{}
				s.Resume(uint16(window), 0, a)
				m := message.New([]byte("t"), []byte("x"), qos, false)
				for range window {
					s.Deliver(m, Grant{QoS: qos}, a)
				}
				at := 0
				b.ReportAllocs()
				for b.Loop() {
					id := a.ids[at]
					if at++; at == 1<<16 {
						a.ids = a.ids[:copy(a.ids, a.ids[at:])]
						at = 0
					}
					if qos == 1 {
						_ = s.Puback(id, 0, a)
					} else {
						_ = s.Pubrec(id, codec.Success, 0, a)
						_ = s.Pubcomp(id, 0, a)
					}
					s.Deliver(m, Grant{QoS: qos}, a)
				}
			})
		}
	}
}
