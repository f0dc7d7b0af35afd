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

// once is texts for options that may stand only once.
func once(f func(*parser, string)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.text()
		if err != nil {
			return err
		}
		if p.seen[a.key] {
			return fmt.Errorf("Duplicate '%s' value in configuration.", a.key)
		}
		p.seen[a.key] = true
		f(p, v)
		return nil
	}
}

// parseInt is strtol with base 0, without Go's underscores and binary prefix.
func parseInt(s string) (int64, error) {
	if strings.ContainsAny(s, "_bBoO") && !strings.HasPrefix(strings.ToLower(strings.TrimLeft(s, "+-")), "0x") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 0, 64)
}

const maxInt = math.MaxInt32

// directives is every key that Mosquitto 2.1.2 accepts, and our own.
func directives() map[string]directive {
	t := map[string]directive{
		"listener":                   {global, works, (*parser).addListener, ""},
		"port":                       {global, works, ints(1, 65535, func(p *parser, v int) { p.seen["port"] = true; p.listenerDefault().Port = v }), ""},
		"bind_address":               {global, works, once(func(p *parser, v string) { p.listenerDefault().Host = v }), ""},
		"protocol":                   {anyL, works, setProtocol, ""},
		"socket_domain":              {anyL, works, setDomain, ""},
		"bind_interface":             {anyL, works, texts(func(p *parser, v string) { p.listener().Interface = v }), ""},
		"max_connections":            {anyL, works, ints(-1, maxInt, func(p *parser, v int) { p.listener().Net.MaxConnections = v }), ""},
		"max_qos":                    {anyL, works, setMaxQoS, ""},
		"maximum_qos":                {anyL, works, setMaxQoS, ""},
		"max_topic_alias":            {listener, works, ints(0, 65535, func(p *parser, v int) { p.listener().MaxTopicAlias = uint16(v) }), ""},
		"max_topic_alias_broker":     {listener, works, ints(0, 65535, func(p *parser, v int) { p.listener().MaxTopicAliasBroker = uint16(v) }), ""},
		"websockets_origin":          {listener, works, texts(func(p *parser, v string) { l := p.listener(); l.Net.Origins = append(l.Net.Origins, v) }), ""},
		"certfile":                   {listener, works, texts(func(p *parser, v string) { p.listener().CertFile = v }), ""},
		"keyfile":                    {listener, works, texts(func(p *parser, v string) { p.listener().KeyFile = v }), ""},
		"cafile":                     {listener, works, texts(func(p *parser, v string) { p.listener().CAFile = v }), ""},
		"capath":                     {anyL, works, texts(func(p *parser, v string) { p.listener().CAPath = v }), ""},
		"require_certificate":        {anyL, works, bools(func(p *parser, v bool) { p.listener().RequireCertificate = v }), ""},
		"tls_version":                {listener, works, texts(func(p *parser, v string) { p.listener().TLSVersion = v }), ""},
		"allow_anonymous":            {security, works, bools(setAnonymous), ""},
		"listener_allow_anonymous":   {listener, works, bools(func(p *parser, v bool) { p.listener().anonymous = &v }), ""},
		"allow_zero_length_clientid": {security, works, bools(setZeroLength), ""},
		"auto_id_prefix":             {security, works, prefix(func(p *parser, v string) { p.setPrefix(v) }), ""},
		"listener_auto_id_prefix":    {listener, works, prefix(func(p *parser, v string) { p.listener().autoIDPrefix = &v }), ""},
		"per_listener_settings":      {global, works, setPerListener, ""},

		"max_inflight_messages":        {global, works, ints(0, 65535, func(p *parser, v int) { p.cfg.Options.MaxInflight = uint16(v) }), ""},
		"max_inflight_bytes":           {global, works, ints(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxInflightBytes = int64(v) }), ""},
		"max_queued_messages":          {global, works, ints(0, maxInt, func(p *parser, v int) { p.cfg.Options.MaxQueuedMessages = v }), ""},
		"max_queued_bytes":             {global, works, ints(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxQueuedBytes = int64(v) }), ""},
		"max_packet_size":              {global, works, setMaxPacketSize, ""},
		"message_size_limit":           {global, works, ints(0, 268435455, func(p *parser, v int) { p.cfg.Options.MessageSizeLimit = uint32(v) }), ""},
		"max_keepalive":                {global, works, ints(0, 65535, func(p *parser, v int) { p.cfg.Options.MaxKeepAlive = uint16(v) }), ""},
		"retain_available":             {global, works, bools(func(p *parser, v bool) { p.cfg.Options.RetainAvailable = v }), ""},
		"persistent_client_expiration": {global, works, setExpiration, ""},
		"queue_qos0_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.QueueQoS0 = v }), ""},
		"upgrade_outgoing_qos":         {global, works, bools(func(p *parser, v bool) { p.cfg.Options.UpgradeOutgoingQoS = v }), ""},
		"allow_duplicate_messages":     {global, works, bools(func(p *parser, v bool) { p.cfg.Options.AllowDuplicates = v }), ""},
		"set_tcp_nodelay":              {global, works, bools(func(p *parser, v bool) { p.noDelay = v }), ""},
		"sys_interval":                 {global, works, ints(0, 65535, func(p *parser, v int) { p.cfg.Options.SysInterval = time.Duration(v) * time.Second }), ""},
		"connection_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.ConnectionMessages = v }), ""},
		"persistence":                  {global, works, setPersistence, ""},
		"retained_persistence":         {global, works, setPersistence, ""},
		"include_dir":                  {global, works, func(p *parser, a arg) error { return p.include(a.value) }, ""},
		"pid_file":                     {global, works, once(func(p *parser, v string) { p.cfg.PIDFile = v }), ""},
		"user":                         {global, works, texts(func(p *parser, v string) { p.cfg.User = v }), ""},
		"log_dest":                     {global, works, setLogDest, ""},
		"log_facility":                 {global, works, ints(0, 7, func(p *parser, v int) { p.cfg.Log.Facility = v }), ""},
		"log_type":                     {global, works, setLogType, ""},
		"log_timestamp":                {global, works, bools(func(p *parser, v bool) { p.cfg.Log.Timestamp = v }), ""},
		"log_timestamp_format":         {global, works, once(func(p *parser, v string) { p.cfg.Log.TimestampFormat = v }), ""},
		"admin_listener":               {global, works, once(func(p *parser, v string) { p.cfg.Admin = v }), ""},

		"dhparamfile":          {global, inert, nil, "Warning: dhparamfile is no longer required."},
		"retry_interval":       {global, inert, nil, "Warning: The 'retry_interval' option is no longer available."},
		"websockets_log_level": {global, inert, nil, "Warning: websockets_log_level has no effect."},
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
	global: `autosave_interval autosave_on_changes check_retain_source clientid_prefixes enable_control_api
		global_max_clients global_max_connections global_plugin memory_limit packet_buffer_size websockets_headers_size
		persistence_file persistence_location retain_expiry_interval`,
	anyL: `ciphers ciphers_tls1.3 crlfile http_dir mount_point psk_hint tls_engine tls_engine_kpass_sha1 tls_keyform
		use_identity_as_username use_subject_as_username use_username_as_clientid`,
	listener: `accept_protocol_versions disable_client_cert_date_checks enable_proxy_protocol
		proxy_protocol_v2_require_tls plugin_use`,
	security: `acl_file auth_plugin auth_plugin_deny_special_chars password_file plugin psk_file`,
	plugin:   `plugin_load`,
	bridge: `address addresses bridge_alpn bridge_attempt_unsubscribe bridge_bind_address bridge_cafile bridge_capath
		bridge_certfile bridge_ciphers bridge_ciphers_tls1.3 bridge_identity bridge_insecure bridge_keyfile
		bridge_max_packet_size bridge_max_topic_alias bridge_outgoing_retain bridge_protocol_version bridge_psk
		bridge_receive_maximum bridge_reload_type bridge_require_ocsp bridge_session_expiry_interval bridge_tcp_keepalive
		bridge_tcp_user_timeout bridge_tls_use_os_certs bridge_tls_version cleansession clientid connection idle_timeout
		keepalive_interval local_cleansession local_clientid local_password local_username notification_topic
		notifications notifications_local_only password remote_clientid remote_password remote_username restart_timeout
		round_robin start_type threshold topic try_private username`,
}

// listenerDefault is the listener of port and bind_address, which take the broker out of local only mode.
func (p *parser) listenerDefault() *Listener {
	saved := p.current
	p.current = nil
	l := p.listener()
	p.current = saved
	return l
}

func setProtocol(p *parser, a arg) error {
	switch v := a.first().value; v {
	case "mqtt":
		p.listener().Net.WebSocket = false
	case "websockets":
		p.listener().Net.WebSocket = true
	case "http_api":
		return errors.New("not supported yet: protocol http_api")
	default:
		return fmt.Errorf("Invalid 'protocol' value (%s).", v)
	}
	return nil
}

func setDomain(p *parser, a arg) error {
	switch v := a.first().value; v {
	case "ipv4":
		p.listener().Domain = "tcp4"
	case "ipv6":
		p.listener().Domain = "tcp6"
	default:
		return fmt.Errorf("Invalid 'socket_domain' value (%s).", v)
	}
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

func setAnonymous(p *parser, v bool) {
	if p.perL && p.current != nil {
		p.current.anonymous = &v
		return
	}
	p.anonymous = &v
}

func setZeroLength(p *parser, v bool) {
	if p.perL && p.current != nil {
		p.current.AllowZeroLengthClientID = v
		return
	}
	for i := range p.cfg.Listeners {
		p.cfg.Listeners[i].AllowZeroLengthClientID = v
	}
	p.zeroLength = &v
}

func (p *parser) setPrefix(v string) {
	if p.perL && p.current != nil {
		p.current.autoIDPrefix = &v
		return
	}
	p.prefix = v
}

func prefix(f func(*parser, string)) func(*parser, arg) error {
	return func(p *parser, a arg) error {
		v, err := a.text()
		if err != nil {
			return err
		}
		if len(v) > 50 {
			return fmt.Errorf("'%s' length must be <= 50.", a.key)
		}
		f(p, v)
		return nil
	}
}

func setPerListener(p *parser, a arg) error {
	v, err := a.truth()
	if err != nil {
		return err
	}
	if v && p.security && !p.perL {
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
	v, err := a.text()
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
		return fmt.Errorf("Invalid 'persistent_client_expiration' value (%s).", v)
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
		*l = Log{Types: l.Types, Timestamp: l.Timestamp, TimestampFormat: l.TimestampFormat, None: true}
	case "stderr", "stdout", "syslog":
		l.Dest = append(l.Dest, word)
	case "file":
		rest = strings.TrimSpace(rest)
		switch {
		case l.File != "":
			return errors.New("Duplicate \"log_dest file\" value.")
		case rest == "":
			return errors.New("Empty \"log_dest file\" value in configuration.")
		}
		l.File = rest
	case "topic", "dlt":
		return fmt.Errorf("not supported yet: log_dest %s", word)
	default:
		return fmt.Errorf("Invalid 'log_dest' value (%s).", v)
	}
	return nil
}

// LogTypes are the values of log_type.
func LogTypes() []string {
	return []string{"debug", "error", "warning", "notice", "information", "subscribe", "unsubscribe", "websockets", "internal"}
}

func setLogType(p *parser, a arg) error {
	v := a.first().value
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
	return fmt.Errorf("Invalid 'log_type' value (%s).", v)
}
