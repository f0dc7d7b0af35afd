package codec

// Unsubscribe is an UNSUBSCRIBE packet (3.10). A reused struct does not allocate.
type Unsubscribe struct {
	PacketID   uint16
	Properties Properties
	Filters    [][]byte
}

// Parse reads the body.
func (p *Unsubscribe) Parse(_ uint8, body []byte, v Version) error {
	r := reader{b: body}
	*p = Unsubscribe{PacketID: r.uint16(), Filters: p.Filters[:0]}
	if r.bad {
		return malformed(UNSUBSCRIBE, "cut off")
	}
	if p.PacketID == 0 {
		return protocol(UNSUBSCRIBE, "packet id 0 [MQTT-2.2.1-3]")
	}
	if v == V5 {
		var err error
		if p.Properties, err = r.properties(UNSUBSCRIBE); err != nil {
			return err
		}
	}
	if len(r.b) == 0 {
		return malformed(UNSUBSCRIBE, "cut off before the first filter [MQTT-3.10.3-2]")
	}
	for len(r.b) > 0 {
		name := r.binary()
		if r.bad {
			return malformed(UNSUBSCRIBE, "filter is cut off")
		}
		if err := CheckTopicFilter(name); err != nil {
			return inPacket(UNSUBSCRIBE, err)
		}
		p.Filters = append(p.Filters, name)
	}
	return nil
}

func (p *Unsubscribe) bodyLen(v Version) int {
	n := 2
	if v == V5 {
		n += p.Properties.Len()
	}
	for _, f := range p.Filters {
		n += 2 + len(f)
	}
	return n
}

// Len is what Append appends.
func (p *Unsubscribe) Len(v Version) int { return packetLen(p.bodyLen(v)) }

// Append appends the packet.
func (p *Unsubscribe) Append(b []byte, v Version) []byte {
	b = appendUint16(AppendHeader(b, UNSUBSCRIBE, 2, p.bodyLen(v)), p.PacketID)
	if v == V5 {
		b = p.Properties.AppendTo(b)
	}
	for _, f := range p.Filters {
		b = appendBinary(b, f)
	}
	return b
}
