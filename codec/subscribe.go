package codec

// Subscribe is a SUBSCRIBE packet (3.8). A reused struct does not allocate.
type Subscribe struct {
	PacketID   uint16
	Properties Properties
	Filters    []Filter
}

// Filter is one subscription asked for. The options beside QoS are MQTT 5's.
type Filter struct {
	Name              []byte
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8 // 0: send retained messages, 1: only if new, 2: never
}

// Parse reads the body.
func (p *Subscribe) Parse(_ uint8, body []byte, v Version) error {
	r := reader{b: body}
	*p = Subscribe{PacketID: r.uint16(), Filters: p.Filters[:0]}
	if r.bad {
		return malformed(SUBSCRIBE, "cut off")
	}
	if p.PacketID == 0 {
		return protocol(SUBSCRIBE, "packet id 0 [MQTT-2.2.1-3]")
	}
	if v == V5 {
		var err error
		if p.Properties, err = r.properties(SUBSCRIBE); err != nil {
			return err
		}
	}
	if len(r.b) == 0 {
		return malformed(SUBSCRIBE, "cut off before the first filter [MQTT-3.8.3-2]")
	}
	for len(r.b) > 0 {
		f := Filter{Name: r.binary()}
		o := r.byte()
		if r.bad {
			return malformed(SUBSCRIBE, "filter is cut off")
		}
		if err := f.options(o, v); err != nil {
			return err
		}
		p.Filters = append(p.Filters, f)
	}
	return nil
}

// options reads the options byte and checks the filter.
func (f *Filter) options(o byte, v Version) error {
	f.QoS = o & 3
	reserved := byte(0xFC)
	if v == V5 {
		reserved = 0xC0
		f.NoLocal, f.RetainAsPublished, f.RetainHandling = o&4 != 0, o&8 != 0, o>>4&3
	}
	if f.QoS == 3 || o&reserved != 0 {
		return malformed(SUBSCRIBE, "options have reserved bits or QoS 3 [MQTT-3.8.3-5]")
	}
	if f.RetainHandling == 3 {
		return protocol(SUBSCRIBE, "Retain Handling 3")
	}
	if err := CheckTopicFilter(f.Name); err != nil {
		return inPacket(SUBSCRIBE, err)
	}
	if f.NoLocal {
		if _, _, shared := SplitShare(f.Name); shared {
			return protocol(SUBSCRIBE, "No Local on a shared subscription [MQTT-3.8.3-4]")
		}
	}
	return nil
}

func (p *Subscribe) bodyLen(v Version) int {
	n := 2
	if v == V5 {
		n += p.Properties.Len()
	}
	for i := range p.Filters {
		n += 3 + len(p.Filters[i].Name)
	}
	return n
}

// Len is what Append appends.
func (p *Subscribe) Len(v Version) int { return packetLen(p.bodyLen(v)) }

// Append appends the packet.
func (p *Subscribe) Append(b []byte, v Version) []byte {
	b = appendUint16(AppendHeader(b, SUBSCRIBE, 2, p.bodyLen(v)), p.PacketID)
	if v == V5 {
		b = p.Properties.AppendTo(b)
	}
	for i := range p.Filters {
		f := &p.Filters[i]
		o := f.QoS
		if v == V5 {
			o |= f.RetainHandling << 4
			if f.NoLocal {
				o |= 4
			}
			if f.RetainAsPublished {
				o |= 8
			}
		}
		b = append(appendBinary(b, f.Name), o)
	}
	return b
}
