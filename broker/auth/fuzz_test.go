package auth

import (
	"errors"
	"strings"
	"testing"

	"noctule/broker/auth/hash"
	"noctule/codec"
)

// FuzzPasswords: whatever parses is written back the same, and errors name a line and no secret.
func FuzzPasswords(f *testing.F) {
	f.Add("# c\na:" + made20 + "\nb:" + made16)
	f.Add("a:$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAA")
	f.Add("a:$7$1$AAAA$\n:\n::\na:b:c")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := readPasswords(strings.NewReader(text))
		if err != nil {
			checkFileError(t, err, text)
			return
		}
		if len(p.decoys) != len(p.users) {
			t.Fatalf("%d decoys, %d users", len(p.decoys), len(p.users))
		}
		for name, h := range p.users {
			again, err := hash.Parse(h.String())
			if err != nil || again.String() != h.String() {
				t.Fatalf("%q: %q is not read back: %v", name, h.String(), err)
			}
		}
	})
}

func checkFileError(t *testing.T, err error, text string) {
	t.Helper()
	var e *FileError
	if !errors.As(err, &e) || e.Line < 1 || e.Line > strings.Count(text, "\n")+1 || e.Unreadable() {
		t.Fatalf("%v", err)
	}
}

// FuzzACL: whatever parses answers every topic without a panic, and what is covered may be read.
func FuzzACL(f *testing.F) {
	f.Add("topic read a/#\nuser u\ntopic deny b/+\npattern write %c/%u", "a/b", "a/#", "c", "u")
	f.Add("pattern deny +/%c/#\npattern readwrite #", "x/y/z", "x/+/#", "y/z", "")
	f.Add("topic $SYS/#\ntopic deny #", "$SYS/x", "$SYS/+", "+", "#")
	f.Fuzz(func(t *testing.T, text, topic, filter, client, user string) {
		p := newACLParser(&source{path: "-", what: "acl_file"})
		if err := p.s.scan(strings.NewReader(text), p.line); err != nil {
			checkFileError(t, err, text)
			return
		}
		if codec.CheckTopicName([]byte(topic)) != nil || codec.CheckTopicFilter([]byte(filter)) != nil {
			return
		}
		r := p.finish().Rules(client, user, user != "")
		read := r.Check(Read, []byte(topic))
		if r.Check(Write, []byte(topic)) != Allow && read != Allow && read != Deny {
			t.Fatalf("the file has no opinion: %s", read)
		}
		// A filter without wildcards is its own only topic.
		if !strings.ContainsAny(filter, "+#") && r.Covers([]byte(filter)) &&
			r.Check(Read, []byte(filter)) != Allow {
			t.Fatalf("%q is covered, but may not be read", filter)
		}
	})
}
