//go:build !nosql

package sqlitedb

import _ "github.com/ncruces/go-sqlite3/driver" // SQLite, translated to Go
