package source

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"noctule/broker/auth"
	"noctule/internal/testcert"
	"noctule/internal/testserver"
)

// entries are the directory of these tests. There are two users of one name, in two places.
const entries = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
userPassword: secret

dn: uid=twin,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: T
userPassword: secret

dn: cn=Twin,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: T
userPassword: secret

dn: cn=staff,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: staff
member: uid=alice,ou=people,dc=example,dc=org
`

// TestLDAP asks Debian's slapd in each of the ways in which a directory can be reached.
func TestLDAP(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Write(t, testcert.Localhost(t))
	d := testserver.LDAP(t, entries, cert, key)
	at := strings.TrimPrefix(d.Plain, "ldap://")
	testserver.Await(t, func() error {
		c, err := net.Dial("tcp", at)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	write(t, dir, "admin", "admin\n")
	write(t, dir, "not", "x\n")
	bind := "dn: 'uid=%u,ou=people,dc=example,dc=org'"
	search := "bind_dn: 'cn=admin,dc=example,dc=org', bind_password_file: $/admin, " +
		"search: {base: 'ou=people,dc=example,dc=org', filter: '(uid=%u)'}"
	groups := ", groups: {base: 'ou=groups,dc=example,dc=org', filter: '(member=%{dn})'}"
	for name, how := range map[string]string{
		"socket": "url: '" + d.URL + "'", "loopback": "url: '" + d.Plain + "'",
		"start_tls": "url: '" + strings.Replace(d.Plain, "127.0.0.1", "localhost", 1) + "', start_tls: true, ca_file: " + cert,
		"ldaps":     "url: '" + strings.Replace(d.TLS, "127.0.0.1", "localhost", 1) + "', ca_file: " + cert,
	} {
		for _, by := range []string{bind, search} {
			t.Run(name+" "+by[:4], func(t *testing.T) {
				b := begin(t, dir, fmt.Sprintf(`
sources:
  - name: dir
    ldap: {%s, %s}
    topics: ["write status/%%c"]
    group_topics: {staff: ["read staff/#"]}
`, how, by+groups))
				p := b.want("alice", "secret", auth.Allow)
				if p == nil {
					return
				}
				may(t, p.Rules, "yes read staff/x", "yes write status/c-alice", "no read other")
				if len(p.Groups) != 1 || p.Groups[0] != "staff" {
					t.Errorf("groups %q", p.Groups)
				}
				unsure := auth.Defer // of a DN that was made nobody says whether it is there
				known := auth.Deny
				if by == bind {
					known = unsure
				}
				b.want("alice", "wrong", known)
				b.want("nobody", "secret", unsure)
				b.want("*", "secret", unsure)
				b.want("alice,ou=people", "secret", unsure)
				b.want("alice", "", auth.Defer)
			})
		}
	}
	for name, how := range map[string]string{
		"another CA":       "url: '" + d.TLS + "', " + bind,
		"two of one name":  "url: '" + d.URL + "', " + search,
		"its own password": "url: '" + d.URL + "', " + strings.Replace(search, "$/admin", "$/not", 1),
		"nobody there":     "url: 'ldap://127.0.0.1:1', " + bind,
	} {
		b := begin(t, dir, "sources: [{name: dir, ldap: {"+how+"}}]")
		if v, _ := b.admit("twin", "secret"); v != auth.Ask {
			t.Errorf("%s: %v", name, v)
		}
		if text := b.log.String(); strings.Contains(text, "secret") || strings.Contains(text, "admin\"") {
			t.Errorf("the log has a password: %s", text)
		}
	}
}
