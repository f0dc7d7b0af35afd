//go:build !windows

package logs

import (
	"log/slog"
	"log/syslog"

	"noctule/broker"
)

// unixSyslog is the local syslog.
type unixSyslog struct{ w *syslog.Writer }

// openSyslog connects to the local syslog as "mosquitto"; facility is 0 to 7 for local0 to local7, -1 for
// daemon.
func openSyslog(facility int) (system, error) { return dialSyslog("", "", facility) }

// dialSyslog is openSyslog at an address; "" is the local one.
func dialSyslog(network, address string, facility int) (system, error) {
	f := syslog.LOG_DAEMON
	if facility >= 0 {
		f = syslog.LOG_LOCAL0 + syslog.Priority(facility<<3)
	}
	w, err := syslog.Dial(network, address, f, "mosquitto")
	if err != nil {
		return nil, err
	}
	return unixSyslog{w}, nil
}

func (s unixSyslog) log(level slog.Level, line string) error {
	switch {
	case level >= broker.LevelError:
		return s.w.Err(line)
	case level >= broker.LevelWarning:
		return s.w.Warning(line)
	case level >= broker.LevelNotice, level == broker.LevelSubscribe, level == broker.LevelUnsubscribe:
		return s.w.Notice(line)
	case level >= broker.LevelInfo:
		return s.w.Info(line)
	default:
		return s.w.Debug(line)
	}
}

func (s unixSyslog) close() error { return s.w.Close() }
