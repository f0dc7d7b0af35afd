//go:build !windows

package logs

import (
	"io"
	"log/syslog"
)

// openSyslog connects to the local syslog as "mosquitto", facility local0 to local7.
func openSyslog(facility int) (io.Writer, error) {
	return syslog.New(syslog.LOG_LOCAL0+syslog.Priority(facility<<3)|syslog.LOG_NOTICE, "mosquitto")
}
