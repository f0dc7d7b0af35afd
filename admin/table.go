package admin

import (
	"time"

	"noctule/broker"
	logins "noctule/broker/auth/source"
	"noctule/broker/listener"
	"noctule/broker/presub"
	"noctule/internal/metric"
	"noctule/internal/version"
	"noctule/wsnet"
)

// Metrics is what /metrics of the broker shows beside what Go's own collectors do, for the document.
func Metrics() []metric.Group {
	var out []metric.Group
	for _, g := range tables() {
		x := metric.Group{Title: g.title}
		for i := range g.rows {
			x.Defs = append(x.Defs, g.rows[i].Def)
		}
		out = append(out, x)
	}
	return append(out, metric.Group{Title: "Sources of logins", Defs: logins.Metrics()},
		metric.Group{Title: "Providers of pre-subscription", Defs: presub.Metrics()})
}

// tables are all metrics, with the way each is read.
func tables() []group {
	return []group{
		{"The process", processTable()},
		{"Connections", connectionTable()},
		{"Logins", loginTable()},
		{"Sessions and subscriptions", sessionTable()},
		{"Messages", messageTable()},
		{"Event loops", loopTable()},
		{"Memory", memoryTable()},
		{"Persistent state", storeTable()},
	}
}

// ofListener is the label that tells listeners apart.
func ofListener() metric.Label {
	return metric.Label{
		Name: "listener", Help: "the address it listens on, or the path of its unix socket",
	}
}

// namesOf are the label values of a set of reasons.
func namesOf[R interface {
	~uint8
	String() string
}](n R) (names []string) {
	for r := range n {
		names = append(names, r.String())
	}
	return names
}

func processTable() []row {
	return []row{
		labelled("build_info", metric.Gauge,
			"Always 1; the labels tell noctule's version and commit, and the Go that built it.",
			[]metric.Label{
				{Name: "version", Help: "such as 0.1.0"},
				{Name: "commit", Help: "its first digits, or unknown"},
				{Name: "goversion", Help: "such as go1.26.0"},
			},
			func(_ *sample, put put) {
				i := version.Read()
				put(1, i.Version, i.Commit, i.Go)
			}),
		labelled("uptime_seconds", metric.Gauge, "Seconds since the broker started.", nil,
			func(s *sample, put put) { put(s.Uptime) }),
		labelled("config_last_reload_successful", metric.Gauge,
			"1 if the last attempt to read the configuration (the start counts as one) succeeded, 0 if "+
				"not: the configuration before it stays in force, or the log says what of the new one "+
				"does not work.", nil,
			func(s *sample, put put) {
				if !s.program.Configured.IsZero() {
					put(float64(bit(!s.program.ReloadFailed)))
				}
			}),
		labelled("config_last_reload_success_timestamp_seconds", metric.Gauge,
			"When the configuration in force was read: Unix time of the last successful reload, or of the "+
				"start.",
			nil, func(s *sample, put put) {
				if !s.program.Configured.IsZero() {
					put(unix(s.program.Configured))
				}
			}),
		labelled("tls_certificate_not_after_timestamp_seconds", metric.Gauge,
			"When the TLS certificate of a listener ends: Unix time, the earliest one of the chain it "+
				"shows. It moves with the reload that reads a new certificate.",
			[]metric.Label{ofListener()}, readCertificates),
		labelled("log_lines_dropped_total", metric.Counter,
			"Log lines lost because a log destination was slower than the lines came; the log says so "+
				"too.", nil,
			func(s *sample, put put) { put(float64(s.program.LogLinesDropped)) }),
		counter("sys_messages_dropped_total",
			"Log lines for topics (log_dest topic) lost because they came faster than they could be "+
				"published.",
			func(s *sample) int64 { return s.SysDropped }),
	}
}

// unix is a time in Unix seconds.
func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func readCertificates(s *sample, put put) {
	seen := map[string]bool{}
	for i := range s.Listeners {
		if l := &s.Listeners[i]; !l.CertificateEnd.IsZero() {
			seen[l.Name] = true
			put(unix(l.CertificateEnd), l.Name)
		}
	}
	for _, c := range s.program.Certificates {
		if !seen[c.Listener] && !c.End.IsZero() {
			seen[c.Listener] = true
			put(unix(c.End), c.Listener)
		}
	}
}

// eachListener reads one value of each listener.
func eachListener(value func(l *listener.Metrics) int64) func(*sample, put) {
	return func(s *sample, put put) {
		for i := range s.Listeners {
			put(float64(value(&s.Listeners[i])), s.Listeners[i].Name)
		}
	}
}

func versionNames() (names []string) {
	for i := range len(listener.Metrics{}.Connected) {
		names = append(names, listener.VersionText(i))
	}
	return names
}

// refusals are the causes that connections_refused_total tells; the others have metrics of their own.
func refusals() (causes []wsnet.RefusalCause) {
	for c := range wsnet.RefusalCauses {
		if c != wsnet.CauseTLS && c != wsnet.CauseGaveWay {
			causes = append(causes, c)
		}
	}
	return causes
}

func refusalNames() (names []string) {
	for _, c := range refusals() {
		names = append(names, c.String())
	}
	return names
}

func readRefusals(s *sample, put put) {
	for i := range s.Listeners {
		for _, c := range refusals() {
			put(float64(s.Listeners[i].Net.Refused[c]), s.Listeners[i].Name, c.String())
		}
	}
}

func readTLSFailures(s *sample, put put) {
	for i := range s.Listeners {
		for f, n := range s.Listeners[i].Net.TLS {
			put(float64(n), s.Listeners[i].Name, wsnet.TLSFailure(f).String())
		}
	}
}

func connectionTable() []row {
	by := []metric.Label{ofListener()}
	return []row{
		labelled("connections", metric.Gauge,
			"Clients that are connected: their CONNECT was accepted and their connection has not ended.",
			[]metric.Label{ofListener(), metric.Of("version", versionNames()...)},
			func(s *sample, put put) {
				for i := range s.Listeners {
					for v, n := range s.Listeners[i].Connected {
						put(float64(n), s.Listeners[i].Name, listener.VersionText(v))
					}
				}
			}),
		labelled("sockets", metric.Gauge,
			"Open sockets of clients, from accept to close: with those that have not sent CONNECT "+
				"yet.", by,
			eachListener(func(l *listener.Metrics) int64 { return l.Net.Open })),
		labelled("connections_accepted_total", metric.Counter,
			"Sockets accepted, before TLS handshake, WebSocket upgrade and CONNECT.", by,
			eachListener(func(l *listener.Metrics) int64 { return l.Net.Accepted })),
		labelled("connections_refused_total", metric.Counter,
			"Sockets closed before CONNECT: because of a limit, a PROXY header, or a WebSocket request "+
				"that is not acceptable, or because PROXY header, TLS handshake and WebSocket request "+
				"took longer than 10 s (timeout). Other failures of TLS handshakes and connections that "+
				"give way are counted apart.",
			[]metric.Label{ofListener(), metric.Of("reason", refusalNames()...)},
			readRefusals),
		labelled("tls_handshake_failures_total", metric.Counter,
			"TLS handshakes that came to nothing. server_certificate: the client does not accept the "+
				"listener's; client_certificate: the listener does not accept the client's, or there is "+
				"none. Who connects and closes without sending a byte is not counted.",
			[]metric.Label{ofListener(), metric.Of("reason", namesOf(wsnet.TLSFailures)...)},
			readTLSFailures),
		counter("connections_gave_way_total",
			"Connections closed before CONNECT to make room for those of other addresses, when too many "+
				"were open that had not sent it.",
			func(s *sample) int64 { return s.Net.GaveWay }),
		counter("connects_total", "CONNECT packets that could be read, accepted or not.",
			func(s *sample) int64 { return s.Connects }),
		labelled("connects_refused_total", metric.Counter,
			"Connections that did not become a client's: their CONNECT was refused, another packet came "+
				"first, or none in time.",
			[]metric.Label{metric.Of("reason", namesOf(broker.RefusalReasons)...)},
			func(s *sample, put put) {
				for r, n := range s.ConnectsRefused {
					put(float64(n), broker.RefusalReason(r).String())
				}
			}),
		labelled("disconnects_total", metric.Counter,
			"Ends of clients' connections, by who or what ended them. client is a DISCONNECT packet, "+
				"connection_lost a connection that closed or broke without one.",
			[]metric.Label{metric.Of("reason", namesOf(broker.EndReasons)...)},
			func(s *sample, put put) {
				for r, n := range s.Disconnects {
					put(float64(n), broker.EndReason(r).String())
				}
			}),
	}
}

func loginTable() []row {
	return []row{
		gauge("logins_waiting", "Logins that wait for their password to be hashed and compared.",
			func(s *sample) int64 { return int64(s.Hashing.Waiting) }),
		gauge("login_addresses_remembered",
			"Addresses whose failed logins are kept in mind, to slow their next ones down.",
			func(s *sample) int64 { return int64(s.Hashing.Remembered) }),
		counter("logins_checked_total", "Passwords hashed and compared, right and wrong.",
			func(s *sample) int64 { return s.Hashing.Checked }),
		counter("logins_failed_total", "Passwords that were wrong, and user names that do not exist.",
			func(s *sample) int64 { return s.Hashing.Failed }),
		counter("logins_throttled_total",
			"Logins that had to wait longer because their address had failed before.",
			func(s *sample) int64 { return s.Hashing.Throttled }),
		counter("logins_refused_total",
			"Logins refused without looking at the password because too many waited, of all or of their "+
				"address.",
			func(s *sample) int64 { return s.Hashing.RefusedFull + s.Hashing.RefusedPeer }),
		gauge("bans", "Entries of the table of who may not be here.",
			func(s *sample) int64 { return int64(s.Denials.Entries) }),
		counter("bans_matched_total",
			"Logins refused because their user, client id, address or token is in that table.",
			func(s *sample) int64 { return s.Denials.Denied }),
		counter("bans_refused_total", "Entries that were not taken into that table, since it was full.",
			func(s *sample) int64 { return s.Denials.Refused }),
		gauge("admissions_waiting",
			"Clients whose CONNECT waits for an answer: of the password check, or of a provider of topic "+
				"lists.",
			func(s *sample) int64 { return int64(s.Admissions.Waiting) }),
		counter("admissions_refused_total",
			"Clients refused (server busy) because too many, of their address or in all, waited for the "+
				"answer to their CONNECT.",
			func(s *sample) int64 { return s.Admissions.Refused }),
		counter("admissions_gave_way_total",
			"Clients that waited for the answer to their CONNECT and were refused (server busy) to make "+
				"room for those of other addresses.",
			func(s *sample) int64 { return s.Admissions.GaveWay }),
	}
}

func sessionTable() []row {
	return []row{
		gauge("sessions", "Sessions, of connected clients and of those that may come back to them.",
			func(s *sample) int64 { return s.Sessions }),
		counter("sessions_expired_total",
			"Sessions that ended because their client did not come back within the session's expiry "+
				"interval.",
			func(s *sample) int64 { return s.SessionsExpired }),
		gauge("subscriptions", "Subscriptions of all sessions, without shared ones.",
			func(s *sample) int64 { return s.Subscriptions }),
		gauge("shared_subscriptions", "Memberships of sessions in shared subscriptions ($share/...).",
			func(s *sample) int64 { return s.SharedSubscriptions }),
		counter("subscriptions_refused_total",
			"Topic filters of SUBSCRIBE packets refused because of max_subscriptions or memory_limit.",
			func(s *sample) int64 { return s.SubscriptionsRefused }),
		gauge("granted_subscriptions", "Subscriptions that servers have made on behalf of sessions.",
			func(s *sample) int64 { return s.Granted }),
		gauge("subscription_sets",
			"Different lists of topics by which servers have subscribed sessions, counted for each event "+
				"loop.",
			func(s *sample) int64 { return s.Sets }),
		gauge("pending_requests",
			"Requests to subscribe clients that have no session, which wait for them to connect.",
			func(s *sample) int64 { return s.PendingRequests }),
		counter("pending_requests_expired_total",
			"Requests to subscribe clients that have no session, given up because the client did not "+
				"connect in time.",
			func(s *sample) int64 { return s.PendingExpired }),
	}
}

func messageTable() []row {
	return []row{
		counter("packets_received_total", "MQTT packets received from clients, of every type.",
			func(s *sample) int64 { return s.PacketsReceived }),
		counter("packets_sent_total", "MQTT packets sent to clients, of every type.",
			func(s *sample) int64 { return s.PacketsSent }),
		counter("received_bytes_total",
			"Bytes of MQTT packets received, without what WebSocket, TLS and TCP add to them.",
			func(s *sample) int64 { return s.BytesReceived }),
		counter("sent_bytes_total",
			"Bytes of MQTT packets sent, without what WebSocket, TLS and TCP add to them.",
			func(s *sample) int64 { return s.BytesSent }),
		counter("messages_received_total", "PUBLISH packets received from clients.",
			func(s *sample) int64 { return s.PublishReceived }),
		counter("messages_sent_total", "PUBLISH packets sent to clients, one for each receiver of a message.",
			func(s *sample) int64 { return s.PublishSent }),
		counter("message_received_bytes_total", "Payload bytes of PUBLISH packets received.",
			func(s *sample) int64 { return s.PublishBytesReceived }),
		counter("message_sent_bytes_total", "Payload bytes of PUBLISH packets sent.",
			func(s *sample) int64 { return s.PublishBytesSent }),
		labelled("messages_dropped_total", metric.Counter,
			"Messages that one receiver did not get, counted once for each receiver; those that nobody "+
				"may get (denied to their publisher) once.",
			[]metric.Label{metric.Of("reason", namesOf(broker.DropReasons)...)},
			func(s *sample, put put) {
				for r, n := range s.Dropped {
					put(float64(n), broker.DropReason(r).String())
				}
			}),
		gauge("inflight_messages",
			"QoS 1 and 2 messages sent to clients that have not acknowledged them yet.",
			func(s *sample) int64 { return s.InflightMessages }),
		gauge("queued_messages",
			"Messages that wait in sessions for their client to connect, or to acknowledge earlier ones.",
			func(s *sample) int64 { return s.QueuedMessages }),
		gauge("queued_bytes", "Payload bytes of the messages that wait in sessions, once for each session.",
			func(s *sample) int64 { return s.QueuedBytes }),
		gauge("queued_disk_bytes",
			"Payload bytes of messages waiting in sessions that are on disk only, because of "+
				"max_queued_memory.",
			func(s *sample) int64 { return s.QueuedDiskBytes }),
		gauge("queue_reads_waiting", "Sessions that wait for messages to be read from disk for their client.",
			func(s *sample) int64 { return s.QueueReads }),
		gauge("retained_messages", "Retained messages, those below $SYS included.",
			func(s *sample) int64 { return s.Retained }),
		gauge("retained_bytes", "Payload bytes of retained messages.",
			func(s *sample) int64 { return s.RetainedBytes }),
	}
}

func loopTable() []row {
	return []row{
		{
			Def: metric.Def{
				Name: prefix + "loop_lag_seconds", Kind: metric.Histogram,
				Help: "How long what is ready to be handled waits for its event loop, in seconds, by " +
					"probes that are sent to one loop after another ten times a second. Milliseconds " +
					"under load are well; more than a tenth of a second delays clients.",
			},
			histogram: func(s *sample) histograms {
				h := &s.Net.LoopLag
				return histograms{h.Total(), h.Sum, h.Cumulative()}
			},
		},
		counter("loop_turns_total", "Turns of all event loops; each reads and writes what is ready.",
			func(s *sample) int64 { return s.Net.Turns }),
		counter("socket_reads_total", "Read system calls on clients' sockets.",
			func(s *sample) int64 { return s.Net.Reads }),
		counter("socket_writes_total", "Write system calls on clients' sockets.",
			func(s *sample) int64 { return s.Net.Writes }),
	}
}

func memoryTable() []row {
	return []row{
		gauge("memory_used_bytes", "Memory of the process as memory_limit counts it, in bytes.",
			func(s *sample) int64 { return s.MemoryUsed }),
		gauge("memory_limit_bytes", "The value of memory_limit in bytes, 0 without a limit.",
			func(s *sample) int64 { return s.MemoryLimit }),
		gauge("memory_short", "1 while memory_limit has new clients and messages refused, 0 otherwise.",
			func(s *sample) int64 { return bit(s.MemoryShort) }),
		gauge("input_bytes",
			"Bytes received of packets that are not complete yet, of the connections that hold 4 KiB or "+
				"more.",
			func(s *sample) int64 { return s.Net.InputBytes }),
		counter("connections_input_gave_way_total",
			"Connections closed because all together held too many bytes of incomplete packets, and they "+
				"most.",
			func(s *sample) int64 { return s.Net.InputGaveWay }),
	}
}

func storeTable() []row {
	return []row{
		gauge("store_failing",
			"1 while persistent state cannot be written: what needs it is refused, and /readyz fails. 0 "+
				"otherwise.",
			func(s *sample) int64 { return bit(s.Store.Failing) }),
		counter("store_errors_total", "Attempts to write persistent state that failed; each is made again.",
			func(s *sample) int64 { return s.Store.Errors }),
		gauge("store_pending_bytes", "Bytes of changes of persistent state that are not on disk yet.",
			func(s *sample) int64 { return s.Store.Pending }),
		counter("store_posts_total",
			"Groups of changes of persistent state, one for each turn of an event loop that made any.",
			func(s *sample) int64 { return s.Store.Posts }),
		counter("store_written_bytes_total", "Bytes of changes of persistent state that were written.",
			func(s *sample) int64 { return s.Store.Bytes }),
		{
			Def: metric.Def{
				Name: prefix + "store_commit_seconds", Kind: metric.Histogram,
				Help: "How long it took to write one group of changes of persistent state to disk, in " +
					"seconds. Acknowledgements of QoS 1 and 2 to and from durable sessions wait for it.",
			},
			histogram: func(s *sample) histograms {
				st := &s.Store
				return histograms{uint64(st.Commits), st.Seconds, st.Latency()}
			},
		},
		labelled("store_file_lost_total", metric.Counter,
			"How often the file of persistent state was found removed or replaced while it was in use; "+
				"the log says what to do then.", nil,
			func(s *sample, put put) {
				if s.program.StoreFile {
					put(float64(s.program.StoreFileLost))
				}
			}),
	}
}
