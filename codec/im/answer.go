package im

import "encoding/binary"

// State says what became of one topic of an entry.
type State uint8

// The states.
const (
	New      State = 1 // in effect, and was not before
	Existing State = 2 // in effect, and was before
	Removed  State = 3 // was in effect, and is not any more
	Absent   State = 4 // not in effect, and was not before
	Pending  State = 5 // waits for the client to connect
)

// String is the state's name.
func (s State) String() string {
	if s < New || s > Pending {
		return "unknown"
	}
	return [...]string{"new", "existing", "removed", "absent", "pending"}[s-1]
}

// Result is the answer for one topic.
type Result struct {
	Filter []byte
	Code   uint8 // as in a SUBACK or UNSUBACK of MQTT 5
	State  State
}

// Answer is the answer for one session.
type Answer struct {
	ClientID []byte
	Code     uint8  // 0, or why nothing of the entry was done
	Revision uint64 // of the session's subscriptions made by servers
	Results  []Result
}

// Answers is what a batch is answered with, in its binary form.
type Answers struct{ List []Answer }

// Parse reads answers.
func (p *Answers) Parse(b []byte) error {
	r := reader{format: "answer", b: b}
	p.List = nil
	if v := r.byte("version"); r.err == nil && v != Version {
		r.fail(0, "unknown version")
	}
	n := int(r.uint16("number of answers"))
	for i := 0; i < n && r.err == nil; i++ {
		a := Answer{ClientID: r.bytes("client id"), Code: r.byte("code"), Revision: r.uint64("revision")}
		results := int(r.uint16("number of results"))
		for j := 0; j < results && r.err == nil; j++ {
			x := Result{Filter: r.bytes("topic"), Code: r.byte("code")}
			at := r.at
			x.State = State(r.byte("state"))
			if r.err == nil && (x.State < New || x.State > Pending) {
				r.fail(at, "unknown state")
			}
			a.Results = append(a.Results, x)
		}
		p.List = append(p.List, a)
	}
	return r.end()
}

// Len is what Append appends.
func (p *Answers) Len() int {
	n := 3
	for i := range p.List {
		n += 13 + len(p.List[i].ClientID)
		for j := range p.List[i].Results {
			n += 4 + len(p.List[i].Results[j].Filter)
		}
	}
	return n
}

// Append appends the answers. Counts and lengths above 65535 have no encoding.
func (p *Answers) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, Version), uint16(len(p.List)))
	for i := range p.List {
		a := &p.List[i]
		b = append(appendBytes(b, a.ClientID), a.Code)
		b = binary.BigEndian.AppendUint64(b, a.Revision)
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Results)))
		for j := range a.Results {
			x := &a.Results[j]
			b = append(appendBytes(b, x.Filter), x.Code, byte(x.State))
		}
	}
	return b
}
