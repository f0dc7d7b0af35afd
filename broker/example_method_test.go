package broker_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"noctule/broker"
	"noctule/broker/auth"
	"noctule/codec"
	"noctule/wsnet"
)

// device is what a program knows of one of its devices.
type device struct {
	key    []byte
	topics string
}

// devices is an authentication method of a program's own: a device proves that it has its key, without
// sending it.
type devices map[string]device

// Name implements auth.Method.
func (devices) Name() string { return "DEVICE-KEY" }

// Begin implements auth.Method: the device is to sign what nobody has signed before.
func (d devices) Begin(_ context.Context, l *auth.Login, _ []byte) (auth.Exchange, auth.Step) {
	x := &signing{device: d[l.ClientID], id: l.ClientID, nonce: make([]byte, 16)}
	_, _ = rand.Read(x.nonce)
	return x, auth.Step{Data: x.nonce}
}

// Keeps says that devices stay when the settings are replaced.
func (devices) Keeps(*auth.Stay, string) bool { return true }

// signing is one exchange.
type signing struct {
	device
	id    string
	nonce []byte
}

// Continue implements auth.Exchange.
func (x *signing) Continue(_ context.Context, data []byte) auth.Step {
	if x.key == nil || !hmac.Equal(data, sign(x.key, x.nonce)) {
		return auth.Step{Refused: codec.NotAuthorized, Why: "the signature is wrong"}
	}
	rules, err := auth.NewRules([]auth.Rule{{Access: auth.Read | auth.Write, Filter: x.topics}})
	if err != nil {
		return auth.Step{Refused: codec.UnspecifiedError, Why: err.Error()}
	}
	return auth.Step{Pass: &auth.Pass{
		Username: "device " + x.id, HasUsername: true, Source: "devices",
		Rules: rules, Expires: time.Now().Add(time.Hour), // then it has to sign again
	}}
}

func sign(key, nonce []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(nonce)
	return h.Sum(nil)
}

// signer is the device's side, for paho's client.
type signer []byte

// Authenticate implements paho.Auther.
func (key signer) Authenticate(a *paho.Auth) *paho.Auth {
	return &paho.Auth{ReasonCode: 0x18, Properties: &paho.AuthProperties{
		AuthMethod: a.Properties.AuthMethod, AuthData: sign(key, a.Properties.AuthData),
	}}
}

// Authenticated implements paho.Auther.
func (signer) Authenticated() {}

// A method of the program's own lets devices in for an hour, to topics of their own; they renew that with
// AUTH while messages flow.
func Example_method() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer stop(b)
	m := devices{"pump-1": {key: []byte("a key of the factory"), topics: "pumps/1/#"}}
	l := broker.DefaultListenerOptions()
	l.Policy = &auth.Policy{Methods: auth.Methods{m.Name(): m}}
	l.Net = wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", NoDelay: true}
	listener, err := b.Listen(l)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, key := range []string{"a guess", "a key of the factory"} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: conn, AuthHandler: signer(key)})
		ack, err := c.Connect(ctx, &paho.Connect{
			ClientID: "pump-1", CleanStart: true, KeepAlive: 30,
			Properties: &paho.ConnectProperties{AuthMethod: m.Name()},
		})
		if err != nil {
			fmt.Printf("refused: 0x%x\n", ack.ReasonCode)
			continue
		}
		session, _, err := b.Find(ctx, "pump-1")
		fmt.Println("connected as", session.Username, err)
		answer, err := c.Authenticate(ctx, &paho.Auth{
			ReasonCode: 0x19, Properties: &paho.AuthProperties{AuthMethod: m.Name()},
		})
		fmt.Println("renewed:", answer.Success, err)
		_ = c.Disconnect(&paho.Disconnect{})
	}
	// Output:
	// refused: 0x87
	// connected as device pump-1 <nil>
	// renewed: true <nil>
}
