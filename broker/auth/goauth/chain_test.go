package goauth

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"noctule/broker/auth"
)

// Passwords as the plug-in's own documents and tests have them hashed.
const (
	hashOfFoo = "PBKDF2$sha512$100000$qsU7xQ8YCV/9nRuBBJVTxA==$" +
		"jqw94Ej3aEr97UofY6rClmVCRkTdDiubQW0A6ZYmUI+pZjW9Hax+2w2FeYB3y5ut1SliB7+HAwIl2iONLKkohw=="
	hashOfTestpw = "PBKDF2$sha512$100000$os24lcPr9cJt2QDVWssblQ==$" +
		"BK1BQ2wbwU1zNxv3Ml3wLuu5//hPop3/LvaPYjjCwdBvnpwusnukJPpcXQzyyjOlZdieXTx6sXAcX4WnZRZZnw=="
)

// mustChain is a chain of options, beside files with these contents that are called FILE0, FILE1.
func mustChain(t *testing.T, text string, contents ...string) *Chain {
	t.Helper()
	for i, c := range contents {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, fmt.Sprintf("FILE%d", i), name)
	}
	cfg, problems := Read(options(text))
	if cfg == nil {
		t.Fatalf("%+v", problems)
	}
	c, err := New(cfg, nil, Host{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// admit logs a client in, with a client id of its own, and is what it comes to.
func admit(t *testing.T, c *Chain, user, password string) (auth.Verdict, *auth.Pass) {
	t.Helper()
	return c.Admit(t.Context(), &auth.Login{
		ClientID: "c-" + user, Username: user, Password: []byte(password), HasUsername: true, HasPassword: true,
	})
}

// logins checks lines "user password verdict".
func logins(t *testing.T, c *Chain, lines ...string) {
	t.Helper()
	for _, line := range lines {
		f := strings.Fields(line)
		if v, _ := admit(t, c, f[0], f[1]); v.String() != f[2] {
			t.Errorf("%s: %v", line, v)
		}
	}
}

// may checks lines "access topic yes" of a client that was let in: r, w or s for the access.
func may(t *testing.T, c *Chain, user string, lines ...string) {
	t.Helper()
	mayOf(t, c, user, "c-"+user, lines...)
}

func mayOf(t *testing.T, c *Chain, user, client string, lines ...string) {
	t.Helper()
	p := (&auth.Policy{Authorizers: []auth.Authorizer{c}}).Permissions(client, user, true)
	for _, line := range lines {
		f := strings.Fields(line)
		a := map[string]auth.Access{"r": auth.Read, "w": auth.Write, "s": auth.Subscribe}[f[0]]
		got, answered := p.Allows(a, []byte(f[1])), true
		if a != auth.Read { // nobody waits for a delivery
			got, answered = p.Resolve(t.Context(), a, []byte(f[1]))
		}
		word := map[bool]string{true: "yes", false: "no"}[got]
		if !answered {
			word = "nobody"
		}
		if word != f[2] {
			t.Errorf("%s: %s: %s", user, line, word)
		}
	}
}

// TestFiles is the backend files, with what its access list has that Mosquitto's has not.
func TestFiles(t *testing.T) {
	c := mustChain(
		t,
		"backends files\nfiles_password_path FILE0\nfiles_acl_path FILE1\n",
		"# users\nfoo:"+hashOfFoo+"\ntest:x\n"[:1]+"test:"+hashOfTestpw+"\ntest:"+hashOfFoo+"\nadmin:"+hashOfFoo+"\n",
		`topic read all/#
user foo
topic write out/foo
topic read in/+
topic readwrite both/#
topic subscribe only/sub
topic deny both/secret
user nobody
topic readwrite #
user admin
topic #
pattern readwrite own/%u/#
pattern write client/%c
`,
	)
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "'nobody'") {
		t.Errorf("%q", w)
	}
	logins(
		t,
		c,
		"foo foo allow",
		"foo bar deny",
		"test foo allow",
		"test testpw deny",
		"nobody foo defer",
		"admin foo allow",
	)
	may(
		t,
		c,
		"foo",
		"r all/x yes",
		"w all/x no",
		"s all/x yes",
		"w out/foo yes",
		"r out/foo no",
		"s out/foo no",
		"r in/a yes",
		"s in/+ yes",
		"r in/a/b no",
		"w both/x yes",
		"r both/x yes",
		"s both/# yes",
		"r both/secret no",
		"w both/secret no",
		"s only/sub yes",
		"r only/sub no",
		"s # no",
		"w own/foo/x yes",
		"w own/test/x no",
		"w client/c-foo yes",
		"w client/c-test no",
		"s $share/g/in/+ yes",
		"s $share/g/out no",
	)
	may(t, c, "test", "r all/x yes", "w out/foo no", "w own/test/x yes")
	may(t, c, "stranger", "r all/x yes", "w own/stranger/x yes")
	may(t, c, "admin", "s # yes", "r a/b yes", "w a/b yes")
	p := (&auth.Policy{Authorizers: []auth.Authorizer{c}}).Permissions("c", "", false)
	if p.Allows(auth.Read, []byte("all/x")) {
		t.Error("a client without a username has rights")
	}
	if v, _ := c.Admit(t.Context(), &auth.Login{ClientID: "c"}); v != auth.Ignore {
		t.Errorf("without a username: %v", v)
	}
}

// TestFilesWithoutList allows everything only where there is no other backend.
func TestFilesWithoutList(t *testing.T) {
	alone := mustChain(t, "backends files\nfiles_password_path FILE0\n", "foo:"+hashOfFoo+"\n")
	may(t, alone, "foo", "w a yes", "s # yes", "r a yes")
	with := mustChain(
		t,
		"backends files,redis\nfiles_password_path FILE0\nredis_register user\n",
		"foo:"+hashOfFoo+"\n",
	)
	may(t, with, "foo", "w a no", "s # no", "r a no")
}

// TestSpecialChars gives nothing to who has one of them in a name, unless the option says otherwise.
func TestSpecialChars(t *testing.T) {
	c := mustChain(t, "backends files\nfiles_password_path FILE0\n", "a/b:"+hashOfFoo+"\n")
	logins(t, c, "a/b foo allow")
	may(t, c, "a/b", "w a no", "r a no", "s a no")
	mayOf(t, c, "ab", "c+", "w a no")
	mayOf(t, c, "ab", "c", "w a yes")
	c.cfg.DenySpecial = false
	logins(t, c, "a/b foo allow")
	may(t, c, "a/b", "w a yes")
}

// endpoint is a webservice of a test: it notes what it was asked, and answers by the path.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string // path, space, body
	headers http.Header
	answer  func(path string, params map[string]string) (status int, body string)
}

func newEndpoint(t *testing.T, answer func(path string, params map[string]string) (int, string)) *endpoint {
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		params := map[string]string{}
		if r.Header.Get("Content-Type") == "application/json" {
			var sent map[string]any
			_ = json.Unmarshal(raw, &sent)
			for k, v := range sent {
				params[k] = fmt.Sprint(v)
			}
		} else {
			form, _ := url.ParseQuery(string(raw))
			for k := range form {
				params[k] = form.Get(k)
			}
		}
		params["method"], params["bearer"] = r.Method, strings.TrimPrefix(
			r.Header.Get("Authorization"),
			"Bearer ",
		)
		e.mu.Lock()
		e.asked, e.headers = append(e.asked, r.URL.Path+" "+string(raw)), r.Header
		answer := e.answer
		e.mu.Unlock()
		status, body := answer(r.URL.Path, params)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(e.Close)
	return e
}

// take is what it was asked since the last time.
func (e *endpoint) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.asked
	e.asked = nil
	return list
}

// options are those of a backend that asks it.
func (e *endpoint) options(p string) string {
	u, _ := url.Parse(e.URL)
	return p + "host " + u.Hostname() + "\n" + p + "port " + u.Port() + "\n" + p + "getuser_uri /user\n" + p +
		"superuser_uri /super\n" + p + "aclcheck_uri /acl\n"
}

// policy is an answer: anna's password is x, root's is y and it is a superuser, and anna may do what acl says.
func policy(acl map[string]bool) func(string, map[string]string) (int, string) {
	return func(path string, p map[string]string) (int, string) {
		ok := false
		switch path {
		case "/user":
			ok = p["username"]+p["password"] == "annax" || p["username"]+p["password"] == "rooty"
		case "/super":
			ok = p["username"] == "root"
		case "/acl":
			ok = p["username"] == "anna" && acl[p["acc"]+" "+p["topic"]]
		}
		if ok {
			return 200, ""
		}
		return 403, ""
	}
}

// TestHTTP asks a webservice what the plug-in asks, in its form.
func TestHTTP(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{
		"2 out": true, "4 in/#": true, "1 in/#": true, "4 half/#": true, "4 one": true, "1 one": true,
	}))
	c := mustChain(t, "backends http\n"+e.options("http_")+"cache true\nacl_jitter_seconds 5\n")
	logins(t, c, "anna x allow")
	if got, want := e.take(), []string{
		`/user {"clientid":"c-anna","password":"x","username":"anna"}`, `/super {"username":"anna"}`,
	}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if agent := e.headers.Get("User-Agent"); agent != "mosquitto" {
		t.Errorf("%q", agent)
	}
	logins(t, c, "anna y defer", "root y allow")
	e.take()
	may(
		t,
		c,
		"anna",
		"w out yes",
		"w other no",
		"r in/x no",
		"s in/# yes",
		"s half/# no",
		"s one yes",
		"s $share/g/one yes",
	)
	if got := e.take(); got[0] != `/acl {"acc":2,"clientid":"c-anna","topic":"out","username":"anna"}` {
		t.Errorf("%q", got)
	}
	may(t, c, "anna", "r in/x yes", "r half/x no", "r one yes", "r one/x no") // what was granted is delivered
	if c.Rules("c-anna", "anna", true).Covers([]byte("in/#")) {
		t.Error("what may be taken back is covered")
	}
	may(t, c, "anna", "w out yes", "w other no")
	if got := e.take(); len(got) != 0 {
		t.Errorf("what is cached is asked again: %q", got)
	}
	may(t, c, "root", "w anything yes", "s # yes", "r a yes")
	if c.Rules("c-root", "root", true).Covers([]byte("#")) {
		t.Error("a superuser who may be none tomorrow is covered")
	}
	if got := e.take(); len(got) != 0 {
		t.Errorf("a superuser is asked about: %q", got)
	}
}

// TestAnswers is each way to answer, and to send.
func TestAnswers(t *testing.T) {
	for text, cases := range map[string]map[string]string{
		"":                        {"200 no": "allow", "204": "allow", "401": "defer", "404": "defer", "302": "ask", "500": "ask", "429": "ask"},
		"http_response_mode text": {"200 ok": "allow", "200 no": "defer", "200": "defer", "403 ok": "defer"},
		"http_response_mode json": {`200 {"Ok":true}`: "allow", `200 {"ok":false,"error":"x"}`: "defer", "200 ok": "ask", `403 {"ok":true}`: "defer"},
		"http_params_mode form":   {"200": "allow"},
		"http_method PUT":         {"200": "allow"},
	} {
		var answer string
		var method, body string
		e := newEndpoint(t, func(_ string, p map[string]string) (int, string) {
			status, text, _ := strings.Cut(answer, " ")
			method = p["method"]
			var code int
			_, _ = fmt.Sscan(status, &code)
			return code, text
		})
		c := mustChain(t, "backends http\n"+e.options("http_")+text+"\n")
		for _, answer = range slices.Sorted(maps.Keys(cases)) {
			if v, _ := admit(t, c, "anna", "x&y"); v.String() != cases[answer] {
				t.Errorf("%s: %s: %v", text, answer, v)
			}
		}
		body = e.take()[0]
		switch text {
		case "http_params_mode form":
			if body != "/user clientid=c-anna&password=x%26y&username=anna" || method != "POST" {
				t.Errorf("%s %s", method, body)
			}
		case "http_method PUT":
			if method != "PUT" {
				t.Error(method)
			}
		}
	}
}

// TestRetries asks again when it got no answer, and nobody knows when it never does.
func TestRetries(t *testing.T) {
	left := 2
	e := newEndpoint(t, func(path string, p map[string]string) (int, string) {
		if left--; left >= 0 {
			return 503, ""
		}
		return policy(map[string]bool{"2 out": true})(path, p)
	})
	c := mustChain(t, "backends http\n"+e.options("http_")+"retry_count 2\n")
	logins(t, c, "anna x allow")
	left = 2
	may(t, c, "anna", "w out yes")
	left = 100
	may(t, c, "anna", "w out nobody", "w other nobody")
	logins(t, c, "anna x ask")
}

// TestOrder lets in whom one backend lets in, and allows what one allows: the add-on's files and webservice.
func TestOrder(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{"2 web": true}))
	c := mustChain(
		t,
		"backends files,http\nfiles_password_path FILE0\nfiles_acl_path FILE1\n"+e.options("http_"),
		"foo:"+hashOfFoo+"\nanna:"+hashOfFoo+"\n",
		"user foo\ntopic readwrite foo/#\nuser anna\ntopic read anna/#\n",
	)
	logins(
		t,
		c,
		"foo foo allow",
		"foo x deny",
		"anna foo allow",
		"anna x allow",
		"anna z deny",
		"bert x defer",
		"root y allow",
	)
	may(t, c, "foo", "w foo/1 yes", "r foo/1 yes", "w web no", "s bar no")
	may(t, c, "anna", "r anna/1 yes", "s anna/# yes", "w anna/1 no", "w web yes")
	may(t, c, "root", "w foo/1 yes")
}

// TestRegister asks backends only about what they are registered for.
func TestRegister(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{"2 web": true}))
	c := mustChain(
		t,
		"backends files,http\nfiles_password_path FILE0\nfiles_acl_path FILE1\nfiles_register acl\n"+
			"http_register user\n"+e.options("http_"),
		"anna:"+hashOfFoo+"\n",
		"user anna\ntopic write file\n",
	)
	logins(t, c, "anna foo defer", "anna x allow")
	may(t, c, "anna", "w file yes", "w web no")
	for _, asked := range e.take() {
		if !strings.HasPrefix(asked, "/user") {
			t.Errorf("%q", asked)
		}
	}
}

// TestPrefixes sends a username to the backend whose prefix it has.
func TestPrefixes(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{"2 web": true}))
	text := "backends files,http\nfiles_password_path FILE0\nfiles_acl_path FILE1\ncheck_prefix true\nprefixes f, h\n" + e.options(
		"http_",
	)
	contents := []string{
		"f_anna:" + hashOfFoo + "\nanna:" + hashOfTestpw + "\n",
		"user f_anna\ntopic write prefixed\nuser anna\ntopic write file\n",
	}
	c := mustChain(t, text, contents...)
	logins(t, c, "f_anna foo allow", "f_anna x deny", "h_anna x defer", "anna x allow", "x_anna x defer")
	may(t, c, "f_anna", "w prefixed yes", "w file no", "w web no")
	c = mustChain(t, text+"strip_prefix true\n", contents...)
	logins(t, c, "f_anna testpw allow", "f_anna foo deny", "h_anna x allow", "h_anna testpw defer")
	may(t, c, "f_anna", "w file yes", "w web no", "w prefixed no")
	may(t, c, "h_anna", "w web yes", "w file no")
	may(t, c, "anna", "w web yes", "w file yes")
}

// TestClientID asks about the client id in place of the username.
func TestClientID(t *testing.T) {
	c := mustChain(
		t,
		"backends files\nfiles_password_path FILE0\nuse_clientid_as_username true\n",
		"c-any:"+hashOfFoo+"\n",
	)
	logins(t, c, "any foo allow", "other foo defer")
}

func signed(t *testing.T, secret string, claims jwt.MapClaims) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const secret = "0123456789abcdef0123456789abcdef"

// TestTokenFiles is jwt in mode files: the username is a token, and becomes the one that is in it.
func TestTokenFiles(t *testing.T) {
	text := "backends jwt\njwt_mode files\njwt_secret " + secret + "\njwt_files_acl_path FILE0\n"
	list := "user anna\ntopic write out/%u\n"
	c := mustChain(t, text, list)
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	good := signed(t, secret, jwt.MapClaims{"sub": "anna", "username": "bert", "exp": soon.Unix()})
	v, pass := admit(t, c, good, "any")
	if v != auth.Allow || pass.Username != "anna" || !pass.HasUsername || !pass.Expires.Equal(soon) {
		t.Fatalf("%v %+v", v, pass)
	}
	mayOf(t, c, "anna", "c-"+good, "w out/anna yes", "w out/bert no", "r out/anna no")
	late := signed(t, secret, jwt.MapClaims{"sub": "anna", "exp": time.Now().Add(-time.Hour).Unix()})
	for _, bad := range []string{
		late, "anna", signed(t, secret+"x", jwt.MapClaims{"sub": "anna"}), signed(t, secret, jwt.MapClaims{"sub": 1}),
		signed(t, secret, jwt.MapClaims{}),
	} {
		if v, _ := admit(t, c, bad, "any"); v != auth.Defer {
			t.Errorf("%s: %v", bad, v)
		}
	}
	c = mustChain(t, text+"jwt_skip_user_expiration true\n", list)
	if v, pass = admit(t, c, late, "any"); v != auth.Allow || !pass.Expires.IsZero() {
		t.Fatalf("%v %+v", v, pass)
	}
	mayOf(t, c, "anna", "c-"+late, "w out/anna no")
	c = mustChain(
		t,
		text+"jwt_skip_user_expiration true\njwt_skip_acl_expiration true\njwt_userfield Username\n",
		strings.ReplaceAll(list, "anna", "bert"),
	)
	if v, pass = admit(t, c, good, "any"); v != auth.Allow || pass.Username != "bert" ||
		!pass.Expires.IsZero() {
		t.Fatalf("%v %+v", v, pass)
	}
	mayOf(t, c, "bert", "c-"+good, "w out/bert yes")
}

// TestTokenRemote shows tokens to a webservice.
func TestTokenRemote(t *testing.T) {
	good := signed(t, secret, jwt.MapClaims{"sub": "anna"})
	e := newEndpoint(t, func(path string, p map[string]string) (int, string) {
		if p["bearer"] == good &&
			(path == "/user" || path == "/acl" && p["topic"] == "out" && p["acc"] == "2") {
			return 200, ""
		}
		return 403, ""
	})
	c := mustChain(t, "backends jwt\njwt_mode remote\n"+e.options("jwt_"))
	if v, pass := admit(t, c, good, "any"); v != auth.Allow || pass.Username != "anna" {
		t.Fatalf("%v %+v", v, pass)
	}
	mayOf(t, c, "anna", "c-"+good, "w out yes", "w other no")
	logins(t, c, "opaque any defer")
	want := []string{"/user null", "/super null", `/acl {"acc":2,"clientid":"c-` + good + `","topic":"out"}`}
	if got := e.take(); !slices.Equal(got[:3], want) {
		t.Errorf("%q", got)
	}
	u, _ := url.Parse(e.URL)
	text := strings.ReplaceAll(
		"backends jwt\njwt_mode remote\njwt_parse_token true\njwt_secret "+secret+"\n"+e.options("jwt_"),
		"jwt_host "+u.Hostname()+"\n",
		"jwt_host_whitelist "+u.Hostname()+"\n",
	)
	c = mustChain(t, text)
	logins(t, c, good+" any defer") // without an issuer
	if got := e.take(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	good = signed(t, secret, jwt.MapClaims{"sub": "anna", "iss": u.Hostname()})
	logins(t, c, good+" any allow")
	if got := e.take(); got[0] != `/user {"username":"anna"}` {
		t.Errorf("%q", got)
	}
	if subject("opaque", "sub") == subject("other", "sub") {
		t.Error("tokens without a name have the same")
	}
}

// TestReload goes on with what was known, until it has asked again.
func TestReload(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{"4 in/#": true, "1 in/#": true}))
	c := mustChain(t, "backends http\n"+e.options("http_"))
	logins(t, c, "anna x allow", "root y allow")
	may(t, c, "anna", "s in/# yes")
	next, err := New(c.cfg, c, Host{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	e.Close() // it is down
	may(t, next, "root", "r a yes")
	may(t, next, "anna", "r in/x yes", "r out no")
	stay := func(source string) *auth.Stay { return &auth.Stay{Source: source, Mark: 1} }
	if !next.Keeps(stay("go-auth: http"), "anna") || next.Keeps(stay("go-auth: files"), "anna") {
		t.Error("who may stay")
	}
}

// TestWill asks about the topic of a will when the client comes: later it is too late.
func TestWill(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{"2 will": true}))
	c := mustChain(t, "backends http\n"+e.options("http_"))
	for _, topic := range []string{"will", "other"} {
		l := &auth.Login{
			ClientID: "c", Username: "anna", Password: []byte("x"), HasUsername: true, HasPassword: true, Will: []byte(topic),
		}
		if v, _ := c.Admit(t.Context(), l); v != auth.Allow {
			t.Fatal(v)
		}
		if v := c.Rules("c", "anna", true).Check(auth.Write, []byte(topic)); (v == auth.Allow) != (topic == "will") {
			t.Errorf("%s: %v", topic, v)
		}
	}
}

// TestChecksAllocateNothing: they are asked for every message.
func TestChecksAllocateNothing(t *testing.T) {
	e := newEndpoint(t, policy(map[string]bool{"4 in/#": true, "1 in/#": true, "2 out": true}))
	c := mustChain(t, "backends files,http\nfiles_password_path FILE0\nfiles_acl_path FILE1\ncache true\n"+e.options("http_"),
		"foo:"+hashOfFoo+"\n", "topic read all/#\n")
	logins(t, c, "anna x allow")
	may(t, c, "anna", "s in/# yes", "w out yes")
	rules := c.Rules("c-anna", "anna", true)
	for access, topic := range map[auth.Access]string{auth.Read: "in/x", auth.Write: "out"} {
		topic := []byte(topic)
		if n := testing.AllocsPerRun(100, func() {
			if rules.Check(access, topic) != auth.Allow {
				t.Error("not allowed")
			}
		}); n > 0 {
			t.Errorf("%v: %v allocations", access, n)
		}
	}
}
