package codec

// Suback is a SUBACK packet (3.9): one code per filter, in order [MQTT-3.9.3-1].
type Suback struct {
	PacketID   uint16
	Properties Properties
	Codes      []Reason
}

// Parse reads the body.
func (p *Suback) Parse(_ uint8, body []byte, v Version) error {
	r := reader{b: body}
	*p = Suback{PacketID: r.uint16(), Codes: p.Codes[:0]}
	if r.bad {
		return malformed(SUBACK, "cut off")
	}
	if v == V5 {
		var err error
		if p.Properties, err = r.properties(SUBACK); err != nil {
			return err
		}
	}
	if len(r.b) == 0 {
		return malformed(SUBACK, "no code")
	}
	for _, c := range r.b {
		if !Reason(c).Legal(SUBACK) || v != V5 && c > 2 && c != 0x80 {
			return protocol(SUBACK, "code is not one of this packet's [MQTT-3.9.3-2]")
		}
		p.Codes = append(p.Codes, Reason(c))
	}
	return nil
}

func (p *Suback) bodyLen(v Version) int {
	n := 2 + len(p.Codes)
	if v == V5 {
		n += p.Properties.Len()
	}
	return n
}

// Len is what Append appends.
func (p *Suback) Len(v Version) int { return packetLen(p.bodyLen(v)) }

// Append appends the packet.
func (p *Suback) Append(b []byte, v Version) []byte {
	b = appendUint16(AppendHeader(b, SUBACK, 0, p.bodyLen(v)), p.PacketID)
	if v == V5 {
		b = p.Properties.AppendTo(b)
	}
	for _, c := range p.Codes {
		b = append(b, byte(c))
	}
	return b
}
