package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// tokenOf is a token (RFC 7519) with HS256, by hand.
func tokenOf(t *testing.T, secret string, claims map[string]any) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + enc.EncodeToString(body)
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(text))
	return text + "." + enc.EncodeToString(h.Sum(nil))
}

// withToken puts a token into a CONNECT: as Authentication Data, or as a password.
func withToken(token string, asMethod bool) func(*codec.Connect) {
	return func(p *codec.Connect) {
		if !asMethod {
			p.HasUsername, p.Username, p.HasPassword, p.Password = true, []byte("alice"), true, []byte(token)
			return
		}
		p.Properties = codec.AppendBytesProperty(p.Properties, codec.AuthMethod, []byte("jwt"))
		p.Properties = codec.AppendBytesProperty(p.Properties, codec.AuthData, []byte(token))
	}
}

// The program with tokens: a client renews its login, one that does not is ended when its token ends, one that is
// revoked within a second, and it stays out after a kill.
func TestTokensEndAndAreRevoked(t *testing.T) {
	const secret, key = "a secret of more than 32 bytes, for tests", "a-key-of-the-api-of-this-test"
	dir, port, api := t.TempDir(), freePort(t), freePort(t)
	for name, text := range map[string]string{
		"secret": secret, "tokens": "ops " + key + "\n",
		"auth.yaml": "sources:\n  - name: tokens\n    jwt: {secret_file: '" + dir + "/secret', algorithms: [HS256], username: sub}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := persistent(port, dir) + fmt.Sprintf("allow_anonymous false\nauth_file %s/auth.yaml\nadmin_listener 127.0.0.1:%d\n"+
		"admin_token_file %s/tokens\n", dir, api, dir)
	conf = strings.Replace(conf, "allow_anonymous true\n", "", 1)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	token := func(id string, d time.Duration) string {
		return tokenOf(t, secret, map[string]any{"sub": "alice", "jti": id, "exp": time.Now().Add(d).Unix()})
	}
	p := startBroker(t, conf)
	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	short := tokenOf(t, secret, map[string]any{"sub": "alice", "exp": end.Unix()})
	ends := brokertest.Connect(t, addr, "ends", codec.V5, withToken(short, false))
	renews := brokertest.Connect(t, addr, "renews", codec.V5, withToken(short, true))
	props := codec.AppendBytesProperty(nil, codec.AuthMethod, []byte("jwt"))
	renews.Send(&codec.Auth{
		Reason: codec.ReAuthenticate, Properties: codec.AppendBytesProperty(props, codec.AuthData, []byte(token("r", time.Hour))),
	})
	var a codec.Auth
	if renews.Want(codec.AUTH, &a); a.Reason != codec.Success {
		t.Errorf("AUTH %s", a.Reason)
	}
	revoked := brokertest.Connect(t, addr, "revoked", codec.V5, withToken(token("gone", time.Hour), true))
	var d codec.Disconnect
	if ends.Want(codec.DISCONNECT, &d); d.Reason != codec.MaximumConnectTime {
		t.Errorf("DISCONNECT %s", d.Reason)
	}
	if late := time.Since(end); late < 0 || late > 5*time.Second { // a second, and a machine that is busy
		t.Errorf("it is ended %s after its end", late)
	} else {
		t.Logf("ended %s after exp", late)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/v1/bans", api),
		strings.NewReader(`{"kind":"token","name":"gone","reason":"stolen"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(body), `"disconnected":1`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if revoked.Want(codec.DISCONNECT, &d); d.Reason != codec.AdministrativeAction {
		t.Errorf("DISCONNECT %s", d.Reason)
	}
	t.Logf("revoked within %s", time.Since(began))
	renews.Publish("t", "still here", 1, 1)
	renews.Want(codec.PUBACK, nil)
	p.stop(t, syscall.SIGKILL)
	p = startBroker(t, conf)
	for _, asMethod := range []bool{false, true} {
		c := brokertest.Dial(t, addr, codec.V5)
		if ack := c.Connack("revoked", withToken(token("gone", time.Hour), asMethod)); ack.Reason != codec.Banned {
			t.Errorf("after a kill: %s", ack.Reason)
		}
		c = brokertest.Dial(t, addr, codec.V5)
		if ack := c.Connack("other", withToken(token("good", time.Hour), asMethod)); ack.Reason != codec.Success {
			t.Errorf("after a kill: %s", ack.Reason)
		}
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// A password file with keys of SCRAM serves clients that use them, and those that send the password.
func TestScramOfAPasswordFile(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	file, addr := filepath.Join(dir, "passwd"), fmt.Sprintf("127.0.0.1:%d", port)
	if code, out := outcome(t, "passwd", "-c", "-H", "scram-sha-256", "-b", file, "ann", "secret"); code != 0 {
		t.Fatal(out)
	}
	p := startBroker(t, fmt.Sprintf("listener %d 127.0.0.1\npassword_file %s\n", port, file))
	for password, want := range map[string]codec.Reason{"secret": codec.Success, "wrong": codec.NotAuthorized} {
		if _, got := logsIn(t, addr, "ann", password); got != want {
			t.Errorf("%s: %s", password, got)
		}
		client, err := scram.SHA256.NewClient("ann", password, "")
		if err != nil {
			t.Fatal(err)
		}
		conv := client.NewConversation()
		say := func(in string) codec.Properties {
			t.Helper()
			out, err := conv.Step(in)
			if err != nil {
				t.Fatal(err)
			}
			props := codec.AppendBytesProperty(nil, codec.AuthMethod, []byte("SCRAM-SHA-256"))
			return codec.AppendBytesProperty(props, codec.AuthData, []byte(out))
		}
		c := brokertest.Dial(t, addr, codec.V5)
		c.Send(&codec.Connect{Version: codec.V5, CleanStart: true, ClientID: []byte("c"), Properties: say("")})
		var a codec.Auth
		c.Want(codec.AUTH, &a)
		challenge, _ := a.Properties.Bytes(codec.AuthData)
		c.Send(&codec.Auth{Reason: codec.ContinueAuthentication, Properties: say(string(challenge))})
		var ack codec.Connack
		if c.Want(codec.CONNACK, &ack); ack.Reason != want {
			t.Errorf("%s by SCRAM: %s", password, ack.Reason)
		}
	}
	p.stop(t, syscall.SIGTERM)
}
