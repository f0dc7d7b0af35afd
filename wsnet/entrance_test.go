package wsnet

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"noctule/internal/places"
)

// hello is the beginning of a ClientHello.
const hello = "\x16\x03\x01\x00\xF0\x01\x00"

// TestSilentClientsHoldNoSlot: many clients of a TLS listener that say nothing are in nobody's way.
func TestSilentClientsHoldNoSlot(t *testing.T) {
	server, client := certificate(t)
	never := Config{HandshakeTimeout: time.Hour, FirstByteTimeout: time.Hour, TLSHandshakes: 1}
	over(t, never, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.TLS = server
		a := listen(t, r.Server, cfg)
		for range 100 {
			dial(t, a)
		}
		for range 3 {
			if err := ask(tls.Client(dial(t, a), client)); err != nil {
				t.Fatal(err)
			}
		}
		ended := dial(t, a) // before it said anything
		_ = ended.Close()
		if st := r.Stats(); st.GaveWay != 0 || st.HandshakesTimedOut != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestSilentClientsAreGivenUp: the first byte of TLS must come soon.
func TestSilentClientsAreGivenUp(t *testing.T) {
	server, _ := certificate(t)
	hurry := Config{HandshakeTimeout: time.Hour, FirstByteTimeout: time.Millisecond}
	over(t, hurry, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.TLS = server
		mute := dial(t, listen(t, r.Server, cfg))
		mustEnd(t, mute, "")
		if st := r.Stats(); st.HandshakesTimedOut != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestStalledHandshakesGiveWay: clients that begin a handshake and leave it at that lose their slots to others
// who wait for one.
func TestStalledHandshakesGiveWay(t *testing.T) {
	server, client := certificate(t)
	never := Config{
		HandshakeTimeout: time.Hour, FirstByteTimeout: time.Hour, TLSHandshakes: 4, HandshakeStall: time.Millisecond,
	}
	over(t, never, script{}, func(t *testing.T, r *rig) {
		refused := make(chan Refusal, 100)
		cfg := loopback()
		cfg.TLS, cfg.OnRefuse = server, func(f Refusal) { refused <- f }
		a := listen(t, r.Server, cfg)
		for range 20 {
			mustWrite(t, dial(t, a), hello)
		}
		if err := ask(tls.Client(dial(t, a), client)); err != nil {
			t.Fatal(err)
		}
		if f := get(t, refused); f.Cause != CauseGaveWay || f.Addr.Port() == 0 || r.Stats().GaveWay == 0 {
			t.Errorf("%+v", f)
		}
	})
}

// TestOldestGuestGivesWay fills the entrance of each kind of listener with clients that say nothing, or little:
// the oldest has to go, and who says what it wants stays.
func TestOldestGuestGivesWay(t *testing.T) {
	server, client := certificate(t)
	over(t, Config{HandshakeTimeout: time.Hour, MaxGuests: 8}, script{}, func(t *testing.T, r *rig) {
		secure, proxied, webSocket := loopback(), loopback(), webSocketListener()
		secure.TLS, proxied.ProxyProtocol = server, 1
		for _, tt := range []struct {
			name, says string
			cfg        ListenerConfig
		}{
			{"tcp", "", loopback()}, {"tls", "", secure}, {"proxy", "PRO", proxied}, {"websocket", "GET /", webSocket},
		} {
			first := dialTCP(t, r)
			mustWrite(t, first, "a") // it has arrived
			mustRead(t, first, "a")
			a := listen(t, r.Server, tt.cfg)
			var mute []net.Conn
			for range 8 {
				mute = append(mute, dial(t, a))
				mustWrite(t, mute[len(mute)-1], tt.says)
			}
			r.until(t, "all have come", func() bool { return r.guests() == 8 })
			before := r.Stats().GaveWay
			honest := tls.Client(dial(t, listen(t, r.Server, secure)), client)
			if err := ask(honest); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			mustEnd(t, mute[0], "")
			if n := r.Stats().GaveWay - before; n != 1 {
				t.Errorf("%s: %d gave way", tt.name, n)
			}
			mustWrite(t, first, "b")
			mustRead(t, first, "b")
			for _, nc := range mute {
				_ = nc.Close()
			}
			r.until(t, "all have gone", func() bool { return r.guests() == 0 })
		}
	})
}

// guests is how many are at the entrance.
func (r *rig) guests() int {
	r.entrance.mu.Lock()
	defer r.entrance.mu.Unlock()
	return r.entrance.mu.guests.Len()
}

// TestGuestsCountByClaimedAddress: behind a proxy the address in the header counts, and an address has no more
// than its share.
func TestGuestsCountByClaimedAddress(t *testing.T) {
	over(t, Config{MaxGuests: 16}, script{}, func(t *testing.T, r *rig) {
		cfg := loopback()
		cfg.ProxyProtocol = 1
		a := listen(t, r.Server, cfg)
		guest := func(i int) net.Conn {
			nc := dial(t, a)
			mustWrite(t, nc, fmt.Sprintf("PROXY TCP4 192.0.2.%d 192.0.2.100 1000 1883\r\n", i))
			get(t, r.opened)
			return nc
		}
		first := guest(1)
		for range 4 {
			guest(1)
		}
		mustEnd(t, first, "") // a fifth is more than a quarter
		second := guest(2)
		for range 11 {
			guest(3 + r.guests()%3)
		}
		mustWrite(t, second, "a")
		mustRead(t, second, "a")
		if n := r.guests(); n > 16 {
			t.Errorf("%d guests", n)
		}
	})
}

// TestEntranceModel takes random steps: there are never more slots than there may be, each is granted once to one
// who waits, nobody waits while there is one for him, and in the end nothing is left.
func TestEntranceModel(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	cfg := Config{MaxGuests: 60, TLSHandshakes: 8, HandshakeStall: time.Hour}
	e := newEntrance(&cfg)
	type client struct {
		g             *guest
		waits, shakes bool
	}
	var all []*client
	for i := range 20000 {
		switch k := rnd.IntN(4); {
		case k == 0 || len(all) == 0:
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.IntN(12))})
			all = append(all, &client{g: e.enter(places.Peer{Addr: a})})
		case k == 1:
			c := all[rnd.IntN(len(all))]
			if c.waits || c.shakes || c.g.out {
				break
			}
			c.waits = true
			c.g.shake(func() {
				if !c.waits || c.shakes {
					t.Errorf("seed %d, step %d: granted to one who does not wait", seed, i)
				}
				c.waits, c.shakes = false, true
			})
		case k == 2:
			if c := all[rnd.IntN(len(all))]; c.shakes {
				c.shakes = false
				c.g.shaken()
			}
		default:
			n := rnd.IntN(len(all))
			all[n].waits, all[n].shakes = false, false
			all[n].g.leave()
			all = append(all[:n], all[n+1:]...)
		}
		shaking := map[places.Peer]int{}
		n := 0
		for _, c := range all {
			if c.g.slot.Held() != c.shakes {
				t.Fatalf("seed %d, step %d: a slot that nobody has", seed, i)
			}
			if c.shakes {
				shaking[c.g.from]++
				n++
			}
		}
		if n > 8 || e.mu.guests.Len() > 60 {
			t.Fatalf("seed %d, step %d: %d slots, %d guests", seed, i, n, e.mu.guests.Len())
		}
		for _, c := range all {
			if shaking[c.g.from] > 2 || c.waits && !c.g.out && n < 8 && shaking[c.g.from] < 2 {
				t.Fatalf("seed %d, step %d: %d slots of one, %d of all", seed, i, shaking[c.g.from], n)
			}
		}
	}
	for _, c := range all {
		c.waits, c.shakes = false, false
		c.g.leave()
	}
	if e.mu.guests.Len() != 0 || e.mu.slots.Len() != 0 || len(e.mu.turns) != 0 || e.mu.order.Len() != 0 {
		t.Errorf("seed %d: something is left", seed)
	}
}
