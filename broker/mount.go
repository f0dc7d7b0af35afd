package broker

import (
	"bytes"
	"slices"

	"noctule/broker/message"
	"noctule/codec"
)

// A listener's mount point stands before each topic and filter of its clients, without a slash of its own,
// and is taken off what is delivered to them. Inside, everything has its full name; ACLs see it too.

// topicMax is the longest topic, in bytes, the mount point included.
const topicMax = 65535

// mount is the mount point of a client, mostly empty.
func (c *client) mount() string {
	if r := c.rights(); r != nil {
		return r.MountPoint
	}
	return ""
}

// mounted is the full name of a client's filter. The share name stays in front.
func (c *client) mounted(filter []byte) []byte {
	mount := c.mount()
	if mount == "" {
		return filter
	}
	at := 0
	if _, name, shared := codec.SplitShare(filter); shared {
		at = len(filter) - len(name)
	}
	return slices.Concat(filter[:at], []byte(mount), filter[at:])
}

// mountTopic gives m its full name, in a buffer of the shard's.
func (s *shard) mountTopic(mount string, m *message.Message) error {
	if len(mount)+len(m.Topic) > topicMax {
		return &codec.Error{
			Reason: codec.TopicNameInvalid, Packet: codec.PUBLISH, Detail: "too long with the mount point",
		}
	}
	s.topic = append(append(s.topic[:0], mount...), m.Topic...)
	m.Topic = s.topic
	return nil
}

// unmount returns heads for the message of h as clients of a mount point see it; false when nothing of the
// topic is left.
func (s *shard) unmount(h *message.Heads, mount string) (*message.Heads, bool) {
	rest, ok := bytes.CutPrefix(h.Message().Topic, []byte(mount))
	if !ok { // queued before the mount point changed
		return h, true
	}
	s.bare = *h.Message()
	s.bare.Topic = rest
	s.stripped.Reset(&s.bare, s.loop.Now())
	return &s.stripped, len(rest) > 0
}
