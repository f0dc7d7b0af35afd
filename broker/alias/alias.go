// Package alias has the Topic Aliases of a connection (MQTT 5, 3.3.2.3.4), those of what comes in and those
// of what goes out. They end with it.
package alias

import (
	"noctule/broker/message"
	"noctule/codec"
)

// Out is the aliases that topics have on their way to a client: the first topics get one.
type Out map[string]uint16

// Pick has a PUBLISH carry the topic's alias: with the topic at first, and alone from then on
// [MQTT-3.1.2-26]. most is how many the client takes; with full no further topic gets one.
func (o *Out) Pick(topic []byte, most uint16, full bool, d *message.Delivery) {
	if a, ok := (*o)[string(topic)]; ok {
		d.Alias, d.AliasOnly = a, true
		return
	}
	if full || len(*o) >= int(most) {
		return
	}
	if *o == nil {
		*o = make(Out)
	}
	d.Alias = uint16(len(*o) + 1)
	(*o)[string(topic)] = d.Alias
}

// Forget takes back an alias whose first packet was not sent.
func (o Out) Forget(topic []byte, d *message.Delivery) {
	if d.Alias != 0 && !d.AliasOnly {
		delete(o, string(topic))
	}
}

// In is the topics of a client's aliases, by alias less one.
type In [][]byte

// Resolve is the topic of a PUBLISH that has an alias, which names it from now on if the packet has the topic
// too [MQTT-3.3.2-7] [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.3.2-10]. most is the highest alias that the client
// may use.
func (x *In) Resolve(a, most int, topic []byte) ([]byte, error) {
	if a > most {
		return nil, &codec.Error{
			Reason: codec.TopicAliasInvalid, Packet: codec.PUBLISH, Detail: "above Topic Alias Maximum",
		}
	}
	if len(topic) > 0 {
		for len(*x) < a {
			*x = append(*x, nil)
		}
		(*x)[a-1] = append((*x)[a-1][:0], topic...)
		return topic, nil
	}
	if a > len(*x) || len((*x)[a-1]) == 0 {
		return nil, &codec.Error{
			Reason: codec.ProtocolError, Packet: codec.PUBLISH, Detail: "unknown Topic Alias",
		}
	}
	return (*x)[a-1], nil
}

// Room is how long a topic may be for which an alias needs no more memory.
func (x In) Room(a int) int {
	if a > len(x) {
		return 0
	}
	return cap(x[a-1])
}
