package broker_test

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"noctule/admin"
	"noctule/broker"
	"noctule/broker/auth"
	"noctule/broker/store/bolt"
	"noctule/wsnet"
)

// The code of these examples is in docs/embedding.md too; TestEmbeddingDocument holds them together.

// A broker on a port, a client of it, and a program that hears what clients publish and answers.
func Example() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer stop(b)

	l := broker.DefaultListenerOptions()
	l.AllowAnonymous = true
	l.Net = wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", NoDelay: true}
	listener, err := b.Listen(l)
	if err != nil {
		log.Fatal(err)
	}

	heard := make(chan string, 100)
	tap, err := b.Tap(context.Background(), "sensors/#", func(topic, payload []byte) {
		select {
		case heard <- fmt.Sprintf("%s %s", topic, payload):
		default: // it must not block
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	defer tap.Close()

	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + listener.Addr().String()))
	done(client.Connect())
	defer client.Disconnect(0)
	done(client.Publish("sensors/kitchen", 1, false, "21.5"))
	fmt.Println("the program hears", <-heard)

	light := broker.Publication{Topic: "lights/kitchen", Payload: []byte("on"), QoS: 1, Retain: true}
	result, err := b.Publish(context.Background(), light)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("receivers so far:", result.Receivers)

	lights := make(chan string, 1)
	done(client.Subscribe("lights/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		lights <- m.Topic() + " " + string(m.Payload())
	}))
	fmt.Println("the client hears", <-lights)

	// Output:
	// the program hears sensors/kitchen 21.5
	// receivers so far: 0
	// the client hears lights/kitchen on
}

// done waits for a step of a client.
func done(t mqtt.Token) {
	if t.Wait(); t.Error() != nil {
		log.Fatal(t.Error())
	}
}

// stop ends a broker: wills are sent, connections closed, what is to be kept is on disk.
func stop(b *broker.Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		log.Print(err)
	}
}

// A client of the same process needs no socket: any library that takes a connection will do.
func ExampleBroker_Pipe() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer stop(b)

	o := mqtt.NewClientOptions().AddBroker("pipe://inside").SetClientID("inside")
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return b.Pipe(), nil
	})
	client := mqtt.NewClient(o)
	done(client.Connect())
	defer client.Disconnect(0)
	heard := make(chan string, 1)
	done(client.Subscribe("a/+", 2, func(_ mqtt.Client, m mqtt.Message) {
		heard <- fmt.Sprintf("%s with QoS %d", m.Payload(), m.Qos())
	}))
	done(client.Publish("a/b", 2, false, "hello"))
	fmt.Println(<-heard)

	// Output:
	// hello with QoS 2
}

// members are users with their passwords. Real ones are hashed: auth.LoadPasswords reads Mosquitto's files.
type members map[string]string

// Authenticate implements auth.Authenticator.
func (m members) Authenticate(l *auth.Login) auth.Verdict {
	password, ok := m[l.Username]
	if !ok || subtle.ConstantTimeCompare([]byte(password), l.Password) == 0 {
		return auth.Deny
	}
	return auth.Allow
}

// Rules implements auth.Authorizer: everybody has the topics below homes/NAME.
func (m members) Rules(_, username string, _ bool) auth.Rules {
	return home("homes/" + username + "/")
}

type home string

// Check implements auth.Rules.
func (h home) Check(_ auth.Access, topic []byte) auth.Verdict {
	if bytes.HasPrefix(topic, []byte(h)) {
		return auth.Allow
	}
	return auth.Deny
}

// Covers implements auth.Rules.
func (h home) Covers(filter []byte) bool { return bytes.HasPrefix(filter, []byte(h)) }

// Who may come in, and what they may do, is the program's to say.
func Example_policy() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer stop(b)

	people := members{"alice": "wonderland"}
	l := broker.DefaultListenerOptions()
	l.Policy = &auth.Policy{
		Authenticators: []auth.Authenticator{people},
		Authorizers:    []auth.Authorizer{people},
	}
	l.Net = wsnet.ListenerConfig{Network: "tcp", Address: "127.0.0.1:0", NoDelay: true}
	listener, err := b.Listen(l)
	if err != nil {
		log.Fatal(err)
	}

	login := func(password string) (mqtt.Client, error) {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + listener.Addr().String()).
			SetClientID("alice").SetUsername("alice").SetPassword(password))
		t := c.Connect()
		t.Wait()
		return c, t.Error()
	}
	_, err = login("guess")
	fmt.Println("with a guess:", err)
	alice, err := login("wonderland")
	fmt.Println("with the password:", err)
	defer alice.Disconnect(0)

	t := alice.Subscribe("homes/#", 0, nil).(*mqtt.SubscribeToken)
	t.Wait()
	fmt.Printf("all homes: 0x%02x\n", t.Result()["homes/#"])
	t = alice.Subscribe("homes/alice/#", 0, nil).(*mqtt.SubscribeToken)
	t.Wait()
	fmt.Printf("her own: 0x%02x\n", t.Result()["homes/alice/#"])

	// Output:
	// with a guess: not Authorized
	// with the password: <nil>
	// all homes: 0x80
	// her own: 0x00
}

// Package admin serves what operators ask for.
func Example_metrics() {
	b, err := broker.New(broker.DefaultOptions())
	if err != nil {
		log.Fatal(err)
	}
	defer stop(b)

	server, err := admin.Start("127.0.0.1:0", nil)
	if err != nil {
		log.Fatal(err)
	}
	server.Use(b)
	defer server.Close(context.Background())

	for _, path := range []string{"/readyz", "/metrics"} {
		resp, err := http.Get("http://" + server.Addr().String() + path)
		if err != nil {
			log.Fatal(err)
		}
		_ = resp.Body.Close()
		fmt.Println(path, resp.Status)
	}

	// Output:
	// /readyz 200 OK
	// /metrics 200 OK
}

// With a store sessions, queues and retained messages outlive the program.
func Example_store() {
	dir, err := os.MkdirTemp("", "embedded")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "noctule.db")

	live := func(use func(b *broker.Broker)) error {
		db, err := bolt.Open(file, bolt.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		o := broker.DefaultOptions()
		o.Store = db
		b, err := broker.New(o)
		if err != nil {
			return errors.Join(err, db.Close())
		}
		use(b)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return errors.Join(b.Shutdown(ctx), db.Close()) // in this order
	}

	err = live(func(b *broker.Broker) {
		light := broker.Publication{Topic: "lights/kitchen", Payload: []byte("on"), QoS: 1, Retain: true}
		if _, err := b.Publish(context.Background(), light); err != nil {
			log.Fatal(err)
		}
	})
	fmt.Println("first life:", err)
	err = live(func(b *broker.Broker) {
		o := mqtt.NewClientOptions().AddBroker("pipe://inside").SetClientID("late")
		o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			return b.Pipe(), nil
		})
		client := mqtt.NewClient(o)
		done(client.Connect())
		defer client.Disconnect(0)
		lights := make(chan string, 1)
		done(client.Subscribe("lights/#", 1, func(_ mqtt.Client, m mqtt.Message) {
			lights <- string(m.Payload())
		}))
		fmt.Println("retained:", <-lights)
	})
	fmt.Println("second life:", err)

	// Output:
	// first life: <nil>
	// retained: on
	// second life: <nil>
}
