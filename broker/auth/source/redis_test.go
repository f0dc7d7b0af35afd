package source

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/internal/testserver"
)

// TestRedis asks Debian's Redis, with a password, by GET and by HGET.
func TestRedis(t *testing.T) {
	dir := t.TempDir()
	socket := testserver.Redis(t, "--requirepass", "sesame")
	write(t, dir, "password", "sesame\n")
	write(t, dir, "other", "wrong\n")
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Password: "sesame"})
	t.Cleanup(func() { _ = c.Close() })
	ctx := context.Background()
	testserver.Await(t, func() error { return c.Ping(ctx).Err() })
	stored, err := hash.New(hash.PBKDF2, []byte("secret"), 101)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		c.HSet(ctx, "user:alice", "pw", stored).Err(),
		c.HSet(ctx, "user:root", "pw", stored, "admin", "true").Err(),
		c.Set(ctx, "plain:alice", stored, 0).Err(),
		c.Set(ctx, "user:list", "x", 0).Err(), // not a hash
		c.SAdd(ctx, "acl:alice", "readwrite home/%u/#", "deny home/+/secret").Err(),
		c.SAdd(ctx, "alice:sacls", "home/%u/#").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b := begin(t, dir, `
sources:
  - name: r
    redis:
      address: `+socket+`
      password_file: $/password
      key: 'user:%u'
      field: pw
      superuser_field: admin
      rules: [{key: 'acl:%u'}, {key: '%u:sacls', access: subscribe}]`)
	may(t, b.want("alice", "secret", auth.Allow).Rules, "yes read home/alice/x", "no read home/alice/secret",
		"yes subscribe home/alice/x/#", "no subscribe home/#", "no write x", "yes subscribe $share/g/home/alice/#")
	may(t, b.want("root", "secret", auth.Allow).Rules, "yes write x")
	b.want("alice", "wrong", auth.Deny)
	b.want("nobody", "secret", auth.Defer)
	b.want("list", "secret", auth.Ask)
	b = begin(t, dir, "sources: [{name: r, redis: {address: "+socket+", password_file: $/password, key: 'plain:%u'}}]")
	if p := b.want("alice", "secret", auth.Allow); p.Rules != nil {
		t.Errorf("%+v", p)
	}
	b = begin(t, dir, "sources: [{name: r, redis: {address: "+socket+", password_file: $/other, key: 'plain:%u'}}]")
	b.want("alice", "secret", auth.Ask)
	b = begin(t, dir, "sources: [{name: r, redis: {address: "+dir+"/nowhere, key: 'plain:%u'}}]")
	b.want("alice", "secret", auth.Ask)
}
