package goauth

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"noctule/broker/auth"
	"noctule/broker/auth/hash"
	"noctule/broker/lookup"
)

// server is the backend redis.
type server struct {
	cfg    *Redis
	form   hash.Form
	client redis.UniversalClient
	users  *lookup.Lookup[*hash.Hash] // nil: there is no such user
	supers *lookup.Lookup[bool]
	lists  *lookup.Lookup[[][]string] // the sets of a user, as setsOf has them
	decoy  decoy
}

// redisTime bounds what Redis is asked.
const redisTime = 2 * time.Second

func newRedis(cfg *Redis, c *Chain, b *Backend) *server {
	cache := &c.cfg.Cache
	s := &server{cfg: cfg, form: hash.Form{TextSalt: b.TextSalt}}
	o := &redis.UniversalOptions{
		Addrs: cfg.Cluster, Password: cfg.Password, PoolSize: connsMax, MaxActiveConns: connsMax, Protocol: 2,
		DisableIdentity: true, ContextTimeoutEnabled: true, IsClusterMode: len(cfg.Cluster) > 0,
	}
	if !o.IsClusterMode {
		o.Addrs, o.DB, o.MaxRetries, o.DialerRetries = []string{
			net.JoinHostPort(cfg.Host, cfg.Port),
		}, cfg.DB, -1, 1
	}
	redis.SetLogger(silent{}) // it would write to stderr
	s.client = redis.NewUniversalClient(o)
	a := about{
		name: "go-auth redis", names: []string{"username"}, budget: redisTime, turns: connsMax,
		ttl: cache.Auth, jitter: cache.AuthJitter, watch: c.host.Watch, about: "login",
	}
	s.users = newLookup(a, s.hash, func(*hash.Hash) (int, any) { return 256, nil })
	a.ttl, a.jitter = cache.ACL, cache.ACLJitter
	a.about = "superuser"
	s.supers = newLookup(a, func(ctx context.Context, v []string) (bool, error) {
		text, err := s.get(ctx, v[0]+":su")
		return text == "true", err
	}, nil)
	a.about = "rules"
	s.lists = newLookup(a, s.sets, func(sets [][]string) (n int, _ any) {
		for _, set := range sets {
			size, _ := texts(set)
			n += size
		}
		return n, nil
	})
	return s
}

// silent is a log of nothing: errors come out of what was asked.
type silent struct{}

// Printf implements the library's logger.
func (silent) Printf(context.Context, string, ...any) {}

// get is a text; "" if there is none.
func (s *server) get(ctx context.Context, key string) (string, error) {
	text, err := s.client.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return text, final(err)
}

// final says of an error of what is stored that the server works.
func final(err error) error {
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return lookup.Final{Err: errors.New("a key of Redis holds another kind of value")}
	}
	return err
}

func (s *server) hash(ctx context.Context, v []string) (*hash.Hash, error) {
	text, err := s.get(ctx, v[0])
	if err != nil || text == "" {
		return nil, err
	}
	return stored(s.form, text)
}

// set is one of the sets of topics: of a user, whose topics are as they are, or of everybody.
type set struct {
	suffix string
	access auth.Access
	common bool
}

func setsOf() [8]set {
	return [...]set{
		{":sacls", auth.Subscribe, false},
		{":racls", auth.Read, false},
		{":wacls", auth.Write, false},
		{":rwacls", auth.Read | auth.Write, false},
		{":sacls", auth.Subscribe, true},
		{":racls", auth.Read, true},
		{":wacls", auth.Write, true},
		{":rwacls", auth.Read | auth.Write, true},
	}
}

// sets asks for all of them in one turn.
func (s *server) sets(ctx context.Context, v []string) ([][]string, error) {
	pipe := s.client.Pipeline()
	var sent []*redis.StringSliceCmd
	for _, x := range setsOf() {
		key := v[0]
		if x.common {
			key = "common"
		}
		sent = append(sent, pipe.SMembers(ctx, key+x.suffix))
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var list [][]string
	for _, c := range sent {
		members, err := c.Result()
		switch {
		case err != nil:
			return nil, final(err)
		case len(members) > listMax:
			return nil, lookup.Final{Err: errors.New("a set of topics that is too large")}
		}
		list = append(list, members)
	}
	return list, nil
}

func (s *server) login(ctx context.Context, l *auth.Login, q *question) (found, error) {
	h, err := ask(ctx, s.users, q.from, q.user)
	if err != nil {
		return found{}, err
	}
	return s.decoy.prove(ctx, l, h)
}

func (s *server) superuser(ctx context.Context, q *question) (bool, error) {
	if !s.cfg.Superusers {
		return false, nil
	}
	return ask(ctx, s.supers, q.from, q.user)
}

func (s *server) grant(ctx context.Context, q *question) (*grant, error) {
	sets, err := ask(ctx, s.lists, q.from, q.user)
	if err != nil {
		return nil, err
	}
	var list []topic
	for i, x := range setsOf() {
		for _, f := range sets[i] {
			list = append(list, topic{x.access, f})
		}
	}
	return newGrant(list, names{q.user, q.client}), nil
}

func (*server) topic(context.Context, *question, int, string) (bool, error) { return false, nil }

func (s *server) close() {
	s.users.Close()
	s.supers.Close()
	s.lists.Close()
	_ = s.client.Close() // it was only read
}
