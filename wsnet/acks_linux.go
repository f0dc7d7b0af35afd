package wsnet

import "golang.org/x/sys/unix"

// delayAcks tells the kernel that a socket of this loop is an interactive one.
func (p *epoll) delayAcks(fd int) {
	if fd < len(p.slots) && p.slots[fd] != nil && p.slots[fd].port != 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) // without it all works as well
	}
}
