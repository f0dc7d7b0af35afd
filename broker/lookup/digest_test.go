package lookup

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestDigest: the first line at once, then one in ten seconds with how many there were, none when there is nothing.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		begun := time.Now()
		d := NewDigest(func(line string, more int) {
			said = append(said, fmt.Sprintf("%v %s+%d", time.Since(begun), line, more))
		})
		d.Add("a")
		time.Sleep(5 * time.Millisecond) // of the bubble
		for i := range 2500 {            // 25 s
			d.Add(fmt.Sprint("a", i))
			time.Sleep(10 * time.Millisecond) // of the bubble
		}
		time.Sleep(time.Minute) // of the bubble
		d.Add("b")
		d.Add("c")
		d.Close()
		d.Close()
		d.Add("d")
		time.Sleep(time.Minute) // of the bubble
		want := "[0s a+0 10s a999+999 20s a1999+999 30s a2499+499 1m25.005s b+0 1m25.005s c+0]"
		if got := fmt.Sprint(said); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
