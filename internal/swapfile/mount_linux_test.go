package swapfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A file that is mounted by itself cannot be renamed over. The test runs itself again in a name space of mounts
// of its own, for which it must be root.
func TestReplaceMounted(t *testing.T) {
	if os.Getenv("SWAPFILE_MOUNTED") == "" {
		if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
			t.Skip("needs unshare -m: ", err)
		}
		cmd := exec.Command("unshare", "-m", os.Args[0], "-test.run=^TestReplaceMounted$", "-test.v")
		cmd.Env = append(os.Environ(), "SWAPFILE_MOUNTED=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	outside, path := filepath.Join(t.TempDir(), "outside"), filepath.Join(t.TempDir(), "f")
	write(t, outside, "old")
	write(t, path, "below")
	if out, err := exec.Command("mount", "--bind", outside, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("umount", path).Run()
	write(t, path+".new", "the new content")
	if err := os.Rename(path+".new", path); err == nil || !inPlace(err) {
		t.Fatalf("a rename over a mounted file: %v", err)
	}
	if err := Replace(path+".new", path); err != nil {
		t.Fatal(err)
	}
	only(t, path, "the new content")
	only(t, outside, "the new content")
}
