package admin

import "noctule/broker"

// addHashing adds what checking passwords takes; its arguments add one metric each.
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
}
