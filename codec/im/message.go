package im

import "encoding/binary"

// Kind says between what terminals a message goes: the high nibble of byte 4.
type Kind uint8

// The kinds of message. 1 is the paper's, the others follow its pattern.
const (
	WebToIOS         Kind = 1
	WebToWeb         Kind = 2
	WebToAndroid     Kind = 3
	IOSToWeb         Kind = 4
	IOSToIOS         Kind = 5
	IOSToAndroid     Kind = 6
	AndroidToWeb     Kind = 7
	AndroidToIOS     Kind = 8
	AndroidToAndroid Kind = 9
)

// MediaType says what a part of a message is.
type MediaType uint8

// The types of media.
const (
	Text  MediaType = 0
	Image MediaType = 1
	Audio MediaType = 2
	Video MediaType = 3
	Word  MediaType = 4
	Slide MediaType = 5 // ppt
)

// MediaMax is how many parts a message may have.
const MediaMax = 7

// Media is one part of a message. Content is JSON: {"co": text, or URL of a file}, and of a file also "fn",
// its name, and "ml", its size in bytes as a string.
type Media struct {
	Type    MediaType
	Content []byte
}

// Message is the payload of an instant message (table 2). A reused struct does not allocate.
type Message struct {
	Time   uint32 // Unix seconds
	Kind   Kind
	Media  []Media // 1 to 7
	Sender []byte  // id of the user, 1 to 255 bytes
}

// Parse reads a payload.
func (p *Message) Parse(b []byte) error {
	r := reader{format: "message", b: b}
	*p = Message{Time: r.uint32("time"), Media: p.Media[:0]}
	at := r.at
	head := r.byte("kind and number of media")
	p.Kind = Kind(head >> 4)
	n := int(head & 0x0F)
	switch {
	case r.err != nil:
		return r.err
	case p.Kind == 0 || p.Kind > AndroidToAndroid:
		r.fail(at, "unknown kind of message")
	case n > MediaMax:
		r.fail(at, "reserved bit of the number of media is set")
	case n == 0:
		r.fail(at, "no media")
	}
	for range n {
		at = r.at
		t := MediaType(r.byte("type of media"))
		if t > Slide {
			r.fail(at, "unknown type of media")
		}
		size := r.uint32("length of content")
		if r.err == nil && uint64(size) > uint64(len(b)-r.at) {
			r.fail(len(b), "content is cut off")
		}
		if r.err == nil && size == 0 {
			r.fail(r.at-4, "content is empty")
		}
		p.Media = append(p.Media, Media{Type: t, Content: r.take(int(size), "content")})
		if r.err != nil {
			return r.err
		}
	}
	at = r.at
	size := r.byte("length of the sender's id")
	if r.err == nil && size == 0 {
		r.fail(at, "sender's id is empty")
	}
	p.Sender = r.take(int(size), "sender's id")
	return r.end()
}

// Len is what Append appends.
func (p *Message) Len() int {
	n := 6 + len(p.Sender)
	for i := range p.Media {
		n += 5 + len(p.Media[i].Content)
	}
	return n
}

// Append appends the payload. More than 7 media or a sender of more than 255 bytes have no encoding.
func (p *Message) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, p.Time)
	b = append(b, byte(p.Kind)<<4|byte(len(p.Media)))
	for i := range p.Media {
		m := &p.Media[i]
		b = append(b, byte(m.Type))
		b = binary.BigEndian.AppendUint32(b, uint32(len(m.Content)))
		b = append(b, m.Content...)
	}
	return append(append(b, byte(len(p.Sender))), p.Sender...)
}
