package presub

import (
	"fmt"
	"strings"
)

// Names of clients are theirs to choose, and the request that a webservice gets has the broker's token: so a
// name may fill its place in a path and no more, whatever proxies on the way make of dots and slashes.

// splitURL cuts a template into what is before the path, and the path without a query.
func splitURL(template string) (server, path string) {
	at := 0
	if i := strings.Index(template, "://"); i >= 0 {
		at = i + len("://")
	}
	end := strings.IndexAny(template[at:], "/?#")
	if end < 0 {
		return template, ""
	}
	server, path = template[:at+end], template[at+end:]
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	return server, path
}

// checkNames reports why the names of a client cannot be put into the path of a template: one has a slash, or
// makes a step of the path that is empty, "." or "..".
func checkNames(template string, c *Client) error {
	_, path := splitURL(template)
	names := strings.NewReplacer("%c", c.ID, "%u", c.Username, "%e", c.Tenant)
	for step := range strings.SplitSeq(path, "/") {
		if !placeholders(step) {
			continue
		}
		x := names.Replace(step)
		if x == "" || x == "." || x == ".." || strings.ContainsAny(x, `/\`) {
			return fmt.Errorf("the name %q cannot be in the path of a URL", x)
		}
	}
	return nil
}
