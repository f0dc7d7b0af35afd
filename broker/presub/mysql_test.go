package presub

import (
	"database/sql"
	"strings"
	"testing"

	"noctule/internal/testserver"
)

// TestMySQL starts Debian's MariaDB in a directory of its own.
func TestMySQL(t *testing.T) {
	socket := testserver.MariaDB(t)
	db, err := sql.Open("mysql", "root@unix("+socket+")/")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testserver.Await(t, db.Ping)
	tables := strings.NewReplacer("TABLE sub", "TABLE p.sub", "INTO sub", "INTO p.sub").Replace(schema)
	for q := range strings.SplitSeq("CREATE DATABASE p;\n"+tables, ";\n") {
		if _, err := db.Exec(strings.TrimSuffix(q, ";")); err != nil {
			t.Fatal(err)
		}
	}
	sqlTest(t, "mysql", "root@unix("+socket+")/p")
}
