package codec

// Unsuback is an UNSUBACK packet (3.11). MQTT 3 has no codes in it.
type Unsuback struct {
	PacketID   uint16
	Properties Properties
	Codes      []Reason
}

// Parse reads the body.
func (p *Unsuback) Parse(_ uint8, body []byte, v Version) error {
	r := reader{b: body}
	*p = Unsuback{PacketID: r.uint16(), Codes: p.Codes[:0]}
	if r.bad {
		return malformed(UNSUBACK, "cut off")
	}
	if v != V5 {
		if len(r.b) > 0 {
			return malformed(UNSUBACK, "bytes left over")
		}
		return nil
	}
	var err error
	if p.Properties, err = r.properties(UNSUBACK); err != nil {
		return err
	}
	if len(r.b) == 0 {
		return malformed(UNSUBACK, "no code")
	}
	for _, c := range r.b {
		if !Reason(c).Legal(UNSUBACK) {
			return protocol(UNSUBACK, "code is not one of this packet's [MQTT-3.11.3-2]")
		}
		p.Codes = append(p.Codes, Reason(c))
	}
	return nil
}

func (p *Unsuback) bodyLen(v Version) int {
	if v != V5 {
		return 2
	}
	return 2 + p.Properties.Len() + len(p.Codes)
}

// Len is what Append appends.
func (p *Unsuback) Len(v Version) int { return packetLen(p.bodyLen(v)) }

// Append appends the packet.
func (p *Unsuback) Append(b []byte, v Version) []byte {
	b = appendUint16(AppendHeader(b, UNSUBACK, 0, p.bodyLen(v)), p.PacketID)
	if v != V5 {
		return b
	}
	b = p.Properties.AppendTo(b)
	for _, c := range p.Codes {
		b = append(b, byte(c))
	}
	return b
}
