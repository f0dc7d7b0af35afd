// Package offer holds a CONNECT against what a broker and one of its listeners offer, and says in CONNACK
// what that is. It knows packets only: who the client is, whether it may come in and what session it has
// is decided elsewhere.
package offer

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math"
	"time"

	"noctule/broker/reason"
	"noctule/codec"
)

// topicMax is the longest topic, in bytes, the mount point included.
const topicMax = 65535

// Never is the session expiry interval that does not pass [MQTT-3.1.2.11.2].
const Never = 0xFFFFFFFF

// Offer is what holds for the clients of a listener.
type Offer struct {
	MaxQoS              uint8
	RetainAvailable     bool
	NoID                bool   // clients without a client id get one
	IDPrefix            string // of those that are made
	Mount               string // stands before each topic
	MaxKeepAlive        uint16 // seconds; 0 no limit
	MaxInflight         uint16 // told as Receive Maximum; 0 no limit
	MaxTopicAlias       uint16 // of aliases towards the broker
	MaxTopicAliasBroker uint16 // of aliases that the broker uses
	MaxPacketSize       uint32 // bytes; 0 no limit
	MessageSizeLimit    uint32 // bytes of a payload; 0 no limit
	MaxExpiry           time.Duration
}

// Check holds a CONNECT against the offer.
func (o *Offer) Check(p *codec.Connect) codec.Reason {
	if reason.KeptAliveTooLong(p, o.MaxKeepAlive) {
		return codec.ClientIdentifierNotValid
	}
	if !p.HasWill {
		return codec.Success
	}
	switch w := &p.Will; {
	case w.QoS > o.MaxQoS:
		return codec.QoSNotSupported
	case w.Retain && !o.RetainAvailable:
		return codec.RetainNotSupported
	case bytes.HasPrefix(w.Topic, []byte("$CONTROL/")):
		return codec.NotAuthorized
	case len(o.Mount)+len(w.Topic) > topicMax:
		return codec.TopicNameInvalid
	case o.MessageSizeLimit > 0 && len(w.Payload) > int(o.MessageSizeLimit):
		return codec.PacketTooLarge
	}
	return codec.Success
}

// MakeID makes a client id for a client that has sent none, if it may be without one.
func (o *Offer) MakeID(p *codec.Connect) (made []byte, r codec.Reason) {
	switch {
	case p.Version == codec.V31, p.Version == codec.V311 && !p.CleanStart: // [MQTT-3.1.3-8]
		return nil, codec.ClientIdentifierNotValid
	case !o.NoID && p.Version == codec.V5:
		return nil, codec.UnspecifiedError
	case !o.NoID:
		return nil, codec.ClientIdentifierNotValid
	}
	return generateID(o.IDPrefix), codec.Success
}

// generateID makes a client id in Mosquitto's form: prefix and a random UUID in upper case [MQTT-3.1.3-6].
func generateID(prefix string) []byte {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0F|0x40, u[8]&0x3F|0x80
	return fmt.Appendf(nil, "%s%X-%X-%X-%X-%X", prefix, u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Refusal is the CONNACK that says no to a client of a version.
func (o *Offer) Refusal(v codec.Version, r codec.Reason) *codec.Connack {
	ack := &codec.Connack{Reason: r}
	if o.MaxQoS < 2 && v == codec.V5 {
		ack.Properties = codec.AppendUintProperty(nil, codec.MaximumQoS, uint32(o.MaxQoS))
	}
	return ack
}

// Accept is the CONNACK that says yes; made is the client id that the broker has made, and present that there
// was a session. MQTT 5 properties are in Mosquitto's order, byte for byte.
func (o *Offer) Accept(p *codec.Connect, made []byte, present bool) *codec.Connack {
	ack := &codec.Connack{SessionPresent: present && p.Version != codec.V31}
	if p.Version != codec.V5 {
		return ack
	}
	var props codec.Properties
	if n := o.KeepAlive(p); n != p.KeepAlive {
		props = codec.AppendUintProperty(props, codec.ServerKeepAlive, uint32(n))
	}
	if o.MaxTopicAlias > 0 {
		props = codec.AppendUintProperty(props, codec.TopicAliasMaximum, uint32(o.MaxTopicAlias))
	}
	if made != nil {
		props = codec.AppendBytesProperty(props, codec.AssignedClientID, made)
	}
	if !o.RetainAvailable {
		props = codec.AppendUintProperty(props, codec.RetainAvailable, 0)
	}
	if o.MaxPacketSize > 0 {
		props = codec.AppendUintProperty(props, codec.MaximumPacketSize, o.MaxPacketSize)
	}
	if o.MaxInflight > 0 && o.MaxInflight < 65535 {
		props = codec.AppendUintProperty(props, codec.ReceiveMaximum, uint32(o.MaxInflight))
	}
	if o.MaxQoS < 2 {
		props = codec.AppendUintProperty(props, codec.MaximumQoS, uint32(o.MaxQoS))
	}
	ack.Properties = props
	return ack
}

// KeepAlive is the keep alive that holds, in seconds, 0 none: the client's, unless it can be told a
// shorter one.
func (o *Offer) KeepAlive(p *codec.Connect) uint16 {
	if p.Version == codec.V5 && o.MaxKeepAlive > 0 && (p.KeepAlive == 0 || p.KeepAlive > o.MaxKeepAlive) {
		return o.MaxKeepAlive
	}
	return p.KeepAlive
}

// Wishes are what a client asks for in CONNECT, as far as it gets it.
type Wishes struct {
	Expiry         uint32 // session expiry interval, seconds
	MaxPacket      uint32 // bytes; 0 no limit
	ReceiveMaximum uint16 // 0: none was sent
	AliasMax       uint16 // aliases that the broker may use
	NoProblem      bool   // Request Problem Information 0
}

// Wishes are those of a CONNECT.
func (o *Offer) Wishes(p *codec.Connect) (w Wishes) {
	if p.Version != codec.V5 {
		if !p.CleanStart {
			w.Expiry = CapExpiry(Never, o.MaxExpiry)
		}
		return w
	}
	for id, v := range p.Properties.All() {
		switch id {
		case codec.SessionExpiry:
			w.Expiry = CapExpiry(v.Num, o.MaxExpiry)
		case codec.ReceiveMaximum:
			w.ReceiveMaximum = uint16(v.Num)
		case codec.MaximumPacketSize:
			w.MaxPacket = v.Num
		case codec.TopicAliasMaximum:
			w.AliasMax = min(uint16(v.Num), o.MaxTopicAliasBroker)
		case codec.RequestProblemInfo:
			w.NoProblem = v.Num == 0
		}
	}
	return w
}

// Outlives reports whether the session of a CONNECT is to outlive its connection.
func Outlives(p *codec.Connect) bool {
	if p.Version != codec.V5 {
		return !p.CleanStart
	}
	n, _ := p.Properties.Uint(codec.SessionExpiry)
	return n > 0
}

// CapExpiry holds a session expiry interval, in seconds, against a limit, of which a part of a second counts
// as one; 0 is no limit.
func CapExpiry(e uint32, limit time.Duration) uint32 {
	if limit <= 0 {
		return e
	}
	whole := int64(limit / time.Second)
	if limit%time.Second > 0 {
		whole++
	}
	return uint32(min(int64(e), whole, math.MaxUint32))
}
