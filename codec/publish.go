package codec

// Publish is a PUBLISH packet (3.3).
type Publish struct {
	Dup, Retain bool
	QoS         uint8
	PacketID    uint16 // 0 with QoS 0
	Topic       []byte // may be empty in MQTT 5 with a Topic Alias
	Properties  Properties
	Payload     []byte
}

// Parse reads the body. Nothing is allocated unless there is an error.
func (p *Publish) Parse(flags uint8, body []byte, v Version) error {
	r := reader{b: body}
	p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
	p.Topic, p.PacketID, p.Properties = r.binary(), 0, nil
	if p.QoS > 0 {
		p.PacketID = r.uint16()
	}
	if r.bad {
		return malformed(PUBLISH, "cut off")
	}
	if p.QoS > 0 && p.PacketID == 0 {
		return protocol(PUBLISH, "packet id 0 [MQTT-2.2.1-3]")
	}
	if v == V5 {
		if len(r.b) > 0 && r.b[0] == 0 { // the usual case
			r.b = r.b[1:]
		} else {
			var err error
			if p.Properties, err = r.properties(PUBLISH); err != nil {
				return err
			}
		}
	}
	if len(p.Topic) == 0 && v == V5 {
		if _, ok := p.Properties.Uint(TopicAlias); !ok {
			return protocol(PUBLISH, "neither topic nor alias [MQTT-3.3.2-8]")
		}
	} else if !fastTopic(p.Topic) {
		if err := CheckTopicName(p.Topic); err != nil {
			return malformed(PUBLISH, err.(*Error).Detail) //nolint:errorlint // made there, never wrapped
		}
	}
	p.Payload = r.b
	return nil
}

// fastTopic accepts most topics: short, printable ASCII, no wildcards. What it refuses may still be legal.
func fastTopic(b []byte) bool {
	if len(b) == 0 || len(b) > maxSlashes {
		return false
	}
	for _, c := range b {
		if c < 0x20 || c >= 0x7F || c == '+' || c == '#' {
			return false
		}
	}
	return true
}

func (p *Publish) bodyLen(v Version) int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		n += p.Properties.Len()
	}
	return n
}

// Len is what Append appends.
func (p *Publish) Len(v Version) int { return packetLen(p.bodyLen(v)) }

// Append appends the packet.
func (p *Publish) Append(b []byte, v Version) []byte {
	flags := p.QoS << 1
	if p.Dup {
		flags |= 8
	}
	if p.Retain {
		flags |= 1
	}
	b = AppendHeader(b, PUBLISH, flags, p.bodyLen(v))
	b = appendBinary(b, p.Topic)
	if p.QoS > 0 {
		b = appendUint16(b, p.PacketID)
	}
	if v == V5 {
		b = p.Properties.AppendTo(b)
	}
	return append(b, p.Payload...)
}
