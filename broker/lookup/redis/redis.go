// Package redis asks Redis, or what speaks its protocol, as a source of package lookup: commands whose words
// are templates, sent in one turn.
package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"noctule/broker/lookup"
)

// Config is a server.
type Config struct {
	Address      string `yaml:"address"` // host:port, or the path of a unix socket
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	DB           int    `yaml:"db"`
	TLS          bool   `yaml:"tls"`
	CAFile       string `yaml:"ca_file"`   // with tls; the system's certificates without it
	MaxConns     int    `yaml:"max_conns"` // 8
}

const connsMax = 4096

// Defaults sets what the file does not.
func (c *Config) Defaults() { lookup.SetInt(&c.MaxConns, 8) }

// Check reports what is wrong, as an error of lookup.Wrong.
func (c *Config) Check(path string) error {
	switch {
	case c.Address == "":
		return lookup.Wrong(path, "no address")
	case c.DB < 0:
		return lookup.Wrong(path+".db", "db %d is not 0 or more", c.DB)
	case c.MaxConns < 1 || c.MaxConns > connsMax:
		return lookup.Wrong(path+".max_conns", "max_conns %d is not 1 to %d", c.MaxConns, connsMax)
	case c.CAFile != "" && !c.TLS:
		return lookup.Wrong(path+".ca_file", "ca_file is for tls")
	}
	return nil
}

// Reply is what a command is answered with: the one text of GET and HGET, the texts of SMEMBERS, LRANGE,
// HGETALL (fields and values by turns). There is false if there is no such key or field.
type Reply struct {
	Texts []string
	There bool
}

// First is the first text; "" if there is none.
func (r *Reply) First() string {
	if len(r.Texts) == 0 {
		return ""
	}
	return r.Texts[0]
}

// Source is a lookup.Source.
type Source[A any] struct {
	client   *redis.Client
	commands [][]*lookup.Template
	uses     []int
	read     func([]Reply) (A, error)
}

// Ask has to be there for package lookup.
var _ lookup.Source[any] = (*Source[any])(nil)

// New makes the source of a checked configuration. The words of commands are templates with names; read gets
// a Reply for each command. at is the path of the settings below what files are told of: ".redis".
func New[A any](
	cfg *Config, at string, files lookup.Files, q Query[A],
) (*Source[A], error) {
	s := &Source[A]{read: q.Read}
	for _, words := range q.Commands {
		var list []*lookup.Template
		for _, w := range words {
			t, err := q.Names.Parse(w)
			if err != nil {
				return nil, err
			}
			list = append(list, t)
			s.uses = append(s.uses, t.Uses()...)
		}
		s.commands = append(s.commands, list)
	}
	o, err := cfg.options(at, files)
	if err != nil {
		return nil, err
	}
	redis.SetLogger(silent{}) // it would write to stderr
	s.client = redis.NewClient(o)
	return s, nil
}

// Query is what is asked, and how the answer is read.
type Query[A any] struct {
	Names    lookup.Names
	Commands [][]string
	Read     func([]Reply) (A, error)
}

// options are what the library takes.
func (c *Config) options(at string, files lookup.Files) (*redis.Options, error) {
	o := &redis.Options{
		Addr: c.Address, Username: c.Username, DB: c.DB, PoolSize: c.MaxConns, MaxActiveConns: c.MaxConns,
		Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
	}
	if strings.HasPrefix(c.Address, "/") {
		o.Network = "unix"
	}
	var err error
	if c.PasswordFile != "" {
		if o.Password, err = files.Secret(at+".password_file", c.PasswordFile); err != nil {
			return nil, err
		}
	}
	if !c.TLS {
		return o, nil
	}
	host, _, _ := strings.Cut(c.Address, ":")
	o.TLSConfig = &tls.Config{ServerName: cmp.Or(host, c.Address), MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return o, nil
	}
	raw, err := files.Read(at+".ca_file", c.CAFile)
	if err != nil {
		return nil, err
	}
	o.TLSConfig.RootCAs = x509.NewCertPool()
	if !o.TLSConfig.RootCAs.AppendCertsFromPEM(raw) {
		return nil, &lookup.FileError{
			Path: at + ".ca_file",
			Err:  fmt.Errorf("%s has no certificate", c.CAFile),
		}
	}
	return o, nil
}

// silent is a log of nothing: errors come out of Ask.
type silent struct{}

// Printf implements the library's logger.
func (silent) Printf(context.Context, string, ...any) {}

// Ask implements lookup.Source.
func (s *Source[A]) Ask(ctx context.Context, q *lookup.Question) (a A, err error) {
	pipe := s.client.Pipeline()
	sent := make([]*redis.Cmd, len(s.commands))
	for i, words := range s.commands {
		args := make([]any, len(words))
		for j, t := range words {
			args[j] = t.Expand(q.Values, func(v string) string { return v })
		}
		sent[i] = pipe.Do(ctx, args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	replies := make([]Reply, len(sent))
	for i, c := range sent {
		if replies[i], err = reply(c); err != nil {
			return a, err
		}
	}
	a, err = s.read(replies)
	if err != nil {
		err = lookup.Final{Err: err}
	}
	return a, err
}

// reply reads one command's.
func reply(c *redis.Cmd) (r Reply, err error) {
	v, err := c.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return Reply{}, nil
	case err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return r, lookup.Final{Err: errors.New("redis: a key holds another kind of value")}
	case err != nil:
		return r, err
	}
	switch x := v.(type) {
	case string:
		return Reply{[]string{x}, true}, nil
	case int64:
		return Reply{[]string{fmt.Sprint(x)}, true}, nil
	case []any:
		for _, item := range x {
			text, ok := item.(string)
			if !ok {
				return r, lookup.Final{Err: errors.New("redis: an answer that is no list of texts")}
			}
			r.Texts = append(r.Texts, text)
		}
		r.There = len(x) > 0
		return r, nil
	}
	return r, lookup.Final{Err: errors.New("redis: an answer of another kind")}
}

// Uses implements lookup.Source.
func (s *Source[A]) Uses() []int { return slices.Clone(s.uses) }

// Close implements lookup.Source.
func (s *Source[A]) Close() { _ = s.client.Close() }
