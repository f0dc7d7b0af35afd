//go:build !nosql

package lookup

import (
	_ "github.com/go-sql-driver/mysql"       // driver
	_ "github.com/jackc/pgx/v5/stdlib"       // driver
	_ "github.com/ncruces/go-sqlite3/driver" // driver
)
