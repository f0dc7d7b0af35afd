package codec

// Connack is a CONNACK packet (3.2). In MQTT 3, Append turns the reason into a return code, and Parse
// leaves the return code as it came.
type Connack struct {
	SessionPresent bool
	Reason         Reason
	Properties     Properties
}

// Parse reads the body.
func (p *Connack) Parse(_ uint8, body []byte, v Version) error {
	r := reader{b: body}
	flags := r.byte()
	*p = Connack{SessionPresent: flags&1 != 0, Reason: Reason(r.byte())}
	if r.bad || flags > 1 {
		return malformed(CONNACK, "cut off, or reserved flags [MQTT-3.2.2-1]")
	}
	if v == V5 {
		var err error
		if p.Properties, err = r.properties(CONNACK); err != nil {
			return err
		}
		if !p.Reason.Legal(CONNACK) {
			return protocol(CONNACK, "reason code is not one of this packet's [MQTT-3.2.2-8]")
		}
	}
	if len(r.b) > 0 {
		return malformed(CONNACK, "bytes left over")
	}
	return nil
}

// Len is what Append appends.
func (p *Connack) Len(v Version) int {
	if v != V5 {
		return 4
	}
	return packetLen(2 + p.Properties.Len())
}

// Append appends the packet.
func (p *Connack) Append(b []byte, v Version) []byte {
	flags := byte(0)
	if p.SessionPresent {
		flags = 1
	}
	if v != V5 {
		return append(b, byte(CONNACK)<<4, 2, flags, p.Reason.ConnackV3())
	}
	b = AppendHeader(b, CONNACK, 0, 2+p.Properties.Len())
	return p.Properties.AppendTo(append(b, flags, byte(p.Reason)))
}
