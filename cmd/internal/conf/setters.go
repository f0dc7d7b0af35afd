package conf

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"noctule/broker"
)

// The table is built from rows by kind, so that each directive is one line.

// bools is for true and false.
func bools(f func(*parser, bool)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.truth()
		if err == nil {
			f(p, v)
		}
		return err
	}
}

// ints is for numbers from 0 to high.
func ints(high int64, f func(*parser, int)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.number(0, high)
		if err == nil {
			f(p, v)
		}
		return err
	}
}

func texts(f func(*parser, string)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.text()
		if err == nil {
			f(p, v)
		}
		return err
	}
}

// atLeast is ints for options whose values below low mean low.
func atLeast(low, high int64, f func(*parser, int)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.number(math.MinInt64, high)
		if err == nil {
			f(p, max(v, int(low)))
		}
		return err
	}
}

// once is texts for options that may stand only once.
func once(f func(*parser, string)) func(*parser, arg) error {
	return func(p *parser, a arg) error { return setOnce(p, a, nil, f) }
}

// onceL is for texts that may stand once for each listener.
func onceL(to func(*Listener) *string) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		l := p.listener()
		return setOnce(p, a, l, func(_ *parser, v string) { *to(l) = v })
	}
}

// certificate is texts for a listener's option that does not go with pre-shared keys.
func certificate(to func(*Listener) *string) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		l := p.listener()
		if l.PSKHint != "" {
			return errors.New("Cannot use both certificate and psk encryption in a single listener.")
		}
		v, err := a.text()
		if err == nil {
			*to(l) = v
		}
		return err
	}
}

// files is for the files of a security scope; the last one counts.
func files(of func(*local) *SecurityFile) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.text()
		if err == nil {
			*of(p.security()) = SecurityFile{v, false, p.where()}
		}
		return err
	}
}

func setOnce(p *parser, a arg, of *Listener, f func(*parser, string)) error {
	v, err := a.text()
	if err != nil {
		return err
	}
	k := seen{a.key, of}
	if p.seen[k] {
		return a.duplicate()
	}
	p.seen[k] = true
	f(p, v)
	return nil
}

func setPort(p *parser, a arg) error {
	l := p.named()
	if p.portSeen {
		p.warn("Warning: Default listener port specified multiple times. Only the latest will be used.")
	}
	v, err := a.number(1, 65535)
	if err == nil {
		l.Port, p.portSeen = v, true
	}
	return err
}

func setBindAddress(p *parser, a arg) error {
	l := p.named()
	a = a.named("default listener bind_address")
	v, err := a.text()
	switch {
	case err != nil:
		return err
	case l.Host != "":
		return a.duplicate()
	}
	l.Host = v
	return nil
}

func setProtocol(p *parser, a arg) error {
	v, err := a.word()
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"mqtt", "websockets", "http_api"}, v) {
		return a.invalid()
	}
	p.listener().Protocol = v
	if v == "http_api" {
		p.value("protocol http_api")
	}
	return nil
}

// setHTTPDir makes the path absolute and free of links, so that what is served can be held inside.
func setHTTPDir(p *parser, a arg) error {
	v, err := a.text()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(v)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return fmt.Errorf("Unable to open http_dir '%s'.", v)
	}
	p.listener().HTTPDir = dir
	return nil
}

// setVersions handles accept_protocol_versions: words that are no version are skipped, as Mosquitto does.
func setVersions(p *parser, a arg) error {
	words := strings.FieldsFunc(a.value, func(r rune) bool { return strings.ContainsRune(", \t", r) })
	if len(words) == 0 {
		return a.empty()
	}
	var v broker.Versions
	for _, w := range words {
		if w == "3" || w == "4" || w == "5" {
			v |= 1 << (w[0] - '0')
		}
	}
	if v == 0 {
		return fmt.Errorf("Invalid '%s' value (%s).", a.key, a.value)
	}
	p.listener().AcceptVersions = v
	return nil
}

func setMountPoint(p *parser, a arg) error {
	v, err := a.text()
	if err != nil {
		return err
	}
	if !validTopic(v) {
		return fmt.Errorf("Invalid '%s' value (%s). Does it contain a wildcard character?", a.key, v)
	}
	p.listener().MountPoint = v
	return nil
}

func setProxy(p *parser, a arg) error {
	v, err := a.integer()
	if err != nil {
		return err
	}
	if v < 1 || v > 2 {
		return errors.New("enable_proxy_protocol must be 1 or 2.")
	}
	p.listener().ProxyProtocol = v
	return nil
}

// setProxyFrom reads addresses and networks; there may be several lines.
func setProxyFrom(p *parser, a arg) error {
	if _, err := a.text(); err != nil {
		return err
	}
	for _, v := range a.words() {
		net, err := netip.ParsePrefix(v)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(v); err == nil {
				net, err = addr.Prefix(addr.BitLen())
			}
		}
		switch {
		case err != nil:
			return fmt.Errorf("Invalid '%s' value (%s).", a.key, v)
		case net.Addr().Is4In6() || net != net.Masked():
			return fmt.Errorf("Invalid '%s' value (%s): did you mean %s?", a.key, v, plainNet(net))
		}
		l := p.listener()
		l.ProxyFrom = append(l.ProxyFrom, net)
	}
	return nil
}

// plainNet is the network that somebody means who writes bits beyond it, or IPv4 as IPv6.
func plainNet(net netip.Prefix) netip.Prefix {
	if net.Addr().Is4In6() && net.Bits() >= 96 {
		net = netip.PrefixFrom(net.Addr().Unmap(), net.Bits()-96)
	}
	return net.Masked()
}

func setKeyForm(p *parser, a arg) error {
	v, err := a.text()
	if err == nil && v == "engine" {
		p.value("tls_keyform engine")
	}
	p.listener()
	return err
}

func setAnonymous(p *parser, a arg) error {
	if p.cfg.PerListener {
		p.say(broker.LevelNotice, "You are using the '%s' option with 'per_listener_settings true'. "+
			"Please replace this with '%s'.", a.key, "listener_allow_anonymous")
	}
	v, err := a.truth()
	if err == nil {
		p.security().anonymous = &v
	}
	return err
}

func setPSKFile(p *parser, a arg) error {
	if p.current != nil && p.current.CertFile != "" {
		return errors.New("Cannot use both certificate and psk encryption in a single listener.")
	}
	return files(func(s *local) *SecurityFile { return &s.psk })(p, a)
}

func setControlAPI(p *parser, a arg) error {
	v, err := a.truth()
	if err == nil && v {
		p.value("enable_control_api true")
	}
	p.cfg.ControlAPI = v
	return err
}

func setSizeLimit(p *parser, a arg) error {
	p.say(broker.LevelNotice,
		"Note: It is recommended to replace `message_size_limit` with `max_packet_size`.")
	v, err := a.number(0, 268435455)
	if err == nil {
		p.cfg.Options.MessageSizeLimit = uint32(v)
	}
	return err
}

// retainExpiryMax is the longest retain_expiry_interval, in minutes.
const retainExpiryMax = 10_000_000

func setRetainExpiry(p *parser, a arg) error {
	v, err := a.integer()
	switch {
	case err != nil:
		return err
	case v < 1:
		return errors.New("retain_expiry_interval must be >= 1.")
	case v > retainExpiryMax:
		p.warn("Warning: retain_expiry_interval being capped at 19 years.")
	}
	p.cfg.RetainExpiry = time.Duration(min(v, retainExpiryMax)) * time.Minute
	return nil
}

func setSync(p *parser, a arg) error {
	v, err := a.word()
	switch {
	case err != nil:
		return err
	case v != "always" && v != "group" && v != "interval":
		return a.invalid()
	}
	p.cfg.Persistence.Sync = v
	return nil
}

func setOtherUsers(p *parser, a arg) error {
	v, err := a.word()
	if err != nil {
		return err
	}
	values := map[string]broker.OtherUsers{
		"fresh": broker.FreshSession, "refuse": broker.RefuseSession, "resume": broker.ResumeSession,
	}
	u, ok := values[v]
	if !ok {
		return a.invalid()
	}
	p.cfg.Options.OtherUsers = u
	return nil
}

func setLogFormat(p *parser, a arg) error {
	v, err := a.word()
	if err == nil && v != "text" && v != "json" {
		return a.invalid()
	}
	p.cfg.Log.JSON = v == "json"
	return err
}

func setDomain(p *parser, a arg) error {
	v, err := a.word()
	if err != nil {
		return err
	}
	domain, ok := map[string]string{"ipv4": "tcp4", "ipv6": "tcp6"}[v]
	if !ok {
		return fmt.Errorf("Invalid '%s' value \"%s\" in configuration.", a.key, v)
	}
	p.listener().Domain = domain
	return nil
}

func setMaxQoS(p *parser, a arg) error {
	v, err := a.integer()
	if err != nil {
		return err
	}
	if v < 0 || v > 2 {
		return errors.New("'max_qos' must be between 0 and 2 inclusive.")
	}
	p.listener().MaxQoS = uint8(v)
	return nil
}

func setMaxPacketSize(p *parser, a arg) error {
	v, err := a.number(math.MinInt32, math.MaxUint32)
	if err != nil {
		return err
	}
	if v < 20 {
		return errors.New("'max_packet_size' must be >= 20.")
	}
	p.cfg.Options.MaxPacketSize = uint32(v)
	return nil
}

func setMaxInflight(p *parser, a arg) error {
	v, err := a.integer()
	if err != nil {
		return err
	}
	if v > 65535 {
		return errors.New("'max_inflight_messages' must be <= 65535.")
	}
	if v < 0 || v == 65535 { // as much as the protocol allows
		v = 0
	}
	p.cfg.Options.MaxInflight = uint16(v)
	return nil
}

// aliases is ints for numbers of topic aliases.
func aliases(f func(*parser, uint16)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.integer()
		if err != nil {
			return err
		}
		if v < 0 || v > 65535 {
			return fmt.Errorf("Invalid '%s' value in configuration.", a.key)
		}
		f(p, uint16(v))
		return nil
	}
}

// headersSize is ints for the size of a buffer that Mosquitto has two names for; f may be nil.
func headersSize(f func(*parser, int)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.integer()
		if err != nil {
			return err
		}
		if v < 0 || v > 65535 {
			return errors.New("Packet buffer size must be between 0 and 65535 inclusive.")
		}
		if f != nil {
			f(p, v)
		}
		return nil
	}
}

func prefix(of func(*parser) *local) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.text()
		if err != nil {
			return err
		}
		if len(v) > 50 {
			return fmt.Errorf("'%s' length must be <= 50.", a.key)
		}
		l := of(p)
		if l.prefix != nil {
			return a.duplicate()
		}
		l.prefix = &v
		return nil
	}
}

func setPerListener(p *parser, a arg) error {
	v, err := a.truth()
	if err != nil {
		return err
	}
	if v && p.secured && !p.cfg.PerListener {
		return errors.New("per_listener_settings must be set before any other security settings.")
	}
	p.cfg.PerListener = p.cfg.PerListener || v
	return nil
}

func setPersistence(p *parser, a arg) error {
	v, err := a.truth()
	p.cfg.Persistence.On = v
	return err
}

// expirationMax is the longest session expiry interval of MQTT 5 that ends.
const expirationMax = (1<<32 - 2) * time.Second

// setExpiration reads a number with a unit: h, d, w, m (30 days), y (365 days), s.
func setExpiration(p *parser, a arg) error {
	v, err := a.word()
	if err != nil {
		return err
	}
	units := map[byte]time.Duration{
		's': time.Second, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
		'm': 30 * 24 * time.Hour, 'y': 365 * 24 * time.Hour,
	}
	unit, ok := units[v[len(v)-1]]
	n, numErr := strconv.ParseInt(v[:len(v)-1], 10, 32)
	if !ok || numErr != nil || n <= 0 {
		return fmt.Errorf("Invalid '%s' duration in configuration.", a.key)
	}
	n = min(n, int64(expirationMax/unit))
	p.cfg.Options.PersistentClientExpiration = time.Duration(n) * unit
	return nil
}

func setLogDest(p *parser, a arg) error {
	v, err := a.text()
	if err != nil {
		return err
	}
	word, rest, _ := strings.Cut(v, " ")
	l := &p.cfg.Log
	switch word {
	case "none":
		l.Dest, l.File, l.None = nil, "", true
	case "stderr", "stdout", "syslog", "topic":
		if !slices.Contains(l.Dest, word) {
			l.Dest = append(l.Dest, word)
		}
	case "file":
		rest = strings.Trim(rest, blanks)
		switch {
		case l.File != "":
			return errors.New("Duplicate \"log_dest file\" value.")
		case rest == "":
			return errors.New("Empty \"log_dest file\" value in configuration.")
		}
		l.File = rest
		p.cfg.lines.set("log_dest file", p.where())
	case "dlt":
		p.value("log_dest dlt")
		l.None = true // no default comes in its place
	default:
		return a.invalid()
	}
	return nil
}

// LogTypes are the values of log_type.
func LogTypes() []string {
	return []string{
		"debug", "error", "warning", "notice", "information",
		"subscribe", "unsubscribe", "websockets", "internal",
	}
}

func setLogType(p *parser, a arg) error {
	v, err := a.word()
	if err != nil {
		return err
	}
	l := &p.cfg.Log
	if l.Types == nil {
		l.Types = map[string]bool{}
	}
	switch v {
	case "all":
		for _, t := range LogTypes() {
			l.Types[t] = true
		}
		return nil
	case "none":
		l.Types = map[string]bool{}
		return nil
	}
	if slices.Contains(LogTypes(), v) {
		l.Types[v] = true
		return nil
	}
	return a.invalid()
}
