package im

import "encoding/binary"

// NoticeType says what a notification tells.
type NoticeType uint8

// The types of notification (table 4); those marked are extensions.
const (
	ForcedOffline   NoticeType = 0x28 // the same kind of terminal has logged in elsewhere; no body
	ContactsChanged NoticeType = 0x30 // uid
	PresenceChanged NoticeType = 0x31 // uid, status
	ProfileChanged  NoticeType = 0x32 // extension: uid, and what the profile says now
	GroupChanged    NoticeType = 0x36 // extension: gid, and what the group is now
	MemberJoined    NoticeType = 0x37 // gid, uid
	MemberLeft      NoticeType = 0x38 // extension: gid, uid
	GroupDissolved  NoticeType = 0x39 // extension: gid
)

// Status is the "status" of PresenceChanged.
type Status uint8

// The values of Status; Offline is an extension.
const (
	PCOnline     Status = 0x00
	MobileOnline Status = 0x01
	WebOnline    Status = 0x02
	Offline      Status = 0xFF
)

// Notice is the payload of a notification (table 3).
type Notice struct {
	Time uint32 // Unix seconds
	Type NoticeType
	Body []byte // JSON; empty with ForcedOffline only
}

// Known reports whether t is one of the types above.
func (t NoticeType) Known() bool {
	switch t {
	case ForcedOffline, ContactsChanged, PresenceChanged, ProfileChanged, GroupChanged, MemberJoined,
		MemberLeft, GroupDissolved:
		return true
	}
	return false
}

// Parse reads a payload.
func (p *Notice) Parse(b []byte) error {
	r := reader{format: "notification", b: b}
	*p = Notice{Time: r.uint32("time")}
	at := r.at
	p.Type = NoticeType(r.byte("type"))
	if r.err != nil {
		return r.err
	}
	p.Body = b[r.at:]
	switch {
	case !p.Type.Known():
		r.fail(at, "unknown type of notification")
	case p.Type == ForcedOffline && len(p.Body) > 0:
		r.fail(r.at, "forced offline has no body")
	case p.Type != ForcedOffline && len(p.Body) == 0:
		r.fail(r.at, "body is cut off")
	}
	return r.err
}

// Len is what Append appends.
func (p *Notice) Len() int { return 5 + len(p.Body) }

// Append appends the payload.
func (p *Notice) Append(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint32(b, p.Time), byte(p.Type))
	return append(b, p.Body...)
}
