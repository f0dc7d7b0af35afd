package conf

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scope says where a directive may stand.
type scope uint8

const (
	global   scope = iota
	listener       // needs a listener line before it
	anyL           // the last listener, or the default one
	security       // as global, or per listener after per_listener_settings true
	bridge
	plugin
)

// state says what a directive does.
type state uint8

const (
	works state = iota
	inert       // accepted with a warning, as in Mosquitto
	later       // refused by name
)

// directive is one row of the table.
type directive struct {
	scope scope
	state state
	set   func(*parser, arg) error
	note  string
}

// table is built from rows by kind, so that each directive is one line.
func bools(f func(*parser, bool)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.truth()
		if err == nil {
			f(p, v)
		}
		return err
	}
}

func ints(low, high int64, f func(*parser, int)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.number(low, high)
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

// onceL is texts for options that may stand once for each listener.
func onceL(f func(*Listener, string)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		l := p.listener()
		return setOnce(p, a, l, func(_ *parser, v string) { f(l, v) })
	}
}

func setOnce(p *parser, a arg, of *Listener, f func(*parser, string)) error {
	v, err := a.text()
	if err != nil {
		return err
	}
	k := seen{a.key, of}
	if p.seen[k] {
		return fmt.Errorf("Duplicate '%s' value in configuration.", a.key)
	}
	p.seen[k] = true
	f(p, v)
	return nil
}

const maxInt = math.MaxInt32

// directives is every key that Mosquitto 2.1.2 accepts, and our own.
func directives() map[string]directive {
	t := map[string]directive{
		"listener":                   {global, works, (*parser).addListener, ""},
		"port":                       {global, works, ints(1, 65535, func(p *parser, v int) { p.named().Port = v }), "of the default listener"},
		"bind_address":               {global, works, once(func(p *parser, v string) { p.named().Host = v }), "of the default listener"},
		"protocol":                   {anyL, works, setProtocol, ""},
		"socket_domain":              {anyL, works, setDomain, ""},
		"bind_interface":             {anyL, works, onceL(func(l *Listener, v string) { l.Interface = v }), "all addresses of the interface"},
		"max_connections":            {anyL, works, atLeast(-1, maxInt, func(p *parser, v int) { p.listener().Net.MaxConnections = v }), ""},
		"max_qos":                    {anyL, works, setMaxQoS, ""},
		"maximum_qos":                {anyL, works, setMaxQoS, "same as max_qos"},
		"max_topic_alias":            {listener, works, aliases(func(p *parser, v uint16) { p.listener().MaxTopicAlias = v }), ""},
		"max_topic_alias_broker":     {listener, works, aliases(func(p *parser, v uint16) { p.listener().MaxTopicAliasBroker = v }), ""},
		"http_dir":                   {listener, works, texts(func(p *parser, v string) { p.listener().HTTPDir = v }), "of a listener with `protocol http_api`"},
		"websockets_origin":          {listener, works, texts(func(p *parser, v string) { l := p.listener(); l.Net.Origins = append(l.Net.Origins, v) }), ""},
		"certfile":                   {anyL, works, texts(func(p *parser, v string) { p.listener().CertFile = v }), ""},
		"keyfile":                    {anyL, works, texts(func(p *parser, v string) { p.listener().KeyFile = v }), ""},
		"cafile":                     {listener, works, texts(func(p *parser, v string) { p.listener().CAFile = v }), ""},
		"capath":                     {anyL, works, texts(func(p *parser, v string) { p.listener().CAPath = v }), ""},
		"require_certificate":        {anyL, works, bools(func(p *parser, v bool) { p.listener().RequireCertificate = v }), ""},
		"tls_version":                {listener, works, onceL(func(l *Listener, v string) { l.TLSVersion = v }), ""},
		"allow_anonymous":            {security, works, bools(func(p *parser, v bool) { p.security().anonymous = &v }), ""},
		"listener_allow_anonymous":   {listener, works, bools(func(p *parser, v bool) { p.listener().own.anonymous = &v }), ""},
		"allow_zero_length_clientid": {security, works, bools(func(p *parser, v bool) { p.security().zeroLength = &v }), ""},
		"auto_id_prefix":             {security, works, prefix(func(p *parser) *local { return p.security() }), ""},
		"listener_auto_id_prefix":    {listener, works, prefix(func(p *parser) *local { return &p.listener().own }), ""},
		"per_listener_settings":      {global, works, setPerListener, ""},

		"max_inflight_messages":        {global, works, setMaxInflight, ""},
		"max_inflight_bytes":           {global, works, atLeast(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxInflightBytes = int64(v) }), ""},
		"max_queued_messages":          {global, works, atLeast(0, maxInt, func(p *parser, v int) { p.cfg.Options.MaxQueuedMessages = v }), ""},
		"max_queued_bytes":             {global, works, atLeast(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxQueuedBytes = int64(v) }), ""},
		"max_packet_size":              {global, works, setMaxPacketSize, ""},
		"message_size_limit":           {global, works, ints(0, 268435455, func(p *parser, v int) { p.cfg.Options.MessageSizeLimit = uint32(v) }), ""},
		"max_keepalive":                {global, works, ints(0, 65535, func(p *parser, v int) { p.cfg.Options.MaxKeepAlive = uint16(v) }), ""},
		"retain_available":             {global, works, bools(func(p *parser, v bool) { p.cfg.Options.RetainAvailable = v }), ""},
		"persistent_client_expiration": {global, works, setExpiration, ""},
		"queue_qos0_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.QueueQoS0 = v }), ""},
		"upgrade_outgoing_qos":         {global, works, bools(func(p *parser, v bool) { p.cfg.Options.UpgradeOutgoingQoS = v }), ""},
		"allow_duplicate_messages":     {global, works, bools(func(p *parser, v bool) { p.cfg.Options.AllowDuplicates = v }), ""},
		"set_tcp_nodelay":              {global, works, bools(func(p *parser, v bool) { p.noDelay = v }), "default true"},
		"sys_interval":                 {global, works, ints(0, 65535, func(p *parser, v int) { p.cfg.Options.SysInterval = time.Duration(v) * time.Second }), ""},
		"connection_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.ConnectionMessages = v }), ""},
		"persistence":                  {global, works, setPersistence, "only `false`; `true` is not supported yet"},
		"retained_persistence":         {global, works, setPersistence, "same as persistence"},
		"include_dir":                  {global, works, (*parser).include, ""},
		"pid_file":                     {global, works, once(func(p *parser, v string) { p.cfg.PIDFile = v }), ""},
		"user":                         {global, works, texts(func(p *parser, v string) { p.cfg.User = v }), ""},
		"log_dest":                     {global, works, setLogDest, "without `dlt`, which is ignored with a warning"},
		"log_facility":                 {global, works, ints(0, 7, func(p *parser, v int) { p.cfg.Log.Facility = v }), ""},
		"log_format":                   {global, works, setLogFormat, "our own: `text`, or `json` with one object a line"},
		"log_type":                     {global, works, setLogType, ""},
		"log_timestamp":                {global, works, bools(func(p *parser, v bool) { p.cfg.Log.Timestamp = v }), ""},
		"log_timestamp_format":         {global, works, once(func(p *parser, v string) { p.cfg.Log.TimestampFormat = v }), ""},
		"websockets_headers_size":      {global, works, headersSize(func(p *parser, v int) { p.maxHeader = v }), ""},
		"memory_limit":                 {global, works, setMemoryLimit, "a soft limit of the whole process's memory"},
		"admin_listener":               {global, works, once(func(p *parser, v string) { p.cfg.Admin = v }), "our own: host:port of /metrics and /healthz"},

		"dhparamfile":          {global, inert, nil, "Warning: dhparamfile is no longer required."},
		"retry_interval":       {global, inert, nil, "Warning: The 'retry_interval' option is no longer available."},
		"websockets_log_level": {global, inert, nil, "Warning: websockets_log_level has no effect."},
		"packet_buffer_size":   {global, inert, headersSize(nil), "Warning: packet_buffer_size has no effect: buffers grow and shrink by themselves."},
	}
	for s, names := range notYet {
		for n := range strings.FieldsSeq(names) {
			t[n] = directive{scope: s, state: later}
		}
	}
	return t
}

// notYet is what is recognised and refused, by scope.
var notYet = map[scope]string{
	global: `autosave_interval autosave_on_changes check_retain_source clientid_prefixes connection enable_control_api
		global_max_clients global_max_connections global_plugin plugin_load
		persistence_file persistence_location retain_expiry_interval`,
	anyL: `ciphers ciphers_tls1.3 crlfile psk_hint tls_engine tls_engine_kpass_sha1 tls_keyform
		use_identity_as_username use_subject_as_username use_username_as_clientid`,
	listener: `accept_protocol_versions mount_point disable_client_cert_date_checks enable_proxy_protocol
		proxy_protocol_v2_require_tls plugin_use`,
	security: `acl_file auth_plugin auth_plugin_deny_special_chars password_file plugin psk_file`,
	bridge: `address addresses bridge_alpn bridge_attempt_unsubscribe bridge_bind_address bridge_cafile bridge_capath
		bridge_certfile bridge_ciphers bridge_ciphers_tls1.3 bridge_identity bridge_insecure bridge_keyfile
		bridge_max_packet_size bridge_max_topic_alias bridge_outgoing_retain bridge_protocol_version bridge_psk
		bridge_receive_maximum bridge_reload_type bridge_require_ocsp bridge_session_expiry_interval bridge_tcp_keepalive
		bridge_tcp_user_timeout bridge_tls_use_os_certs bridge_tls_version cleansession clientid idle_timeout
		keepalive_interval local_cleansession local_clientid local_password local_username notification_topic
		notifications notifications_local_only password remote_clientid remote_password remote_username restart_timeout
		round_robin start_type threshold topic try_private username`,
}

func setProtocol(p *parser, a arg) error {
	v, err := a.word()
	switch {
	case err != nil:
		return err
	case v == "mqtt", v == "websockets", v == "http_api":
		p.listener().Net.WebSocket = v == "websockets"
		p.listener().Protocol = v
		return nil
	}
	return a.invalid()
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
	v, err := a.number(math.MinInt32, maxInt)
	if err != nil {
		return err
	}
	if v < 0 || v > 2 {
		return fmt.Errorf("'%s' must be between 0 and 2 inclusive.", a.key)
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
	v, err := a.number(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	if v > 65535 {
		return errors.New("'max_inflight_messages' must be <= 65535.")
	}
	p.cfg.Options.MaxInflight = uint16(max(v, 0))
	return nil
}

// aliases is ints for numbers of topic aliases.
func aliases(f func(*parser, uint16)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.number(math.MinInt64, math.MaxInt64)
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
		v, err := a.number(math.MinInt64, math.MaxInt64)
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
			return fmt.Errorf("Duplicate '%s' value in configuration.", a.key)
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
	if v && p.secured && !p.perL {
		return errors.New("per_listener_settings must be set before any other security settings.")
	}
	p.perL = p.perL || v
	return nil
}

func setPersistence(_ *parser, a arg) error {
	v, err := a.truth()
	if err == nil && v {
		return fmt.Errorf("not supported yet: %s true", a.key)
	}
	return err
}

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
	if !ok || numErr != nil || n < 0 {
		return fmt.Errorf("Invalid '%s' duration in configuration.", a.key)
	}
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
	case "dlt":
		p.note("Warning: log_dest dlt is not supported: nothing is logged there.")
		l.None = true
	default:
		return a.invalid()
	}
	return nil
}

// LogTypes are the values of log_type.
func LogTypes() []string {
	return []string{"debug", "error", "warning", "notice", "information", "subscribe", "unsubscribe", "websockets", "internal"}
}

func setLogFormat(p *parser, a arg) error {
	v, err := a.word()
	if err == nil && v != "text" && v != "json" {
		return a.invalid()
	}
	p.cfg.Log.JSON = v == "json"
	return err
}

func setMemoryLimit(p *parser, a arg) error {
	v, err := a.number(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	if v < 0 {
		return a.invalid()
	}
	p.cfg.MemoryLimit = int64(v)
	return nil
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
