//go:build !windows

package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"

	"noctule/broker/brokertest"
	"noctule/codec"
)

// max_queued_memory: 20 000 messages of 1 KB under a bound of 1 MB arrive in order, after a kill as well, and
// are on disk until then.
func TestQueueOnDiskSurvivesAKill(t *testing.T) {
	const n, size, bound = 20000, 1024, 1 << 20
	port, admin, dir := freePort(t), freePort(t), t.TempDir()
	conf := persistent(port, dir) + fmt.Sprintf(
		"max_queued_messages 0\nmax_queued_memory %d\nadmin_listener 127.0.0.1:%d\n", bound, admin)
	addr := fmt.Sprint("127.0.0.1:", port)
	kept := func(p *codec.Connect) { p.CleanStart = false }
	body := func(i int) string { return fmt.Sprintf("%0*d", size, i) }
	p := startBroker(t, conf)
	sub := brokertest.Connect(t, addr, "sub", codec.V311, kept)
	sub.Subscribe("t", 1)
	sub.Disconnect()
	pub := brokertest.Connect(t, addr, "pub", codec.V311, nil)
	for at := 0; at < n; at += 100 {
		for i := at; i < at+100; i++ {
			pub.Publish("t", body(i), 1, uint16(1+i%1000))
		}
		for range 100 {
			pub.Want(codec.PUBACK, nil)
		}
	}
	inMemory := func() {
		t.Helper()
		all, disk := metric(t, admin, "queued_bytes"), metric(t, admin, "queued_disk_bytes")
		if all != n*size || all-disk > bound {
			t.Errorf("%d bytes queued, %d of them on disk", all, disk)
		}
	}
	inMemory()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // it was killed
	startBroker(t, conf)
	inMemory()
	sub = brokertest.Connect(t, addr, "sub", codec.V311, kept)
	for i := range n {
		m := sub.WantPublish("t", body(i))
		sub.Ack(codec.PUBACK, m.PacketID)
	}
	sub.WantNothing()
}

// metric is a number of the broker's metrics.
func metric(t *testing.T, port int, name string) int64 {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^noctule_` + name + ` ([0-9.e+]+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no %s in %s", name, text)
	}
	v, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(v)
}
