package wsnet

import "time"

// unixMilli is the only reading of the clock in this package.
func unixMilli() int64 { return time.Now().UnixMilli() }

// monotonic measures turns.
func monotonic() time.Time { return time.Now() }
