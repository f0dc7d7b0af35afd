package fanout

// Options are the subscription options of MQTT 5 (3.8.3.1) in one byte, without Retain Handling, which is for
// the SUBSCRIBE only.
type Options uint8

// The bits of Options.
const (
	QoSMask           Options = 3
	NoLocal           Options = 4
	RetainAsPublished Options = 8
	Covered           Options = 16 // ours: what matches may be read, nobody needs to be asked

	// Stored is what a client asks for. The rest is worked out anew when it connects.
	Stored = QoSMask | NoLocal | RetainAsPublished
)

// NewOptions puts options together.
func NewOptions(qos uint8, noLocal, retainAsPublished bool) Options {
	o := Options(qos) & QoSMask
	if noLocal {
		o |= NoLocal
	}
	if retainAsPublished {
		o |= RetainAsPublished
	}
	return o
}

// QoS is the maximum QoS.
func (o Options) QoS() uint8 { return uint8(o & QoSMask) }

// Has reports whether a bit is set.
func (o Options) Has(bit Options) bool { return o&bit != 0 }
