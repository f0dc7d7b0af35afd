//go:build !windows

package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// daemonMark is in the environment of the process in the background.
const daemonMark = "NOCTULE_DAEMON"

func isDaemon() bool { return os.Getenv(daemonMark) != "" }

// daemonise starts the program again in a session of its own, with nothing on its standard streams.
func daemonise(stderr io.Writer) int {
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return exitListener
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), daemonMark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return exitListener
	}
	return exitOK
}

// dropPrivileges becomes another user when started as root: PUID and PGID, or the configured one. A missing
// default user "mosquitto" is replaced by "nobody", as Mosquitto does.
func dropPrivileges(name string, log *slog.Logger) error {
	if os.Geteuid() != 0 || name == "root" || name == "" {
		return nil
	}
	uid, gid, err := ids(name)
	if err != nil {
		return err
	}
	if err := syscall.Setgroups([]int{}); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("setgid: %w", err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("setuid: %w", err)
	}
	log.Info("Info: running mosquitto as user: " + name + ".")
	return nil
}

func ids(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil && name == "mosquitto" {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("Invalid user '%s'.", name)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return 0, 0, err
	}
	if n, err := strconv.Atoi(os.Getenv("PUID")); err == nil {
		uid = n
	}
	if n, err := strconv.Atoi(os.Getenv("PGID")); err == nil {
		gid = n
	}
	return uid, gid, nil
}
