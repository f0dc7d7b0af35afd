package wsnet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestVacant(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		network, address string
		want             error
	}{
		{"tcp4", "127.0.0.1:0", nil},
		{"tcp4", "0.0.0.0:0", nil},
		{"tcp", ":0", nil},
		{"tcp4", "192.0.2.1:1883", syscall.EADDRNOTAVAIL},
		{"unix", filepath.Join(dir, "new"), nil},
		{"unix", file, syscall.EADDRINUSE},
		{"unix", filepath.Join(dir, "no", "s"), os.ErrNotExist},
		{"unix", filepath.Join(dir, strings.Repeat("x", 108)), syscall.EINVAL},
	} {
		if err := Vacant(tt.network, tt.address); !errors.Is(err, tt.want) {
			t.Errorf("%s %s: %v, want %v", tt.network, tt.address, err, tt.want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("it leaves %v %v", entries, err)
	}
}

// TestVacantOwn probes what a server of ours listens on: it is in use, and goes on.
func TestVacantOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	over(t, Config{Loops: 2}, script{}, func(t *testing.T, r *rig) {
		for _, cfg := range []ListenerConfig{loopback(), {Network: "unix", Address: path}} {
			ln, err := r.Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var want error = syscall.EADDRINUSE
			if cfg.Network == "unix" {
				want = nil // it would be taken over
			}
			if err := Vacant(cfg.Network, ln.Addr().String()); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", ln.Addr(), err, want)
			}
			r.conn(t, dial(t, ln.Addr()))
		}
	})
}
