package codec

// Disconnect is a DISCONNECT packet (3.14); in MQTT 3 it is empty.
type Disconnect struct {
	Reason     Reason
	Properties Properties
}

// Parse reads the body.
func (p *Disconnect) Parse(_ uint8, body []byte, v Version) error {
	*p = Disconnect{}
	if v != V5 {
		if len(body) > 0 {
			return malformed(DISCONNECT, "body is not empty")
		}
		return nil
	}
	var err error
	p.Reason, p.Properties, err = parseReason(DISCONNECT, body)
	return err
}

// Len is what Append appends.
func (p *Disconnect) Len(v Version) int {
	if v != V5 {
		return 2
	}
	return packetLen(reasonLen(p.Reason, p.Properties))
}

// Append appends the packet, in the shortest form.
func (p *Disconnect) Append(b []byte, v Version) []byte {
	if v != V5 {
		return append(b, byte(DISCONNECT)<<4, 0)
	}
	return appendReason(b, DISCONNECT, p.Reason, p.Properties)
}

// DISCONNECT and AUTH are a reason code and properties, both of which may be left out.

func parseReason(t Type, body []byte) (Reason, Properties, error) {
	if len(body) == 0 {
		return Success, nil, nil
	}
	r := reader{b: body}
	code := Reason(r.byte())
	if !code.Legal(t) {
		return 0, nil, protocol(t, "reason code is not one of this packet's")
	}
	var props Properties
	if len(r.b) > 0 {
		var err error
		if props, err = r.properties(t); err != nil {
			return 0, nil, err
		}
	}
	if len(r.b) > 0 {
		return 0, nil, malformed(t, "bytes left over")
	}
	return code, props, nil
}

func reasonLen(r Reason, p Properties) int {
	switch {
	case r == 0 && len(p) == 0:
		return 0
	case len(p) == 0:
		return 1
	default:
		return 1 + p.Len()
	}
}

func appendReason(b []byte, t Type, r Reason, p Properties) []byte {
	n := reasonLen(r, p)
	b = AppendHeader(b, t, 0, n)
	if n > 0 {
		b = append(b, byte(r))
	}
	if n > 1 {
		b = p.AppendTo(b)
	}
	return b
}
