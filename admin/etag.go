package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"noctule/broker/behalf"
	"noctule/broker/presub"
)

// A listing's entity tag is its revision and a hash of what GET shows, as the client's own subscriptions, and
// whether it is there, have no revision. A revision alone is a tag too, which PUT and DELETE answer.

// tag is the listing's entity tag: it is another when the body is.
func (l *listing) tag() string {
	b, _ := json.Marshal(l) // strings, numbers and times: it cannot fail
	sum := sha256.Sum256(b)
	return `"` + strconv.FormatUint(l.Revision, 10) + "-" + hex.EncodeToString(sum[:8]) + `"`
}

// entityTag is one of a list: RFC 9110, 8.8.3.
type entityTag struct {
	quoted string
	weak   bool
}

var errTag = errors.New("If-Match is no revision and no list of entity tags")

// parseTags reads the value of If-Match or If-None-Match: RFC 9110, 13.1.1 and 13.1.2; any is "*". A number
// that is not quoted is a revision as well.
func parseTags(lines []string) (list []entityTag, star bool, err error) {
	rest := strings.TrimSpace(strings.Join(lines, ","))
	if rest == "*" {
		return nil, true, nil
	}
	for rest != "" {
		if rest[0] == ',' || rest[0] == ' ' || rest[0] == '\t' { // empty elements are allowed: 5.6.1
			rest = rest[1:]
			continue
		}
		tag, after, _ := strings.Cut(rest, ",")
		weak := strings.HasPrefix(rest, "W/")
		if body, quoted := strings.CutPrefix(strings.TrimPrefix(rest, "W/"), `"`); quoted {
			end := strings.IndexByte(body, '"')
			if end < 0 {
				return nil, false, errTag
			}
			tag, after = `"`+body[:end+1], strings.TrimLeft(body[end+1:], " \t")
			if after != "" && after[0] != ',' {
				return nil, false, errTag
			}
		} else {
			tag = `"` + strings.TrimSpace(tag) + `"`
			if _, ok := revisionOf(tag); weak || !ok {
				return nil, false, errTag
			}
		}
		list = append(list, entityTag{tag, weak})
		rest = after
	}
	return list, false, nil
}

// revisionOf is the number of a tag that is a revision alone.
func revisionOf(tag string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.Trim(tag, `"`), 10, 64)
	return n, err == nil
}

// known reports whether one of If-None-Match is tag, compared weakly [RFC 9110, 13.1.2].
func known(lines []string, tag string) bool {
	list, star, err := parseTags(lines)
	if err != nil {
		return false
	}
	for _, x := range list {
		star = star || x.quoted == tag
	}
	return star
}

// precondition makes If-Match part of an entry, which then is for the revision that the match was found with.
// Weak tags never match [RFC 9110, 13.1.1]. With an error nothing may be done, and status says why.
func (d *Door) precondition(r *http.Request, c *call, e *presub.Entry) (status int, err error) {
	lines := r.Header.Values("If-Match")
	if len(lines) == 0 {
		return 0, nil
	}
	list, star, err := parseTags(lines)
	switch {
	case err != nil || len(list) == 0 && !star:
		return http.StatusBadRequest, errTag
	case star: // a session, whatever its revision
		none := 0
		e.Wait = &none
		return 0, nil
	}
	l, err := d.e.List(r.Context(), e.ClientID)
	if err != nil && !errors.Is(err, behalf.ErrNoSession) {
		return http.StatusServiceUnavailable, err
	}
	if !d.e.Sees(c.caller(), l.ClientID, l.Username) { // it is refused, whatever the revision
		return 0, nil
	}
	now := listingOf(&l, err == nil)
	tag := now.tag()
	for _, x := range list {
		n, alone := revisionOf(x.quoted)
		if !x.weak && (x.quoted == tag || alone && n == l.Revision) {
			e.IfRevision = &l.Revision
			return 0, nil
		}
	}
	return http.StatusPreconditionFailed, errors.New("the session's revision is another")
}
