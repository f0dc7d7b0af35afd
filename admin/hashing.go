package admin

import "noctule/broker"

// addHashing adds what clients wait for before they are let in; its arguments add one metric each.
func addHashing(gauge, count func(name, help string, f func(*broker.Metrics) int64)) {
	type m = broker.Metrics
	gauge("logins_waiting", "Logins that wait for their password to be checked.",
		func(m *m) int64 { return int64(m.Hashing.Waiting) })
	gauge("login_addresses_remembered", "Addresses with failed logins that are kept in mind.",
		func(m *m) int64 { return int64(m.Hashing.Remembered) })
	count("logins_checked_total", "Passwords checked.", func(m *m) int64 { return m.Hashing.Checked })
	count("logins_failed_total", "Passwords that were wrong.", func(m *m) int64 { return m.Hashing.Failed })
	count("logins_throttled_total", "Logins delayed because of their address's failures.",
		func(m *m) int64 { return m.Hashing.Throttled })
	count("logins_refused_total", "Logins refused because too many waited.",
		func(m *m) int64 { return m.Hashing.RefusedFull + m.Hashing.RefusedPeer })
	count("connections_gave_way_total", "Connections closed before CONNECT for those of other addresses.",
		func(m *m) int64 { return m.Net.GaveWay })
	gauge("input_bytes", "Packets that are not complete, of connections that hold 4 KiB or more.",
		func(m *m) int64 { return m.Net.InputBytes })
	count("connections_input_gave_way_total", "Connections that held most when all held too much.",
		func(m *m) int64 { return m.Net.InputGaveWay })
	gauge("admissions_waiting", "CONNECTs that wait for an answer: of a password, or a provider.",
		func(m *m) int64 { return int64(m.Admissions.Waiting) })
	count("admissions_refused_total", "CONNECTs refused because too many of their address or of all waited.",
		func(m *m) int64 { return m.Admissions.Refused })
	count("admissions_gave_way_total", "CONNECTs that waited and were refused for those of other addresses.",
		func(m *m) int64 { return m.Admissions.GaveWay })
}
