//go:build !windows

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"noctule/cmd/internal/rtmin"
)

// tasks are the signals that ask for something else than the end.
func tasks() []os.Signal {
	list := []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}
	if runtime.GOOS == "linux" {
		list = append(list, rtminMusl)
	}
	return list
}

// SIGRTMIN is 34 with glibc and 35 with musl: scripts send what their own system calls so. Others have no
// real-time signals that Mosquitto would listen to.
const (
	rtminGlibc = syscall.Signal(34)
	rtminMusl  = syscall.Signal(35)
)

// notifyReopen asks for the signal that os/signal does not deliver.
func notifyReopen(c chan<- os.Signal) error {
	err := rtmin.Notify(c)
	if errors.Is(err, rtmin.ErrUnsupported) {
		return nil
	}
	return err
}

// taskOf is what a signal asks for.
func taskOf(s os.Signal) task {
	switch s {
	case syscall.SIGHUP:
		return taskReload
	case syscall.SIGUSR1:
		return taskSave
	case syscall.SIGUSR2:
		return taskTree
	case rtminGlibc, rtminMusl:
		return taskReopen
	default:
		return taskNone
	}
}

// ignoreBrokenPipes keeps the program alive when nobody reads its output any more.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// daemonMark is in the environment of the process in the background.
const daemonMark = "NOCTULE_DAEMON"

// isDaemon reports whether this is the process in the background. The mark goes: it is not for programs that
// this one starts.
func isDaemon() bool {
	on := os.Getenv(daemonMark) != ""
	_ = os.Unsetenv(daemonMark) // it fails for names that are none
	return on
}

// daemonise starts the program again in a session of its own, with nothing on its standard streams. It
// keeps its name, which tools look for.
func daemonise() error {
	exe, err := exec.LookPath(os.Args[0])
	if err != nil {
		if exe, err = os.Executable(); err != nil {
			return err
		}
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), daemonMark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// setUmask follows UMASK_SET, an octal number.
func setUmask() error {
	text := os.Getenv("UMASK_SET")
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 8, 9)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("UMASK_SET environment variable out of range.")
	case err != nil:
		return errors.New("UMASK_SET environment variable not a valid octal number.")
	}
	syscall.Umask(int(n))
	return nil
}

// identity is the user to become.
type identity struct {
	name     string // "" keeps the user
	uid, gid int
	groups   []int // supplementary ones
}

// identify looks up whom a program that was started as root is to become: PUID and PGID, or the configured
// user. A missing default user "mosquitto" is replaced by "nobody". A snap keeps its user.
func identify(name string) (identity, error) {
	if os.Geteuid() != 0 || os.Getenv("SNAP_NAME") == "mosquitto" {
		return identity{}, nil
	}
	uid, hasUID, err := idFrom("PUID")
	if err != nil {
		return identity{}, err
	}
	gid, hasGID, err := idFrom("PGID")
	switch {
	case err != nil:
		return identity{}, err
	case hasUID && hasGID:
		return identity{name: strconv.Itoa(uid), uid: uid, gid: gid}, nil
	case name == "root" && !hasUID && !hasGID:
		return identity{}, nil
	}
	who, err := lookup(name)
	if err != nil {
		return who, err
	}
	if hasUID {
		who.uid = uid
	}
	if hasGID {
		who.gid = gid
	}
	return who, nil
}

// idFrom is a number in the environment, if it is there.
func idFrom(name string) (n int, ok bool, err error) {
	text := os.Getenv(name)
	if text == "" {
		return 0, false, nil
	}
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 0 {
		return 0, false, fmt.Errorf("%s not a valid ID '%s'", name, text)
	}
	return int(id), true, nil
}

// lookup finds a user with its groups.
func lookup(name string) (who identity, err error) {
	u, err := user.Lookup(name)
	if err != nil && name == "mosquitto" {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return who, fmt.Errorf("Unable to drop privileges to '%s' because this user does not exist.", name)
	}
	who.name = u.Username
	if who.uid, err = strconv.Atoi(u.Uid); err != nil {
		return who, fmt.Errorf("user %s: %w", name, err)
	}
	if who.gid, err = strconv.Atoi(u.Gid); err != nil {
		return who, fmt.Errorf("user %s: %w", name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return who, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, g := range groups {
		n, err := strconv.Atoi(g)
		if err != nil {
			return who, fmt.Errorf("groups of %s: %w", name, err)
		}
		who.groups = append(who.groups, n)
	}
	return who, nil
}

// become drops privileges, for good.
func (who identity) become() error {
	if who.name == "" {
		return nil
	}
	if err := syscall.Setgroups(who.groups); err != nil {
		return fmt.Errorf("Error setting groups whilst dropping privileges: %w.", err)
	}
	if err := syscall.Setgid(who.gid); err != nil {
		return fmt.Errorf("Error setting gid whilst dropping privileges: %w.", err)
	}
	if err := syscall.Setuid(who.uid); err != nil {
		return fmt.Errorf("Error setting uid whilst dropping privileges: %w.", err)
	}
	return nil
}

// ownAs gives a file that root has made the owner that the first of the others that is there has: a broker
// that does not run as root could not open it otherwise.
func ownAs(file string, others ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range others {
		if info, err := os.Stat(name); err == nil {
			st, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return nil
			}
			return os.Chown(file, int(st.Uid), int(st.Gid))
		}
	}
	return nil
}
