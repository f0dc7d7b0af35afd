package bolt

import "io"

// SetFaulty makes all writes of pages go through what f makes of the file.
func (o *Options) SetFaulty(f func(io.WriterAt) io.WriterAt) { o.faulty = f }
