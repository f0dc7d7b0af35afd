/*
 * What no broker can be cheaper than when messages come one by one: it blocks in epoll_wait, reads, and sends
 * the bytes on, with one system call each. It has no index, sessions, limits or timers. It speaks as much of
 * MQTT 3.1.1 as the scenario "pairs" needs: a topic's last digits are its subscriber's number, QoS is 0, and a
 * packet that does not come whole with its read ends the connection.
 *
 *     floor-peer PORT        listens on 127.0.0.1
 *     floor-peer version
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_NUMBER = 1 << 20 };

static int subscriber[MAX_NUMBER]; /* file descriptor by number; 0: none */

static unsigned number(const unsigned char *topic, unsigned length)
{
	unsigned n = 0, i = length;
	while (i > 0 && topic[i - 1] >= '0' && topic[i - 1] <= '9')
		i--;
	for (; i < length; i++)
		n = n * 10 + (topic[i] - '0');
	return n % MAX_NUMBER;
}

/* packet handles one packet: p is the whole of it, body its variable header. */
static void packet(int fd, const unsigned char *p, unsigned size, const unsigned char *body)
{
	unsigned char suback[] = {0x90, 3, body[0], body[1], 0};
	switch (p[0] >> 4) {
	case 1:
		send(fd, "\x20\x02\x00\x00", 4, MSG_NOSIGNAL);
		break;
	case 3: {
		int to = subscriber[number(body + 2, body[0] << 8 | body[1])];
		if (to > 0)
			send(to, p, size, MSG_NOSIGNAL);
		break;
	}
	case 8:
		subscriber[number(body + 4, body[2] << 8 | body[3])] = fd;
		send(fd, suback, sizeof suback, MSG_NOSIGNAL);
		break;
	case 12:
		send(fd, "\xd0\x00", 2, MSG_NOSIGNAL);
		break;
	}
}

/* input handles what one read gave; 0 when the connection must end. */
static int input(int fd, const unsigned char *b, unsigned n)
{
	while (n > 0) {
		unsigned length = 0, head = 1, shift = 0;
		do {
			if (head >= n || shift > 21)
				return 0;
			length |= (b[head] & 127u) << shift;
			shift += 7;
		} while (b[head++] & 128);
		if (length > n - head || (b[0] >> 4 != 14 && b[0] >> 4 != 12 && length < 2))
			return 0;
		packet(fd, b, head + length, b + head);
		b += head + length;
		n -= head + length;
	}
	return 1;
}

int main(int argc, char **argv)
{
	static unsigned char buffer[64 << 10];
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct epoll_event events[256], e = {.events = EPOLLIN};
	int one = 1, epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);

	if (argc == 2 && strcmp(argv[1], "version") == 0) {
		puts("copies bytes, " __VERSION__);
		return 0;
	}
	if (argc != 2 || epoll < 0 || listener < 0)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	address.sin_port = htons(atoi(argv[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
		return perror("floor-peer"), 1;
	e.data.fd = listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		int n = epoll_wait(epoll, events, 256, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				fd = accept(listener, NULL, NULL);
				if (fd < 0)
					continue;
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				e.data.fd = fd;
				epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
				continue;
			}
			ssize_t got = read(fd, buffer, sizeof buffer);
			if (got <= 0 || !input(fd, buffer, got))
				close(fd);
		}
	}
}
