package codec

import "bytes"

// Connect is a CONNECT packet (3.1).
type Connect struct {
	Version                  Version
	Level                    uint8 // the byte as sent, for refusals
	Bridge                   bool  // bit 0x80 of the level: Mosquitto's bridges to MQTT 3 brokers
	CleanStart               bool
	KeepAlive                uint16 // seconds
	ClientID                 []byte
	HasUsername, HasPassword bool
	Username, Password       []byte
	Properties               Properties
	HasWill                  bool
	Will                     Will
}

// Will is the Will Message in a CONNECT.
type Will struct {
	QoS            uint8
	Retain         bool
	Topic, Payload []byte
	Properties     Properties
}

const (
	flagReserved = 1 << iota
	flagClean
	flagWill
	flagWillQoS1
	flagWillQoS2
	flagWillRetain
	flagPassword
	flagUsername
)

// Parse reads the body of a CONNECT; the version argument is ignored, the packet tells its own. Flags of the
// fixed header are legal in MQTT 3.1 only. The
// protocol level is looked at before the name, as Mosquitto does; on UnsupportedProtocolVersion Level holds
// what was asked for.
func (p *Connect) Parse(header uint8, body []byte, _ Version) error {
	*p = Connect{}
	r := reader{b: body}
	name := r.binary()
	p.Level = r.byte()
	flags := r.byte()
	p.KeepAlive = r.uint16()
	if r.bad {
		return malformed(CONNECT, "cut off")
	}
	if err := p.protocol(name); err != nil {
		return err
	}
	if header != 0 && p.Version != V31 {
		return malformed(CONNECT, "flags are not 0 [MQTT-2.1.3-1]")
	}
	if err := p.flags(flags); err != nil {
		return err
	}
	var err error
	if p.Version == V5 {
		if p.Properties, err = r.properties(CONNECT); err != nil {
			return err
		}
	}
	p.ClientID = r.binary()
	if p.HasWill {
		if p.Version == V5 && !r.bad {
			if p.Will.Properties, err = r.properties(willType); err != nil {
				return err
			}
		}
		p.Will.Topic = r.binary()
		p.Will.Payload = r.binary()
	}
	if p.HasUsername {
		p.Username = r.binary()
	}
	if p.HasPassword {
		p.Password = r.binary()
	}
	if r.bad || len(r.b) > 0 {
		return malformed(CONNECT, "cut off, or bytes left over")
	}
	return p.check()
}

func (p *Connect) protocol(name []byte) error {
	p.Bridge = p.Level&0x80 != 0
	p.Version = Version(p.Level &^ 0x80)
	switch {
	case bytes.Equal(name, []byte("MQIsdp")):
		if p.Version == V31 {
			return nil
		}
	case bytes.Equal(name, []byte("MQTT")):
		if p.Version == V311 || p.Level == uint8(V5) {
			return nil
		}
	default:
		p.Version = 0 // nobody to answer
		return protocol(CONNECT, "protocol name is not MQTT [MQTT-3.1.2-1]")
	}
	p.Version = 0
	return &Error{
		Reason: UnsupportedProtocolVersion, Packet: CONNECT, Detail: "unknown protocol level [MQTT-3.1.2-2]",
	}
}

func (p *Connect) flags(f byte) error {
	if f&flagReserved != 0 && p.Version != V31 { // 3.1 calls it unused
		return malformed(CONNECT, "reserved flag is set [MQTT-3.1.2-3]")
	}
	p.CleanStart = f&flagClean != 0
	p.HasWill = f&flagWill != 0
	p.Will.QoS = f >> 3 & 3
	p.Will.Retain = f&flagWillRetain != 0
	p.HasUsername = f&flagUsername != 0
	p.HasPassword = f&flagPassword != 0
	switch {
	case p.Will.QoS == 3:
		return malformed(CONNECT, "Will QoS 3 [MQTT-3.1.2-12]")
	case !p.HasWill && (p.Will.QoS != 0 || p.Will.Retain):
		return malformed(CONNECT, "will flags without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]")
	case p.Version != V5 && p.HasPassword && !p.HasUsername:
		return malformed(CONNECT, "password without user name [MQTT-3.1.2-22]")
	}
	return nil
}

func (p *Connect) check() error {
	_, data := p.Properties.Bytes(AuthData)
	_, method := p.Properties.Bytes(AuthMethod)
	switch {
	case data && !method:
		return protocol(CONNECT, "Authentication Data without Authentication Method (MQTT 5, 3.1.2.11.10)")
	case !ValidUTF8(p.ClientID):
		return malformed(CONNECT, "client id is not valid UTF-8 [MQTT-3.1.3-4]")
	case !ValidUTF8(p.Username):
		return malformed(CONNECT, "user name is not valid UTF-8 [MQTT-3.1.3-12]")
	case p.HasWill && CheckTopicName(p.Will.Topic) != nil:
		return malformed(CONNECT, "will topic is not a topic name [MQTT-3.1.3-11]")
	}
	return nil
}

func (p *Connect) name() string {
	if p.Version == V31 {
		return "MQIsdp"
	}
	return "MQTT"
}

func (p *Connect) bodyLen() int {
	n := 2 + len(p.name()) + 4 + 2 + len(p.ClientID)
	if p.Version == V5 {
		n += p.Properties.Len()
	}
	if p.HasWill {
		n += 4 + len(p.Will.Topic) + len(p.Will.Payload)
		if p.Version == V5 {
			n += p.Will.Properties.Len()
		}
	}
	if p.HasUsername {
		n += 2 + len(p.Username)
	}
	if p.HasPassword {
		n += 2 + len(p.Password)
	}
	return n
}

// Len is what Append appends.
func (p *Connect) Len(Version) int { return packetLen(p.bodyLen()) }

// Append appends the packet in the version that p names.
func (p *Connect) Append(b []byte, _ Version) []byte {
	b = AppendHeader(b, CONNECT, 0, p.bodyLen())
	b = appendBinary(b, []byte(p.name()))
	level, flags := byte(p.Version), byte(0)
	if p.Bridge {
		level |= 0x80
	}
	set := func(on bool, f byte) {
		if on {
			flags |= f
		}
	}
	set(p.CleanStart, flagClean)
	set(p.HasUsername, flagUsername)
	set(p.HasPassword, flagPassword)
	if p.HasWill {
		flags |= flagWill | p.Will.QoS<<3
		set(p.Will.Retain, flagWillRetain)
	}
	b = appendUint16(append(b, level, flags), p.KeepAlive)
	if p.Version == V5 {
		b = p.Properties.AppendTo(b)
	}
	b = appendBinary(b, p.ClientID)
	if p.HasWill {
		if p.Version == V5 {
			b = p.Will.Properties.AppendTo(b)
		}
		b = appendBinary(appendBinary(b, p.Will.Topic), p.Will.Payload)
	}
	if p.HasUsername {
		b = appendBinary(b, p.Username)
	}
	if p.HasPassword {
		b = appendBinary(b, p.Password)
	}
	return b
}
