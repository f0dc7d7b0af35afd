package goauth

import (
	"slices"
	"time"
)

// generalRows are the options that belong to no backend.
func generalRows() []row {
	return []row{
		{
			name: "backends", value: required, meaning: "who is asked, in this order: names with commas",
			note: "the plug-in asks in no order", set: func(d *draft, v string) error { d.names = list(v); return nil },
		},
		{
			name: "exhaust_backend_first", value: "false", meaning: "all questions to one backend before the next one", state: Inert,
			note: "backends are asked in their order; who is granted is the same either way", quiet: anything,
		},
		{
			name: "use_clientid_as_username", value: "false", meaning: "backends are asked about the client id in place of the username",
			set: truth(func(d *draft) *bool { return &d.cfg.ClientIDAsUsername }),
		},
		{
			name: "disable_superuser", value: "false", meaning: "nobody is a superuser",
			set: truth(func(d *draft) *bool { return &d.noSuper }),
		},
		{
			name: "retry_count", value: "0", meaning: "how often a check that could not be made is tried again, 0 to 10",
			set: number(0, 10, func(d *draft, n int) { d.cfg.Retries = n }),
		},
		{
			name: "check_prefix", value: "false", meaning: "a username `prefix_name` is for the backend with that prefix alone",
			set: truth(func(d *draft) *bool { return &d.cfg.CheckPrefix }),
		},
		{
			name: "strip_prefix", value: "false", meaning: "backends are asked about `name` then; the backend jwt always is",
			set: truth(func(d *draft) *bool { return &d.cfg.StripPrefix }),
		},
		{
			name: "prefixes", value: "", meaning: "with check_prefix: one for each backend, in their order",
			note: "as many as backends, without `_` and each once; the plug-in goes on without them, here the start ends",
			set:  func(d *draft, v string) error { d.prefixes = list(v); return nil },
		},
		{
			name: "log_level", value: "info", meaning: "which lines the plug-in writes", state: Inert, quiet: anything,
			note: "`log_type` decides; no level writes passwords, which `debug` of the plug-in does",
		},
		{
			name: "log_dest", value: "stderr", meaning: "where they go", state: Inert, quiet: anything,
			note: "they are the broker's lines: Mosquitto's `log_dest`",
		},
		{
			name: "log_file", value: "", meaning: "with log_dest file: which", state: Inert, quiet: anything,
			note: "Mosquitto's `log_dest file`",
		},
		register("files"), register("http"), register("jwt"), register("postgres"), register("mysql"),
		register("sqlite"), register("redis"),
	}
}

// register is the option that says what a backend is asked about.
func register(backend string) row {
	k, _ := findKind(backend)
	return row{
		name: k.prefix + "_register", backend: backend, value: "user, superuser, acl",
		meaning: "what it is asked about, with commas",
		set: func(d *draft, v string) error {
			d.register[backend] = list(v)
			for _, x := range d.register[backend] {
				if err := oneOf(func(*draft, string) {}, "user", "superuser", "acl")(d, x); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// cacheRows are about answers that are kept.
func cacheRows() []row {
	const memory = "answers are kept in this process, so there is nothing to connect to"
	rows := []row{
		{
			name: "cache", value: "false", meaning: "answers are kept, yes and no",
			set: truth(func(d *draft) *bool { return &d.cached }),
		},
		{
			name: "auth_cache_seconds", value: "30", meaning: "how long those about logins are kept",
			set: seconds(func(d *draft) *time.Duration { return &d.cfg.Cache.Auth }),
		},
		{
			name: "auth_jitter_seconds", value: "0", meaning: "more or less, at random, so that not all end at once",
			set: seconds(func(d *draft) *time.Duration { return &d.cfg.Cache.AuthJitter }),
		},
		{
			name: "acl_cache_seconds", value: "30", meaning: "how long those about rights are kept",
			set: seconds(func(d *draft) *time.Duration { return &d.cfg.Cache.ACL }),
		},
		{
			name: "acl_jitter_seconds", value: "0", meaning: "more or less, at random",
			set: seconds(func(d *draft) *time.Duration { return &d.cfg.Cache.ACLJitter }),
		},
		{
			name: "cache_refresh", value: "false", meaning: "an answer that is used is kept longer", state: Inert, quiet: not("true"),
			note: "a right that is taken away would never end for who goes on using it",
		},
		{
			name: "cache_reset", value: "false", meaning: "the cache is emptied at the start", state: Inert, quiet: anything,
			note: "it is always empty then",
		},
		{
			name: "cache_type", value: "go-cache", meaning: "where answers are kept: go-cache or redis", state: Inert, quiet: not("redis"),
			note: memory,
		},
	}
	for _, name := range []string{"host", "port", "password", "db", "mode", "addresses"} {
		rows = append(rows, row{
			name: "cache_" + name, value: "", meaning: "of the Redis that keeps them", state: Inert,
			quiet: anything, note: memory,
		})
	}
	return rows
}

// hasherRows are about stored passwords, for all backends and for each that has some.
func hasherRows() []row {
	const itself = "each stored hash says how it was made, and all forms are read at any time"
	var rows []row
	for _, backend := range []string{"", "files", "postgres", "mysql", "sqlite", "redis"} {
		prefix, suffix := "", ""
		if backend != "" {
			k, _ := findKind(backend)
			prefix, suffix = k.prefix+"_", ", of this backend"
		}
		add := func(name, value, meaning string) {
			rows = append(rows, row{
				name: prefix + name, backend: backend, value: value, meaning: meaning + suffix,
				state: Inert, quiet: anything, note: itself,
			})
		}
		rows = append(rows, row{
			name: prefix + "hasher", backend: backend, value: "pbkdf2",
			meaning: "how passwords are hashed: pbkdf2, bcrypt, argon2id" + suffix, note: itself,
			set: oneOf(func(d *draft, _ string) { d.hashers[prefix] = true }, "pbkdf2", "bcrypt", "argon2id"),
		})
		rows = append(rows, row{
			name: prefix + "hasher_salt_encoding", backend: backend, value: "base64",
			meaning: "how salts of PBKDF2 are written: base64 or utf-8" + suffix,
			set:     oneOf(func(d *draft, v string) { d.utf8[prefix] = v == "utf-8" }, "base64", "utf-8"),
		})
		add("hasher_salt_size", "16", "bytes of salt")
		add("hasher_iterations", "100000, or 3", "of PBKDF2, or Argon2id")
		add("hasher_keylen", "32", "bytes of the hash")
		add("hasher_algorithm", "sha512", "of PBKDF2: sha512 or sha256")
		add("hasher_cost", "10", "of bcrypt")
		add("hasher_memory", "4096", "KiB of Argon2id")
		add("hasher_parallelism", "2", "threads of Argon2id")
	}
	return rows
}

func anything(string) bool { return true }

func not(loud ...string) func(string) bool {
	return func(v string) bool { return !slices.Contains(loud, v) }
}
