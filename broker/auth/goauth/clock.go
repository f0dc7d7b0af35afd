package goauth

import "time"

// now is the time by which rights get old.
func now() time.Time { return time.Now() }
