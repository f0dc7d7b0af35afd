package codec

// Auth is an AUTH packet (3.15), MQTT 5 only.
type Auth struct {
	Reason     Reason
	Properties Properties
}

// Parse reads the body.
func (p *Auth) Parse(_ uint8, body []byte, v Version) error {
	*p = Auth{}
	if v != V5 {
		return protocol(AUTH, "not a packet of MQTT 3")
	}
	var err error
	p.Reason, p.Properties, err = parseReason(AUTH, body)
	return err
}

// Len is what Append appends.
func (p *Auth) Len(Version) int { return packetLen(reasonLen(p.Reason, p.Properties)) }

// Append appends the packet, in the shortest form.
func (p *Auth) Append(b []byte, _ Version) []byte {
	return appendReason(b, AUTH, p.Reason, p.Properties)
}
