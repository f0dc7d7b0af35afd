package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"noctule/broker"
)

// notify tells systemd, if it started the program with Type=notify, how the program is: see sd_notify(3).
func notify(state string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	c, err := net.Dial("unixgram", address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the datagram is sent
	_, err = c.Write([]byte(state))
	return err
}

// watchdogPeriod is half the time after which systemd takes the program for dead; 0 if it does not watch.
func watchdogPeriod() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // it is meant for another process
	}
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us <= 0 {
		return 0
	}
	return time.Duration(us) * time.Microsecond / 2
}

// watchdog tells systemd that the broker lives, as long as all of its loops answer. It returns when ctx is
// done.
func watchdog(ctx context.Context, b *broker.Broker) {
	period := watchdogPeriod()
	if period == 0 {
		return
	}
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, period)
		b.Metrics(asked)
		if asked.Err() == nil {
			_ = notify("WATCHDOG=1") // systemd will see
		}
		cancel()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
