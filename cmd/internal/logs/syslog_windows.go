package logs

import "errors"

func openSyslog(int) (system, error) {
	return nil, errors.New("log_dest syslog: there is none on Windows")
}
