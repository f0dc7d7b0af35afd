package conf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"noctule/broker"
)

// Bridge is a connection to another broker, as the lines behind `connection` describe it.
type Bridge struct {
	Name      string
	Addresses []Address
	Topics    []BridgeTopic

	RemoteClientID, RemoteUsername, RemotePassword string
	LocalClientID, LocalUsername, LocalPassword    string
	CleanSession                                   bool
	LocalCleanSession                              *bool  // nil: as CleanSession
	Version                                        string // mqttv31, mqttv311 or mqttv50
	TryPrivate, AttemptUnsubscribe, OutgoingRetain bool
	MaxPacketSize                                  uint32 // 0 for no limit
	MaxTopicAlias                                  uint16
	ReceiveMaximum                                 uint16 // 0: max_inflight_messages
	SessionExpiry                                  time.Duration

	StartType            string // automatic, lazy or once
	ReloadType           string // lazy or immediate
	KeepAlive            time.Duration
	IdleTimeout          time.Duration
	Threshold            int // messages that make a lazy bridge connect
	RoundRobin           bool
	Restart              Backoff
	BindAddress          string
	TCPKeepAlive         TCPKeepAlive
	TCPUserTimeout       *time.Duration // nil: the system's
	Notifications        bool
	NotificationsLocal   bool
	NotificationTopic    string
	CAFile, CAPath       string
	CertFile, KeyFile    string
	TLSVersion, ALPN     string
	Ciphers              string
	CiphersTLS13         string
	PSKIdentity, PSK     string
	Insecure, OCSP, OSCA bool

	at []Place
}

// Address is a host and a port.
type Address struct {
	Host string
	Port int
}

// BridgeTopic is a topic line: messages whose topic is Local+Pattern here are Remote+Pattern there.
type BridgeTopic struct {
	Pattern       string
	Direction     string // in, out or both
	QoS           uint8
	Local, Remote string
}

// Backoff is the time between attempts to connect: Base and nothing else when Cap is 0.
type Backoff struct{ Base, Cap, Stable time.Duration }

// TCPKeepAlive are the three numbers of bridge_tcp_keepalive; zero is the system's.
type TCPKeepAlive struct {
	Idle, Interval time.Duration
	Count          int
}

// addBridge handles a connection line.
func addBridge(p *parser, a arg) error {
	name, err := a.word()
	if err != nil {
		return err
	}
	for _, b := range p.cfg.Bridges {
		if b.Name == name {
			return fmt.Errorf("Duplicate bridge name '%s'.", name)
		}
	}
	p.bridge = &Bridge{
		Name: name, Version: "mqttv311", TryPrivate: true, AttemptUnsubscribe: true, OutgoingRetain: true,
		MaxTopicAlias: 10, StartType: "automatic", ReloadType: "lazy", KeepAlive: time.Minute,
		IdleTimeout: time.Minute, Threshold: 10, Notifications: true, at: p.where(),
		Restart: Backoff{Base: 5 * time.Second, Cap: 30 * time.Second},
	}
	p.cfg.Bridges = append(p.cfg.Bridges, p.bridge)
	return nil
}

// bridgeText reads a text that may stand once. name is what errors call it, "" for the directive's own.
func bridgeText(name string, to func(*Bridge) *string) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		if name != "" {
			a = a.named(name)
		}
		v, err := a.text()
		if err != nil {
			return err
		}
		if *to(p.bridge) != "" {
			return a.duplicate()
		}
		*to(p.bridge) = v
		return nil
	}
}

// mixed says that one bridge cannot have certificates and keys.
func (a arg) mixed(kind string) error {
	const format = "'%s': Cannot use both certificate and %s encryption in a single bridge."
	return fmt.Errorf(format, a.key, kind)
}

// bridgeFile is bridgeText for what turns certificates on.
func bridgeFile(to func(*Bridge) *string) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		if p.bridge.PSK != "" || p.bridge.PSKIdentity != "" {
			return a.mixed("psk")
		}
		return bridgeText("", to)(p, a)
	}
}

// bridgeKey is bridgeText for what turns pre-shared keys on.
func bridgeKey(to func(*Bridge) *string) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		b := p.bridge
		if b.CAFile != "" || b.CAPath != "" || b.CertFile != "" || b.KeyFile != "" {
			return a.mixed("identity")
		}
		return bridgeText("", to)(p, a)
	}
}

func bridgeBool(f func(*Bridge, bool)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.truth()
		if err == nil {
			f(p.bridge, v)
		}
		return err
	}
}

func bridgeInt(f func(*Bridge, int) error) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.integer()
		if err != nil {
			return err
		}
		return f(p.bridge, v)
	}
}

// bridgeWord is one of some words.
func bridgeWord(to func(*Bridge) *string, words ...string) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.word()
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(words, v):
			*to(p.bridge) = v
			return nil
		case a.key == "start_type" && v == "manual":
			return errors.New("Manual start_type not supported.")
		case a.key == "bridge_protocol_version":
			return a.invalid()
		}
		return fmt.Errorf("Invalid '%s' value in configuration (%s).", a.key, v)
	}
}

// atLeastB is for numbers that are raised to a lowest one with a notice.
func atLeastB(low int, notice string, f func(*Bridge, int)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.integer()
		if err != nil {
			return err
		}
		if v < low {
			p.say(broker.LevelNotice, "%s", notice)
		}
		f(p.bridge, max(v, low))
		return nil
	}
}

func setKeepAlive(p *parser, a arg) error {
	if v, err := a.integer(); err == nil && v > 65535 {
		return errors.New("Bridge keepalive value too high.")
	}
	return atLeastB(5, "keepalive interval too low, using 5 seconds.",
		func(b *Bridge, v int) { b.KeepAlive = seconds(v) })(p, a)
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// setAddresses handles address: hosts with or without port, for IPv6 only with.
func setAddresses(p *parser, a arg) error {
	if p.bridge.Addresses != nil {
		return errors.New("Invalid bridge configuration, 'address' only allowed once.")
	}
	for _, w := range a.words() {
		if w[0] == '#' {
			break
		}
		to := Address{Host: w, Port: 1883}
		if i := strings.LastIndexByte(w, ':'); i >= 0 {
			to.Host, to.Port = w[:i], leadingInt(w[i+1:])
			if to.Port < 1 || to.Port > 65535 {
				return fmt.Errorf("Invalid bridge port value (%d).", to.Port)
			}
		}
		p.bridge.Addresses = append(p.bridge.Addresses, to)
	}
	if p.bridge.Addresses == nil {
		return errors.New("Empty address value in configuration.")
	}
	return nil
}

func setInsecure(p *parser, a arg) error {
	v, err := a.truth()
	if err == nil && v {
		p.warn("Warning: Bridge '%s' using insecure mode.", p.bridge.Name)
	}
	p.bridge.Insecure = v
	return err
}

func setRestart(p *parser, a arg) error {
	w := a.words()
	if len(w) == 0 {
		return a.empty()
	}
	base := leadingInt(w[0])
	switch {
	case base < 1:
		p.say(broker.LevelNotice, "restart_timeout interval too low, using 1 second.")
	case base > 3600:
		p.say(broker.LevelNotice, "restart_timeout interval too high, using 3600 seconds.")
	}
	base = min(max(base, 1), 3600)
	r := Backoff{Base: seconds(base)}
	if len(w) > 1 {
		limit := leadingInt(w[1])
		switch {
		case limit < base:
			return errors.New("backoff cap is lower than the base in restart_timeout.")
		case limit > 7200:
			p.say(broker.LevelNotice, "backoff cap too high, using 7200 seconds.")
		}
		r.Cap = seconds(min(limit, 7200))
	}
	if len(w) > 2 {
		if r.Stable = seconds(leadingInt(w[2])); r.Stable < 0 {
			return errors.New("stable connection period cannot be negative.")
		}
	}
	p.bridge.Restart = r
	return nil
}

func setTCPKeepAlive(p *parser, a arg) error {
	var n [3]int
	for i, name := range []string{"idle", "interval", "counter"} {
		var this arg
		this, a = a.cut()
		v, err := this.named("bridge_tcp_keepalive_" + name).integer()
		if err != nil {
			return err
		}
		if v <= 0 {
			return fmt.Errorf("invalid TCP keepalive %s value.", name)
		}
		n[i] = v
	}
	p.bridge.TCPKeepAlive = TCPKeepAlive{seconds(n[0]), seconds(n[1]), n[2]}
	return nil
}

func setUserTimeout(b *Bridge, v int) error {
	if v < 0 {
		return errors.New("invalid TCP user timeout value.")
	}
	d := time.Duration(v) * time.Millisecond
	b.TCPUserTimeout = &d
	return nil
}

func setReceiveMaximum(b *Bridge, v int) error {
	switch {
	case v <= 0:
		return errors.New("bridge_receive_maximum must be greater than 0.")
	case v > 65535:
		return errors.New("bridge_receive_maximum must be lower than 65535.")
	}
	b.ReceiveMaximum = uint16(v)
	return nil
}

func setBridgeAliases(b *Bridge, v int) error {
	if v < 0 || v > 65535 {
		return errors.New("bridge_max_topic_alias must be > 0 and <= 65535.")
	}
	b.MaxTopicAlias = uint16(v)
	return nil
}

func setBridgeExpiry(b *Bridge, v int) error {
	if v < 0 {
		return errors.New("bridge_session_expiry_interval must not be negative.")
	}
	b.SessionExpiry = seconds(v)
	return nil
}

// addTopic handles a topic line: pattern, direction, QoS, local and remote prefix. "" is an empty prefix.
func addTopic(p *parser, a arg) error {
	pattern, rest, err := a.pattern()
	if err != nil {
		return err
	}
	t := BridgeTopic{Pattern: pattern, Direction: "out"}
	w := rest.words()
	for i := range w {
		if i > 0 && w[i][0] == '#' {
			w = w[:i]
			break
		}
	}
	if len(w) > 0 {
		t.Direction = strings.ToLower(w[0])
		if t.Direction != "in" && t.Direction != "out" && t.Direction != "both" {
			return fmt.Errorf("Invalid bridge topic direction '%s'.", w[0])
		}
	}
	if len(w) > 1 {
		n := leadingInt(w[1])
		if n < 0 || n > 2 {
			return fmt.Errorf("Invalid bridge QoS level '%s'.", w[1])
		}
		t.QoS = uint8(n)
	}
	prefixes := [2]string{}
	for i := range prefixes {
		if len(w) > 2+i && w[2+i] != `""` {
			prefixes[i] = w[2+i]
		}
	}
	t.Local, t.Remote = prefixes[0], prefixes[1]
	if err := t.check(); err != nil {
		return err
	}
	if slices.Contains(p.bridge.Topics, t) {
		p.say(broker.LevelInfo, "Duplicate bridge topic '%s', skipping", t.Pattern)
		return nil
	}
	p.bridge.Topics = append(p.bridge.Topics, t)
	return nil
}

// pattern splits the first part off: up to a space, or in quotes.
func (a arg) pattern() (pattern string, rest arg, err error) {
	if a.value == "" {
		return "", a, a.empty()
	}
	word, rest := a.cut()
	switch {
	case word.value == `""`:
		return "", rest, nil
	case word.value[0] != '"':
		return word.value, rest, nil
	}
	quoted, behind, ok := strings.Cut(a.value[1:], `"`)
	if !ok {
		return "", a, fmt.Errorf("Missing closing quote in topic value (%s).", rest.value)
	}
	return quoted, arg{a.key, strings.Trim(behind, blanks)}, nil
}

func (t *BridgeTopic) check() error {
	for side, prefix := range map[string]string{"local": t.Local, "remote": t.Remote} {
		if !validTopic(prefix) {
			return fmt.Errorf("Invalid bridge topic %s prefix '%s'.", side, prefix)
		}
	}
	if t.Pattern == "" && (t.Local == "" || t.Remote == "") {
		return errors.New("Invalid bridge remapping.")
	}
	for _, side := range [][2]string{{"local", t.Local}, {"remote", t.Remote}} {
		if filter := side[1] + t.Pattern; !validFilter(filter) {
			return fmt.Errorf("Invalid bridge topic %s prefix and pattern combination '%s'.", side[0], filter)
		}
	}
	return nil
}

// levelsMax is how many slashes Mosquitto takes in a topic.
const levelsMax = 200

// validTopic reports whether a text may be (a part of) a topic: no wildcards.
func validTopic(s string) bool {
	return !strings.ContainsAny(s, "+#\x00") && len(s) <= 65535 && strings.Count(s, "/") <= levelsMax
}

// validFilter reports whether + and # stand alone in their levels, and # in the last one.
func validFilter(s string) bool {
	levels := strings.Split(s, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && len(l) > 1 || l == "#" && i < len(levels)-1 {
			return false
		}
	}
	return s != "" && len(s) <= 65535 && len(levels) <= levelsMax+1 && !strings.Contains(s, "\x00")
}

// finishBridges checks each bridge as a whole, and that no two use one client id here.
func (p *parser) finishBridges() error {
	ids := map[string]bool{}
	for _, b := range p.cfg.Bridges {
		if err := p.fail(b.finish(ids)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) finish(ids map[string]bool) error {
	missing := ""
	switch {
	case len(b.Addresses) == 0:
		missing = "no remote addresses defined"
	case len(b.Topics) == 0:
		missing = "no topics defined"
	case b.PSK != "" && b.PSKIdentity == "":
		missing = "missing bridge_identity"
	case b.PSKIdentity != "" && b.PSK == "":
		missing = "missing bridge_psk"
	}
	if missing != "" {
		return &Error{Text: "Invalid bridge configuration: " + missing + ".", Places: b.at}
	}
	if b.RemoteClientID == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		b.RemoteClientID = host + "." + b.Name
	}
	if b.LocalClientID == "" {
		b.LocalClientID = "local." + b.RemoteClientID
	}
	if ids[b.LocalClientID] {
		text := fmt.Sprintf("Bridge local_clientid '%s' is not unique. Try changing or setting the "+
			"local_clientid value for one of the bridges.", b.LocalClientID)
		return &Error{Text: text, Places: b.at}
	}
	ids[b.LocalClientID] = true
	return nil
}
