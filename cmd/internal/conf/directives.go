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

// directive is one row of the table.
type directive struct {
	scope  scope
	state  state
	set    func(*parser, arg) error
	note   string
	option string // that a plugin needs
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
		"listener":                        {global, works, (*parser).addListener, "", ""},
		"port":                            {global, works, setPort, "of the default listener", ""},
		"bind_address":                    {global, works, setBindAddress, "of the default listener", ""},
		"protocol":                        {anyL, works, setProtocol, "", ""},
		"protocol http_api":               {anyL, works, nil, "also on 127.0.0.1:9883 when there is no listener", ""},
		"http_dir":                        {listener, works, setHTTPDir, "must exist", ""},
		"socket_domain":                   {anyL, works, setDomain, "", ""},
		"bind_interface":                  {anyL, works, onceL(func(l *Listener) *string { return &l.Interface }), "all addresses of the interface", ""},
		"max_connections":                 {anyL, works, atLeast(-1, maxInt, func(p *parser, v int) { p.listener().Net.MaxConnections = v }), "", ""},
		"max_qos":                         {anyL, works, setMaxQoS, "", ""},
		"maximum_qos":                     {anyL, works, setMaxQoS, "same as max_qos", ""},
		"max_topic_alias":                 {listener, works, aliases(func(p *parser, v uint16) { p.listener().MaxTopicAlias = v }), "", ""},
		"max_topic_alias_broker":          {listener, works, aliases(func(p *parser, v uint16) { p.listener().MaxTopicAliasBroker = v }), "", ""},
		"websockets_origin":               {listener, works, texts(func(p *parser, v string) { l := p.listener(); l.Net.Origins = append(l.Net.Origins, v) }), "", ""},
		"accept_protocol_versions":        {own, works, setVersions, "", ""},
		"mount_point":                     {listener, works, setMountPoint, "", ""},
		"enable_proxy_protocol":           {listener, works, setProxy, "", ""},
		"proxy_protocol_v2_require_tls":   {listener, works, bools(func(p *parser, v bool) { p.listener().ProxyRequireTLS = v }), "", ""},
		"proxy_protocol_from":             {listener, works, setProxyFrom, "our own: addresses and networks of the proxies; anybody if there are none", ""},
		"use_identity_as_username":        {anyL, works, bools(func(p *parser, v bool) { p.listener().UseIdentityAsUsername = v }), "", ""},
		"use_subject_as_username":         {anyL, works, bools(func(p *parser, v bool) { p.listener().UseSubjectAsUsername = v }), "", ""},
		"use_username_as_clientid":        {anyL, works, bools(func(p *parser, v bool) { p.listener().UseUsernameAsClientID = v }), "", ""},
		"certfile":                        {anyL, works, certificate(func(l *Listener) *string { return &l.CertFile }), "", ""},
		"keyfile":                         {anyL, works, texts(func(p *parser, v string) { p.listener().KeyFile = v }), "", ""},
		"cafile":                          {listener, works, certificate(func(l *Listener) *string { return &l.CAFile }), "", ""},
		"capath":                          {anyL, works, texts(func(p *parser, v string) { p.listener().CAPath = v }), "", ""},
		"crlfile":                         {anyL, works, texts(func(p *parser, v string) { p.listener().CRLFile = v }), "", ""},
		"ciphers":                         {anyL, works, texts(func(p *parser, v string) { p.listener().Ciphers = v }), "", ""},
		"ciphers_tls1.3":                  {anyL, works, texts(func(p *parser, v string) { p.listener().CiphersTLS13 = v }), "", ""},
		"require_certificate":             {anyL, works, bools(func(p *parser, v bool) { p.listener().RequireCertificate = v }), "", ""},
		"disable_client_cert_date_checks": {listener, works, bools(func(p *parser, v bool) { p.listener().DisableCertDateChecks = v }), "", ""},
		"tls_version":                     {listener, works, onceL(func(l *Listener) *string { return &l.TLSVersion }), "", ""},
		"psk_hint":                        {anyL, refused, onceL(func(l *Listener) *string { return &l.PSKHint }), noPSK, ""},
		"tls_engine":                      {anyL, refused, texts(func(p *parser, _ string) { p.listener() }), noEngine, ""},
		"tls_engine_kpass_sha1":           {anyL, refused, texts(func(p *parser, _ string) { p.listener() }), noEngine, ""},
		"tls_keyform":                     {anyL, works, setKeyForm, "`pem` and what Mosquitto takes for it", ""},
		"tls_keyform engine":              {anyL, refused, nil, noEngine, ""},
	}
}

// securityDirectives are about who may come in and how many.
func securityDirectives() map[string]directive {
	return map[string]directive{
		"allow_anonymous":            {security, works, setAnonymous, "", ""},
		"listener_allow_anonymous":   {listener, works, bools(func(p *parser, v bool) { p.listener().own.anonymous = &v }), "", ""},
		"allow_zero_length_clientid": {security, works, bools(func(p *parser, v bool) { p.security().zeroLength = &v }), "", ""},
		"auto_id_prefix":             {security, works, prefix(func(p *parser) *local { return p.security() }), "", ""},
		"listener_auto_id_prefix":    {listener, works, prefix(func(p *parser) *local { return &p.listener().own }), "", ""},
		"password_file":              {security, works, files(func(s *local) *SecurityFile { return &s.passwords }), "", ""},
		"acl_file":                   {security, works, files(func(s *local) *SecurityFile { return &s.acls }), "", ""},
		"psk_file":                   {security, refused, setPSKFile, noPSK, ""},
		"per_listener_settings":      {global, works, setPerListener, "", ""},
		"clientid_prefixes":          {global, works, texts(func(p *parser, v string) { p.cfg.Options.ClientIDPrefixes = v }), "", ""},
		"check_retain_source":        {global, works, bools(func(p *parser, v bool) { p.cfg.Options.CheckRetainSource = v }), "default false, as in Mosquitto's code", ""},
		"global_max_clients":         {global, works, atLeast(-1, maxInt, func(p *parser, v int) { p.cfg.Options.GlobalMaxClients = v }), "", ""},
		"global_max_connections":     {global, works, atLeast(-1, maxInt, func(p *parser, v int) { p.cfg.Options.MaxConnections = v }), "", ""},
		"memory_limit":               {global, works, ints(math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MemoryLimit = int64(v) }), "of the whole process; from 90 % on clients and messages are refused", ""},
		"enable_control_api":         {global, works, setControlAPI, "only `false`", ""},
		"enable_control_api true":    {global, later, nil, "", ""},
	}
}

// pluginDirectives are about plugins.
func pluginDirectives() map[string]directive {
	return map[string]directive{
		"plugin":                               {security, works, loadPlugin((*parser).security), "the plugins named below run as built-ins; others exit with 13", ""},
		"auth_plugin":                          {security, works, loadPlugin((*parser).security), "same as plugin", ""},
		"global_plugin":                        {global, works, loadPlugin(func(p *parser) *local { return &p.global }), "", ""},
		"plugin_load":                          {global, works, namePlugin, "", ""},
		"plugin_use":                           {own, works, usePlugin, "", ""},
		"plugin_opt_*":                         {option, works, setPluginOption, "", ""},
		"auth_opt_*":                           {option, works, setPluginOption, "same as plugin_opt_*", ""},
		"auth_plugin_deny_special_chars":       {global, inert, denySpecial, "Warning: auth_plugin_deny_special_chars has no effect on built-in plugins.", ""},
		"plugin mosquitto_password_file.so":    {option, works, nil, "built in", "password_file"},
		"plugin mosquitto_acl_file.so":         {option, works, nil, "built in", "acl_file"},
		"plugin mosquitto_dynamic_security.so": {option, later, nil, "", ""},
		"plugin mosquitto_persist_sqlite.so":   {option, later, nil, "", ""},
		"plugin mosquitto_sparkplug_aware.so":  {option, later, nil, "", ""},
	}
}

// brokerDirectives are about messages, sessions, files and the log.
func brokerDirectives() map[string]directive {
	return map[string]directive{
		"max_inflight_messages":        {global, works, setMaxInflight, "", ""},
		"max_inflight_bytes":           {global, works, atLeast(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxInflightBytes = int64(v) }), "", ""},
		"max_queued_messages":          {global, works, atLeast(0, maxInt, func(p *parser, v int) { p.cfg.Options.MaxQueuedMessages = v }), "", ""},
		"max_queued_bytes":             {global, works, atLeast(0, math.MaxInt64, func(p *parser, v int) { p.cfg.Options.MaxQueuedBytes = int64(v) }), "", ""},
		"max_packet_size":              {global, works, setMaxPacketSize, "", ""},
		"message_size_limit":           {global, works, setSizeLimit, "", ""},
		"max_keepalive":                {global, works, ints(65535, func(p *parser, v int) { p.cfg.Options.MaxKeepAlive = uint16(v) }), "", ""},
		"retain_available":             {global, works, bools(func(p *parser, v bool) { p.cfg.Options.RetainAvailable = v }), "", ""},
		"retain_expiry_interval":       {global, works, setRetainExpiry, "expired retained messages are removed all the time, whatever it says", ""},
		"persistent_client_expiration": {global, works, setExpiration, "", ""},
		"queue_qos0_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.QueueQoS0 = v }), "", ""},
		"upgrade_outgoing_qos":         {global, works, bools(func(p *parser, v bool) { p.cfg.Options.UpgradeOutgoingQoS = v }), "", ""},
		"allow_duplicate_messages":     {global, works, bools(func(p *parser, v bool) { p.cfg.Options.AllowDuplicates = v }), "", ""},
		"set_tcp_nodelay":              {global, works, bools(func(p *parser, v bool) { p.noDelay = v }), "default true", ""},
		"sys_interval":                 {global, works, ints(65535, func(p *parser, v int) { p.cfg.Options.SysInterval = time.Duration(v) * time.Second }), "", ""},
		"connection_messages":          {global, works, bools(func(p *parser, v bool) { p.cfg.Options.ConnectionMessages = v }), "", ""},
		"persistence":                  {global, works, setPersistence, "a file of our own, `noctule.db`; a Mosquitto file is imported at the first start", ""},
		"retained_persistence":         {global, works, setPersistence, "same as persistence", ""},
		"persistence_file":             {global, works, once(func(p *parser, v string) { p.cfg.Persistence.File = v }), "Mosquitto's; ours is beside it, as `NAME.noctule` (`noctule.db` for `mosquitto.db`)", ""},
		"persistence_location":         {global, works, once(func(p *parser, v string) { p.cfg.Persistence.Location = v }), "", ""},
		"autosave_interval":            {global, works, atLeast(0, maxInt, func(p *parser, v int) { p.cfg.Persistence.AutosaveInterval = v }), "the file is always up to date", ""},
		"autosave_on_changes":          {global, works, bools(func(p *parser, v bool) { p.cfg.Persistence.AutosaveOnChanges = v }), "the file is always up to date", ""},
		"include_dir":                  {global, works, (*parser).include, "", ""},
		"pid_file":                     {global, works, once(func(p *parser, v string) { p.cfg.PIDFile = v }), "", ""},
		"user":                         {global, works, texts(func(p *parser, v string) { p.cfg.User = v }), "", ""},
		"log_dest":                     {global, works, setLogDest, "without `dlt`", ""},
		"log_dest dlt":                 {global, inert, nil, "Warning: log_dest dlt is not supported, nothing is sent to DLT.", ""},
		"log_facility":                 {global, works, ints(7, func(p *parser, v int) { p.cfg.Log.Facility = v }), "", ""},
		"log_type":                     {global, works, setLogType, "", ""},
		"log_timestamp":                {global, works, bools(func(p *parser, v bool) { p.cfg.Log.Timestamp = v }), "", ""},
		"log_timestamp_format":         {global, works, once(func(p *parser, v string) { p.cfg.Log.TimestampFormat = v }), "", ""},
		"websockets_headers_size":      {global, works, headersSize(func(p *parser, v int) { p.maxHeader = v }), "", ""},
	}
}

// inertDirectives are about what has no effect.
func inertDirectives() map[string]directive {
	return map[string]directive{
		"dhparamfile":          {global, inert, nil, "Warning: dhparamfile is no longer required.", ""},
		"retry_interval":       {global, inert, nil, "Warning: The 'retry_interval' option is no longer available.", ""},
		"websockets_log_level": {global, inert, nil, "Warning: websockets_log_level has no effect.", ""},
		"packet_buffer_size":   {global, inert, headersSize(nil), "Warning: packet_buffer_size has no effect: buffers grow and shrink by themselves.", ""},
	}
}

// ownDirectives are about what Mosquitto does not have.
func ownDirectives() map[string]directive {
	return map[string]directive{
		"admin_listener":     {global, works, once(func(p *parser, v string) { p.cfg.Admin = v }), "our own: host:port of /metrics, /healthz and /readyz", ""},
		"admin_token_file":   {global, works, once(func(p *parser, v string) { p.cfg.AdminTokenFile = v }), "our own: tokens that may use the API of admin_listener", ""},
		"presub_file":        {global, works, once(func(p *parser, v string) { p.cfg.PresubFile = v }), "our own: subscriptions made by the broker", ""},
		"persistence_sync":   {global, works, setSync, "our own: `always`, `group` or `interval`, default group", ""},
		"max_queued_memory":  {global, works, ints(math.MaxInt64, func(p *parser, v int) { p.cfg.MaxQueuedMemory = int64(v) }), "our own: bytes of queued payloads kept in memory, 0 for all", ""},
		"max_subscriptions":  {global, works, ints(math.MaxInt32, func(p *parser, v int) { p.cfg.Options.MaxSubscriptions = v }), "our own: subscriptions that one client may have, 0 for no limit", ""},
		"other_user_session": {global, works, setOtherUsers, "our own: `fresh`, `refuse` or `resume`, for a client id of another user's session; default fresh", ""},
		"log_format":         {global, works, setLogFormat, "our own: `text`, or `json` with one object a line", ""},
	}
}

// bridgeDirectives adds the rows of connections to other brokers.
func bridgeDirectives(t map[string]directive) {
	t["connection"] = directive{global, later, addBridge, "read and checked with all its options", ""}
	text := func(name string, to func(*Bridge) *string) directive {
		return directive{bridge, later, bridgeText(name, to), "", ""}
	}
	row := func(set func(*parser, arg) error) directive { return directive{bridge, later, set, "", ""} }
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
