package conf

import (
	"maps"
	"math"
	"strings"
	"time"
)

// scope says where a directive may stand.
type scope uint8

const (
	global   scope = iota
	listener       // needs a listener, port or bind_address line before it
	own            // needs a listener line before it
	anyL           // the last listener, or the default one
	security       // as global, or per listener after per_listener_settings true
	bridge
	option // of a plugin
)

// state says what a directive does.
type state uint8

const (
	works   state = iota
	inert         // accepted with a warning, as in Mosquitto
	later         // read and checked, then refused by name
	refused       // read and checked, then refused for good, with the note
)

// onReload says what a SIGHUP does with a directive.
type onReload uint8

const (
	again   onReload = iota // its new value counts
	restart                 // its new value counts after a restart
	fixed                   // it must stay
	unread                  // nothing: it does nothing, or is a value of one that has a row of its own
)

// directive is one row of the table: all that is to be said of a directive.
type directive struct {
	scope  scope
	state  state
	set    func(*parser, arg) error
	note   string
	option string // that a plugin needs
	reload onReload
	field  any // of restart: func(*Config) any or func(*Listener) any, the address of what keeps its value
}

const maxInt = math.MaxInt32

const (
	noEngine = "OpenSSL engines are not supported: this program does not use OpenSSL. Use key files in PEM form."
	noPSK    = "TLS with pre-shared keys is not supported: use certificates, or stunnel in front."
)

// directives is every key that Mosquitto 2.1.2 accepts, and our own. A key with a space in it is a value of
// a directive that has a state of its own. To turn a directive on, change its state.
func directives() map[string]directive {
	t := map[string]directive{}
	for _, rows := range []map[string]directive{
		listenerDirectives(), securityDirectives(), pluginDirectives(), brokerDirectives(), inertDirectives(),
		ownDirectives(),
	} {
		maps.Copy(t, rows)
	}
	bridgeDirectives(t)
	return t
}

// listenerDirectives are about listeners: where, with what protocol, with which certificates.
func listenerDirectives() map[string]directive {
	return map[string]directive{
		"listener":                        {global, works, (*parser).addListener, "", "", fixed, nil},
		"port":                            {global, works, setPort, "of the default listener", "", fixed, nil},
		"bind_address":                    {global, works, setBindAddress, "of the default listener", "", fixed, nil},
		"protocol":                        {anyL, works, setProtocol, "", "", restart, func(l *Listener) any { return &l.Protocol }},
		"protocol http_api":               {anyL, works, nil, "also on 127.0.0.1:9883 when there is no listener", "", unread, nil},
		"http_dir":                        {listener, works, setHTTPDir, "must exist", "", restart, func(l *Listener) any { return &l.HTTPDir }},
		"socket_domain":                   {anyL, works, setDomain, "", "", restart, func(l *Listener) any { return &l.Domain }},
		"bind_interface":                  {anyL, works, onceL(func(l *Listener) *string { return &l.Interface }), "all addresses of the interface", "", restart, func(l *Listener) any { return &l.Interface }},
		"max_connections":                 {anyL, works, atLeast(-1, maxInt, func(p *parser, v int) { p.listener().Net.MaxConnections = v }), "", "", again, nil},
		"max_qos":                         {anyL, works, setMaxQoS, "", "", again, nil},
		"maximum_qos":                     {anyL, works, setMaxQoS, "same as max_qos", "", again, nil},
		"max_topic_alias":                 {listener, works, aliases(func(p *parser, v uint16) { p.listener().MaxTopicAlias = v }), "", "", again, nil},
		"max_topic_alias_broker":          {listener, works, aliases(func(p *parser, v uint16) { p.listener().MaxTopicAliasBroker = v }), "", "", again, nil},
		"websockets_origin":               {listener, works, texts(func(p *parser, v string) { l := p.listener(); l.Net.Origins = append(l.Net.Origins, v) }), "", "", again, nil},
		"accept_protocol_versions":        {own, works, setVersions, "", "", again, nil},
		"mount_point":                     {listener, works, setMountPoint, "", "", again, nil},
		"enable_proxy_protocol":           {listener, works, setProxy, "", "", restart, func(l *Listener) any { return &l.ProxyProtocol }},
		"proxy_protocol_v2_require_tls":   {listener, works, bools(func(p *parser, v bool) { p.listener().ProxyRequireTLS = v }), "", "", again, nil},
		"proxy_protocol_from":             {listener, works, setProxyFrom, "our own: addresses and networks of the proxies; anybody if there are none", "", again, nil},
		"use_identity_as_username":        {anyL, works, bools(func(p *parser, v bool) { p.listener().UseIdentityAsUsername = v }), "", "", again, nil},
		"use_subject_as_username":         {anyL, works, bools(func(p *parser, v bool) { p.listener().UseSubjectAsUsername = v }), "", "", again, nil},
		"use_username_as_clientid":        {anyL, works, bools(func(p *parser, v bool) { p.listener().UseUsernameAsClientID = v }), "", "", again, nil},
		"certfile":                        {anyL, works, certificate(func(l *Listener) *string { return &l.CertFile }), "", "", again, nil},
		"keyfile":                         {anyL, works, texts(func(p *parser, v string) { p.listener().KeyFile = v }), "", "", again, nil},
		"cafile":                          {listener, works, certificate(func(l *Listener) *string { return &l.CAFile }), "", "", again, nil},
		"capath":                          {anyL, works, texts(func(p *parser, v string) { p.listener().CAPath = v }), "", "", again, nil},
		"crlfile":                         {anyL, works, texts(func(p *parser, v string) { p.listener().CRLFile = v }), "", "", again, nil},
		"ciphers":                         {anyL, works, texts(func(p *parser, v string) { p.listener().Ciphers = v }), "", "", again, nil},
		"ciphers_tls1.3":                  {anyL, works, texts(func(p *parser, v string) { p.listener().CiphersTLS13 = v }), "", "", again, nil},
		"require_certificate":             {anyL, works, bools(func(p *parser, v bool) { p.listener().RequireCertificate = v }), "", "", again, nil},
		"disable_client_cert_date_checks": {listener, works, bools(func(p *parser, v bool) { p.listener().DisableCertDateChecks = v }), "", "", again, nil},
		"tls_version":                     {listener, works, onceL(func(l *Listener) *string { return &l.TLSVersion }), "", "", again, nil},
		"psk_hint":                        {anyL, refused, onceL(func(l *Listener) *string { return &l.PSKHint }), noPSK, "", restart, func(l *Listener) any { return &l.PSKHint }},
		"tls_engine":                      {anyL, refused, texts(func(p *parser, _ string) { p.listener() }), noEngine, "", unread, nil},
		"tls_engine_kpass_sha1":           {anyL, refused, texts(func(p *parser, _ string) { p.listener() }), noEngine, "", unread, nil},
		"tls_keyform":                     {anyL, works, setKeyForm, "`pem` and what Mosquitto takes for it", "", restart, nil},
		"tls_keyform engine":              {anyL, refused, nil, noEngine, "", unread, nil},
	}
}

// securityDirectives are about who may come in and how many.
func securityDirectives() map[string]directive {
	return map[string]directive{
		"allow_anonymous":            {security, works, setAnonymous, "", "", again, nil},
		"listener_allow_anonymous":   {listener, works, bools(func(p *parser, v bool) { p.listener().own.anonymous = &v }), "", "", again, nil},
		"allow_zero_length_clientid": {security, works, bools(func(p *parser, v bool) { p.security().zeroLength = &v }), "", "", again, nil},
		"auto_id_prefix":             {security, works, prefix(func(p *parser) *local { return p.security() }), "", "", again, nil},
		"listener_auto_id_prefix":    {listener, works, prefix(func(p *parser) *local { return &p.listener().own }), "", "", again, nil},
		"password_file":              {security, works, files(func(s *local) *SecurityFile { return &s.passwords }), "", "", again, nil},
		"acl_file":                   {security, works, files(func(s *local) *SecurityFile { return &s.acls }), "", "", again, nil},
		"psk_file":                   {security, refused, setPSKFile, noPSK, "", unread, nil},
		"per_listener_settings":      {global, works, setPerListener, "", "", again, nil},
		"clientid_prefixes":          {global, works, texts(func(p *parser, v string) { p.cfg.Options.ClientIDPrefixes = v }), "", "", again, nil},
		"check_retain_source":        {global, works, bools(func(p *parser, v bool) { p.cfg.Options.CheckRetainSource = v }), "default false, as in Mosquitto's code", "", restart, func(c *Config) any { return &c.Options.CheckRetainSource }},
		"global_max_clients":         {global, works, atLeast(-1, maxInt, func(p *parser, v int) { p.cfg.Options.GlobalMaxClients = v }), "", "", restart, func(c *Config) any { return &c.Options.GlobalMaxClients }},
		"global_max_connections":     {global, works, atLeast(-1, maxInt, func(p *parser, v int) { p.cfg.Options.MaxConnections = v }), "", "", restart, func(c *Config) any { return &c.Options.MaxConnections }},
		"memory_limit":               {global, works, ints(math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MemoryLimit = int64(v) }), "of the whole process; from 90 % on clients and messages are refused", "", again, nil},
		"enable_control_api":         {global, works, setControlAPI, "only `false`", "", restart, func(c *Config) any { return &c.ControlAPI }},
		"enable_control_api true":    {global, later, nil, "", "", unread, nil},
	}
}

// pluginDirectives are about plugins.
func pluginDirectives() map[string]directive {
	return map[string]directive{
		"plugin":                               {security, works, loadPlugin((*parser).security), "the plugins named below run as built-ins; others exit with 13", "", again, nil},
		"auth_plugin":                          {security, works, loadPlugin((*parser).security), "same as plugin", "", again, nil},
		"global_plugin":                        {global, works, loadPlugin(func(p *parser) *local { return &p.global }), "", "", again, nil},
		"plugin_load":                          {global, works, namePlugin, "", "", again, nil},
		"plugin_use":                           {own, works, usePlugin, "", "", again, nil},
		"plugin_opt_*":                         {option, works, setPluginOption, "", "", again, nil},
		"auth_opt_*":                           {option, works, setPluginOption, "same as plugin_opt_*", "", again, nil},
		"auth_plugin_deny_special_chars":       {global, works, denySpecial, "of mosquitto-go-auth, see [go-auth.md](go-auth.md); a warning with other built-in plugins", "", again, nil},
		"plugin go-auth.so":                    {option, works, nil, "built in: [go-auth.md](go-auth.md)", "", unread, nil},
		"plugin mosquitto-go-auth.so":          {option, works, nil, "the same", "", unread, nil},
		"plugin mosquitto_password_file.so":    {option, works, nil, "built in", "password_file", unread, nil},
		"plugin mosquitto_acl_file.so":         {option, works, nil, "built in", "acl_file", unread, nil},
		"plugin mosquitto_dynamic_security.so": {option, later, nil, "", "", unread, nil},
		"plugin mosquitto_persist_sqlite.so":   {option, later, nil, "", "", unread, nil},
		"plugin mosquitto_sparkplug_aware.so":  {option, later, nil, "", "", unread, nil},
	}
}

// brokerDirectives are about messages, sessions, files and the log.
func brokerDirectives() map[string]directive {
	return map[string]directive{
		"max_inflight_messages":        {global, works, setMaxInflight, "", "", restart, func(c *Config) any { return &c.Options.MaxInflight }},
		"max_inflight_bytes":           {global, works, atLeast(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxInflightBytes = int64(v) }), "", "", restart, func(c *Config) any { return &c.Options.MaxInflightBytes }},
		"max_queued_messages":          {global, works, atLeast(0, maxInt, func(p *parser, v int) { p.cfg.Options.MaxQueuedMessages = v }), "", "", restart, func(c *Config) any { return &c.Options.MaxQueuedMessages }},
		"max_queued_bytes":             {global, works, atLeast(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxQueuedBytes = int64(v) }), "", "", restart, func(c *Config) any { return &c.Options.MaxQueuedBytes }},
		"max_packet_size":              {global, works, setMaxPacketSize, "", "", restart, func(c *Config) any { return &c.Options.MaxPacketSize }},
		"message_size_limit":           {global, works, setSizeLimit, "", "", again, nil},
		"max_keepalive":                {global, works, ints(65535, func(p *parser, v int) { p.cfg.Options.MaxKeepAlive = uint16(v) }), "", "", restart, func(c *Config) any { return &c.Options.MaxKeepAlive }},
		"retain_available":             {global, works, bools(func(p *parser, v bool) { p.cfg.Options.RetainAvailable = v }), "", "", restart, func(c *Config) any { return &c.Options.RetainAvailable }},
		"retain_expiry_interval":       {global, works, setRetainExpiry, "expired retained messages are removed all the time, whatever it says", "", restart, func(c *Config) any { return &c.RetainExpiry }},
		"persistent_client_expiration": {global, works, setExpiration, "", "", again, nil},
		"queue_qos0_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.QueueQoS0 = v }), "", "", again, nil},
		"upgrade_outgoing_qos":         {global, works, bools(func(p *parser, v bool) { p.cfg.Options.UpgradeOutgoingQoS = v }), "", "", again, nil},
		"allow_duplicate_messages":     {global, works, bools(func(p *parser, v bool) { p.cfg.Options.AllowDuplicates = v }), "", "", again, nil},
		"set_tcp_nodelay":              {global, works, bools(func(p *parser, v bool) { p.noDelay = v }), "default true", "", restart, func(l *Listener) any { return &l.Net.NoDelay }},
		"sys_interval":                 {global, works, ints(65535, func(p *parser, v int) { p.cfg.Options.SysInterval = time.Duration(v) * time.Second }), "", "", again, nil},
		"connection_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.ConnectionMessages = v }), "", "", again, nil},
		"persistence":                  {global, works, setPersistence, "a file of our own, `noctule.db`; a Mosquitto file is imported at the first start", "", restart, func(c *Config) any { return &c.Persistence.On }},
		"retained_persistence":         {global, works, setPersistence, "same as persistence", "", restart, nil},
		"persistence_file":             {global, works, once(func(p *parser, v string) { p.cfg.Persistence.File = v }), "Mosquitto's; ours is beside it, as `NAME.noctule` (`noctule.db` for `mosquitto.db`)", "", restart, func(c *Config) any { return &c.Persistence.File }},
		"persistence_location":         {global, works, once(func(p *parser, v string) { p.cfg.Persistence.Location = v }), "", "", restart, func(c *Config) any { return &c.Persistence.Location }},
		"autosave_interval":            {global, works, atLeast(0, maxInt, func(p *parser, v int) { p.cfg.Persistence.AutosaveInterval = v }), "the file is always up to date", "", again, nil},
		"autosave_on_changes":          {global, works, bools(func(p *parser, v bool) { p.cfg.Persistence.AutosaveOnChanges = v }), "the file is always up to date", "", again, nil},
		"include_dir":                  {global, works, (*parser).include, "", "", again, nil},
		"pid_file":                     {global, works, once(func(p *parser, v string) { p.cfg.PIDFile = v }), "", "", restart, func(c *Config) any { return &c.PIDFile }},
		"user":                         {global, works, texts(func(p *parser, v string) { p.cfg.User = v }), "", "", restart, func(c *Config) any { return &c.User }},
		"log_dest":                     {global, works, setLogDest, "without `dlt`", "", again, nil},
		"log_dest dlt":                 {global, inert, nil, "Warning: log_dest dlt is not supported, nothing is sent to DLT.", "", unread, nil},
		"log_facility":                 {global, works, ints(7, func(p *parser, v int) { p.cfg.Log.Facility = v }), "", "", again, nil},
		"log_type":                     {global, works, setLogType, "", "", again, nil},
		"log_timestamp":                {global, works, bools(func(p *parser, v bool) { p.cfg.Log.Timestamp = v }), "", "", again, nil},
		"log_timestamp_format":         {global, works, once(func(p *parser, v string) { p.cfg.Log.TimestampFormat = v }), "", "", again, nil},
		"websockets_headers_size":      {global, works, headersSize(func(p *parser, v int) { p.maxHeader = v }), "", "", restart, func(l *Listener) any { return &l.Net.MaxHeader }},
	}
}

// inertDirectives are about what has no effect.
func inertDirectives() map[string]directive {
	return map[string]directive{
		"dhparamfile":          {global, inert, nil, "Warning: dhparamfile is no longer required.", "", unread, nil},
		"retry_interval":       {global, inert, nil, "Warning: The 'retry_interval' option is no longer available.", "", unread, nil},
		"websockets_log_level": {global, inert, nil, "Warning: websockets_log_level has no effect.", "", unread, nil},
		"packet_buffer_size":   {global, inert, headersSize(nil), "Warning: packet_buffer_size has no effect: buffers grow and shrink by themselves.", "", unread, nil},
	}
}

// ownDirectives are about what Mosquitto does not have.
func ownDirectives() map[string]directive {
	return map[string]directive{
		"admin_listener":     {global, works, once(func(p *parser, v string) { p.cfg.Admin = v }), "our own: host:port of /metrics, /healthz and /readyz", "", restart, func(c *Config) any { return &c.Admin }},
		"admin_token_file":   {global, works, once(func(p *parser, v string) { p.cfg.AdminTokenFile = v }), "our own: tokens that may use the API of admin_listener", "", again, nil},
		"auth_file":          {security, works, files(func(s *local) *SecurityFile { return &s.sources }), "our own: logins by tokens, webservices, databases, Redis, LDAP", "", again, nil},
		"presub_file":        {global, works, once(func(p *parser, v string) { p.cfg.PresubFile = v }), "our own: subscriptions made by the broker", "", again, nil},
		"persistence_sync":   {global, works, setSync, "our own: `always`, `group` or `interval`, default group", "", restart, func(c *Config) any { return &c.Persistence.Sync }},
		"max_queued_memory":  {global, works, ints(math.MaxInt64, func(p *parser, v int) { p.cfg.MaxQueuedMemory = int64(v) }), "our own: bytes of queued payloads kept in memory, 0 for all", "", restart, func(c *Config) any { return &c.MaxQueuedMemory }},
		"max_subscriptions":  {global, works, ints(math.MaxInt32, func(p *parser, v int) { p.cfg.Options.MaxSubscriptions = v }), "our own: subscriptions that one client may have, 0 for no limit", "", again, nil},
		"other_user_session": {global, works, setOtherUsers, "our own: `fresh`, `refuse` or `resume`, for a client id of another user's session; default fresh", "", again, nil},
		"log_format":         {global, works, setLogFormat, "our own: `text`, or `json` with one object a line", "", again, nil},
	}
}

// bridgeDirectives adds the rows of connections to other brokers.
func bridgeDirectives(t map[string]directive) {
	t["connection"] = directive{global, later, addBridge, "read and checked with all its options", "", unread, nil}
	text := func(name string, to func(*Bridge) *string) directive {
		return directive{bridge, later, bridgeText(name, to), "", "", unread, nil}
	}
	row := func(set func(*parser, arg) error) directive {
		return directive{bridge, later, set, "", "", unread, nil}
	}
	t["address"], t["addresses"] = row(setAddresses), row(setAddresses)
	t["topic"] = row(addTopic)
	for name, to := range map[string]func(*Bridge) *string{
		"username": func(b *Bridge) *string { return &b.RemoteUsername },
		"password": func(b *Bridge) *string { return &b.RemotePassword },
	} {
		t[name] = text("bridge remote_"+name, to)
		t["remote_"+name] = t[name]
	}
	t["clientid"] = text("bridge remote clientid", func(b *Bridge) *string { return &b.RemoteClientID })
	t["remote_clientid"] = t["clientid"]
	t["local_clientid"] = text("bridge local clientd", func(b *Bridge) *string { return &b.LocalClientID })
	t["local_username"] = text("bridge local_username", func(b *Bridge) *string { return &b.LocalUsername })
	t["local_password"] = text("bridge local_password", func(b *Bridge) *string { return &b.LocalPassword })
	t["notification_topic"] = text("", func(b *Bridge) *string { return &b.NotificationTopic })
	t["bridge_bind_address"] = text("", func(b *Bridge) *string { return &b.BindAddress })
	t["bridge_alpn"] = text("", func(b *Bridge) *string { return &b.ALPN })
	t["bridge_ciphers"] = text("", func(b *Bridge) *string { return &b.Ciphers })
	t["bridge_ciphers_tls1.3"] = text("", func(b *Bridge) *string { return &b.CiphersTLS13 })
	t["bridge_tls_version"] = text("", func(b *Bridge) *string { return &b.TLSVersion })
	t["bridge_cafile"] = row(bridgeFile(func(b *Bridge) *string { return &b.CAFile }))
	t["bridge_capath"] = row(bridgeFile(func(b *Bridge) *string { return &b.CAPath }))
	t["bridge_certfile"] = row(bridgeFile(func(b *Bridge) *string { return &b.CertFile }))
	t["bridge_keyfile"] = row(bridgeFile(func(b *Bridge) *string { return &b.KeyFile }))
	t["bridge_identity"] = row(bridgeKey(func(b *Bridge) *string { return &b.PSKIdentity }))
	t["bridge_psk"] = row(bridgeKey(func(b *Bridge) *string { return &b.PSK }))
	t["bridge_insecure"] = row(setInsecure)
	for name, set := range map[string]func(*Bridge, bool){
		"cleansession":               func(b *Bridge, v bool) { b.CleanSession = v },
		"local_cleansession":         func(b *Bridge, v bool) { b.LocalCleanSession = &v },
		"try_private":                func(b *Bridge, v bool) { b.TryPrivate = v },
		"round_robin":                func(b *Bridge, v bool) { b.RoundRobin = v },
		"notifications":              func(b *Bridge, v bool) { b.Notifications = v },
		"notifications_local_only":   func(b *Bridge, v bool) { b.NotificationsLocal = v },
		"bridge_attempt_unsubscribe": func(b *Bridge, v bool) { b.AttemptUnsubscribe = v },
		"bridge_outgoing_retain":     func(b *Bridge, v bool) { b.OutgoingRetain = v },
		"bridge_require_ocsp":        func(b *Bridge, v bool) { b.OCSP = v },
		"bridge_tls_use_os_certs":    func(b *Bridge, v bool) { b.OSCA = v },
	} {
		t[name] = row(bridgeBool(set))
	}
	t["bridge_protocol_version"] = row(bridgeWord(func(b *Bridge) *string { return &b.Version }, "mqttv31", "mqttv311", "mqttv50"))
	t["bridge_reload_type"] = row(bridgeWord(func(b *Bridge) *string { return &b.ReloadType }, "lazy", "immediate"))
	t["start_type"] = row(bridgeWord(func(b *Bridge) *string { return &b.StartType }, "automatic", "lazy", "once"))
	t["bridge_max_packet_size"] = row(atLeastB(0, "", func(b *Bridge, v int) { b.MaxPacketSize = uint32(v) }))
	t["idle_timeout"] = row(atLeastB(1, "idle_timeout interval too low, using 1 second.", func(b *Bridge, v int) { b.IdleTimeout = seconds(v) }))
	t["threshold"] = row(atLeastB(1, "threshold too low, using 1 message.", func(b *Bridge, v int) { b.Threshold = v }))
	t["keepalive_interval"] = row(setKeepAlive)
	t["restart_timeout"] = row(setRestart)
	t["bridge_tcp_keepalive"] = row(setTCPKeepAlive)
	t["bridge_tcp_user_timeout"] = row(bridgeInt(setUserTimeout))
	t["bridge_receive_maximum"] = row(bridgeInt(setReceiveMaximum))
	t["bridge_max_topic_alias"] = row(bridgeInt(setBridgeAliases))
	t["bridge_session_expiry_interval"] = row(bridgeInt(setBridgeExpiry))
}

// deprecations says what Mosquitto says of a directive that will go in its version 3.0.
func deprecations(key string) (text string, deprecated bool) {
	if strings.HasPrefix(key, "auth_opt_") {
		return "Please use 'plugin_opt_' instead.", true
	}
	text, deprecated = map[string]string{
		"acl_file":                 "Please use the plugin mosquitto_acl_file.so instead.",
		"password_file":            "Please use the plugin mosquitto_password_file.so instead.",
		"per_listener_settings":    "Please see the documentation for how to achieve the same effect.",
		"bind_address":             "",
		"port":                     "Please use 'listener' instead.",
		"auto_id_prefix":           "Please use 'listener_auto_id_prefix' instead.",
		"clientid_prefixes":        "",
		"allow_duplicate_messages": "The behaviour will default to true.",
		"auth_plugin":              "Please use 'plugin' instead.",
	}[key]
	return text, deprecated
}
