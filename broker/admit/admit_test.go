package admit

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"noctule/broker/auth"
	"noctule/codec"
)

// office is a desk, with the answers it has given.
type office struct {
	*Desk
	t       *testing.T
	running sync.WaitGroup
	answers chan string
}

func newOffice(t *testing.T, limit int) *office {
	x := &office{t: t, answers: make(chan string, 1000)}
	x.Desk = New(Config{
		Max: limit, Now: func() int64 { return 0 }, Go: x.running.Go,
		Hashing: auth.PoolConfig{Workers: 1},
		Guard:   func(func() string) {},
	})
	t.Cleanup(func() {
		if err := x.Close(context.Background()); err != nil {
			t.Error(err)
		}
		x.running.Wait()
	})
	return x
}

// comes begins the case of a client at an address; false if it has no place.
func (x *office) comes(id, from string, policy *auth.Policy, ask ...Admitter) (*Case, bool) {
	c := &Case{
		Admission: &Admission{ClientID: id, Address: netip.MustParseAddrPort(from)},
		Login:     auth.Login{ClientID: id, Username: id, HasUsername: true}, Policy: policy, Admitters: ask,
	}
	c.Answered = func(r codec.Reason) {
		x.Leave(c)
		x.answers <- fmt.Sprintf("%s: %s", id, r)
	}
	return c, x.Decide(c)
}

func (x *office) want(want string) {
	x.t.Helper()
	if got := <-x.answers; got != want {
		x.t.Errorf("the answer is %q, want %q", got, want)
	}
}

// admitter answers when it is told to, or when the client has gone.
type admitter chan codec.Reason

func (a admitter) Admit(ctx context.Context, _ *Admission) codec.Reason {
	select {
	case r := <-a:
		return r
	case <-ctx.Done():
		return codec.UnspecifiedError
	}
}

// judge is a slow Authenticator that lets one user in.
type judge string

func (j judge) Authenticate(l *auth.Login) auth.Verdict {
	if l.Username == string(j) {
		return auth.Allow
	}
	return auth.Deny
}

// The password is checked first, then the Admitters are asked in order until one refuses, then what they have given
// is made ready, if all have said yes.
func TestDecide(t *testing.T) {
	x := newOffice(t, 0)
	policy := &auth.Policy{Authenticators: []auth.Authenticator{judge("ann")}}
	first, second := make(admitter, 1), make(admitter, 1)
	x.comes("bob", "192.0.2.1:1", policy, first, second)
	x.want("bob: Not authorized")
	first <- codec.Banned
	x.comes("ann", "192.0.2.1:1", policy, first, second)
	x.want("ann: Banned")
	first <- codec.Success
	second <- codec.QuotaExceeded
	x.comes("ann", "192.0.2.1:1", policy, first, second)
	x.want("ann: Quota exceeded")
	for _, r := range []codec.Reason{codec.Success, codec.ServerUnavailable} {
		done := make(chan codec.Reason, 1)
		c := &Case{
			Admission: &Admission{ClientID: "ann"},
			Login:     auth.Login{Username: "ann", HasUsername: true}, Policy: policy,
			Prepare:  func(context.Context) codec.Reason { return r },
			Answered: func(r codec.Reason) { done <- r },
		}
		if !x.Decide(c) || <-done != r {
			t.Errorf("the answer is not %s", r)
		}
		x.Leave(c)
	}
	if s := x.Stats(); s != (Stats{}) || x.Hashing().Checked != 5 || x.Hashing().Failed != 1 {
		t.Errorf("%+v %+v", s, x.Hashing())
	}
}

// An address has its share of the places and no more; when all are taken, the newest of who has most hears that the
// broker is busy. A client that goes ends its question.
func TestPlaces(t *testing.T) {
	x := newOffice(t, 16)
	never := make(admitter)
	var last *Case
	for i := range 16 {
		c, ok := x.comes(fmt.Sprint(i), fmt.Sprintf("192.0.2.%d:1", i/2), nil, never)
		if !ok {
			t.Fatalf("no place for %d", i)
		}
		last = c
	}
	if _, ok := x.comes("greedy", "192.0.2.7:1", nil, never); ok {
		t.Error("an address has more than an eighth")
	}
	if _, ok := x.comes("new", "192.0.2.99:1", nil, never); !ok {
		t.Error("no place for a newcomer")
	}
	x.want("15: Server busy")
	if s := x.Stats(); s != (Stats{Waiting: 16, Refused: 1, GaveWay: 1}) {
		t.Errorf("%+v", s)
	}
	last.Withdraw() // again: nothing
	for range 16 {
		never <- codec.Success
	}
	for range 16 {
		<-x.answers
	}
	gone, _ := x.comes("gone", "192.0.2.1:1", nil, never)
	gone.Withdraw()
	x.want("gone: Unspecified error")
}

// A login that comes another way waits its turn among the others, unless nothing has to be hashed.
func TestCheckLogin(t *testing.T) {
	x := newOffice(t, 0)
	policy := &auth.Policy{Authenticators: []auth.Authenticator{judge("ann")}}
	for name, want := range map[string]codec.Reason{"ann": codec.Success, "bob": codec.NotAuthorized} {
		login := auth.Login{Username: name, HasUsername: true}
		if got := x.CheckLogin(t.Context(), policy, login); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := x.Hashing().Checked; n != 2 {
		t.Errorf("%d hashed", n)
	}
	if got := x.CheckLogin(t.Context(), &auth.Policy{}, auth.Login{}); got != codec.NotAuthorized {
		t.Errorf("anonymous: %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := x.CheckLogin(ctx, policy, auth.Login{Username: "bob"}); got != codec.ServerBusy && got != codec.NotAuthorized {
		t.Errorf("nobody waits: %s", got)
	}
}

// oracle is Rules that leave everything open but what begins with f, and say yes to "yes".
type oracle struct{}

func (oracle) Rules(string, string, bool) auth.Rules { return oracle{} }

func (oracle) Check(_ auth.Access, topic []byte) auth.Verdict {
	if topic[0] == 'f' {
		return auth.Allow
	}
	return auth.Ask
}

func (oracle) Covers([]byte) bool { return false }

func (oracle) Ask(_ context.Context, _ auth.Access, topic []byte) auth.Verdict {
	switch string(topic) {
	case "yes":
		return auth.Allow
	case "no":
		return auth.Deny
	}
	return auth.Ignore
}

// What is open is asked about once, and an answer is for one kind of access. Who does not say yes or no has not
// answered, and then nothing is.
func TestQuestion(t *testing.T) {
	x := newOffice(t, 0)
	rules := (&auth.Policy{Authorizers: []auth.Authorizer{oracle{}}}).Permissions("", "", false)
	var a *Answers
	ask := func(want codec.Reason, access auth.Access, topics ...string) *Question {
		t.Helper()
		var list [][]byte
		for _, s := range topics {
			list = append(list, []byte(s))
		}
		q := a.Ask(rules, access, list...)
		if q == nil {
			return nil
		}
		done := make(chan codec.Reason, 1)
		x.Resolve(q, func(r codec.Reason) { done <- r })
		if r := <-done; r != want {
			t.Errorf("%q: %s", topics, r)
		}
		return q
	}
	if ask(codec.Success, auth.Write, "free") != nil {
		t.Error("what is not open is asked about")
	}
	a = ask(codec.Success, auth.Write, "yes", "free", "no").Answers(a)
	if !a.Allow(auth.Write, []byte("yes")) || a.Allow(auth.Write, []byte("no")) || a.Allow(auth.Read, []byte("yes")) ||
		a.Allow(auth.Write, []byte("other")) {
		t.Errorf("%+v", a)
	}
	if ask(codec.Success, auth.Write, "yes", "no") != nil {
		t.Error("what is known is asked about again")
	}
	a = ask(codec.Success, auth.Subscribe, "yes").Answers(a)
	if !a.Allow(auth.Write, []byte("yes")) || !a.Allow(auth.Subscribe, []byte("yes")) {
		t.Errorf("%+v", a)
	}
	ask(codec.ServerBusy, auth.Write, "other")
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask(codec.ServerBusy, auth.Write, "other")
}

// A session is its user's and its mount point's; what is not known is anybody's.
func TestOwner(t *testing.T) {
	ann := Owner{User: "ann", Mount: "a/"}
	for i, tt := range []struct {
		o           Owner
		user, mount string
		others      OtherUsers
		want        bool
	}{
		{ann, "ann", "a/", FreshSession, false},
		{ann, "bob", "a/", FreshSession, true},
		{ann, "", "a/", RefuseSession, true},
		{ann, "bob", "a/", ResumeSession, false},
		{ann, "bob", "b/", ResumeSession, true},
		{ann, "ann", "b/", FreshSession, true},
		{Owner{AnyUser: true}, "bob", "", FreshSession, false},
		{Owner{AnyUser: true}, "bob", "b/", FreshSession, true},
		{Owner{User: "ann", AnyMount: true}, "ann", "b/", FreshSession, false},
		{Owner{User: "ann", AnyMount: true}, "bob", "b/", FreshSession, true},
	} {
		if got := tt.o.Foreign([]byte(tt.user), tt.mount, tt.others); got != tt.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}
