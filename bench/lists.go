//go:build linux

package bench

import "fmt"

// Lists is n clients of which each has one of about a thousand lists of topics: which one the last three
// digits
// of its number say. With own they subscribe to it in one SUBSCRIBE; else the broker has to have been told to
// subscribe them, and they only connect.
func (l Load) Lists(n, topics int, own bool) Plan {
	g := Group{Name: "clients", Count: n, SubQoS: l.QoS}
	if own {
		g.Filters = func(i int) []string {
			list := make([]string, topics)
			for k := range list {
				list[k] = fmt.Sprintf("/e/%s/im/g/%d", listOf(i), k)
			}
			return list
		}
	}
	return l.plan("lists", g)
}

// listOf is the name of a client's list.
func listOf(i int) string {
	s := fmt.Sprint(i)
	return s[max(0, len(s)-3):]
}
