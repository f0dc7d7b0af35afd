package codec

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7), which share their shape.
type Ack struct {
	Type       Type // set before Parse as well
	PacketID   uint16
	Reason     Reason // MQTT 5 only
	Properties Properties
}

// Parse reads the body; Type says which packet it is.
func (p *Ack) Parse(_ uint8, body []byte, v Version) error {
	r := reader{b: body}
	*p = Ack{Type: p.Type, PacketID: r.uint16()}
	if r.bad {
		return malformed(p.Type, "cut off")
	}
	if p.PacketID == 0 {
		return protocol(p.Type, "packet id 0 [MQTT-2.2.1-3]")
	}
	if v == V5 && len(r.b) > 0 {
		p.Reason = Reason(r.byte())
		if !p.Reason.Legal(p.Type) {
			return protocol(p.Type, "reason code is not one of this packet's")
		}
		if len(r.b) > 0 {
			var err error
			if p.Properties, err = r.properties(p.Type); err != nil {
				return err
			}
		}
	}
	if len(r.b) > 0 {
		return malformed(p.Type, "bytes left over")
	}
	return nil
}

func (p *Ack) bodyLen(v Version) int {
	switch {
	case v != V5 || p.Reason == 0 && len(p.Properties) == 0:
		return 2
	case len(p.Properties) == 0:
		return 3
	default:
		return 3 + p.Properties.Len()
	}
}

// Len is what Append appends.
func (p *Ack) Len(v Version) int { return packetLen(p.bodyLen(v)) }

// Append appends the packet, in the shortest form.
func (p *Ack) Append(b []byte, v Version) []byte {
	flags := uint8(0)
	if p.Type == PUBREL {
		flags = 2
	}
	n := p.bodyLen(v)
	b = appendUint16(AppendHeader(b, p.Type, flags, n), p.PacketID)
	if n > 2 {
		b = append(b, byte(p.Reason))
	}
	if n > 3 {
		b = p.Properties.AppendTo(b)
	}
	return b
}
