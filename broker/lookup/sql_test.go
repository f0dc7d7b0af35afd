package lookup

import (
	"database/sql"
	"fmt"
	"testing"
)

func TestBindParameters(t *testing.T) {
	const query = "SELECT '%c', \"%u\" FROM t WHERE a = %c AND b=%{tenant} AND c=%c AND d LIKE 'x%{no}' AND e % 2 = 0"
	q, args, err := bind(query, threeNames(), true)
	if q != "SELECT '%c', \"%u\" FROM t WHERE a = $1 AND b=$2 AND c=$3 AND d LIKE 'x%{no}' AND e % 2 = 0" ||
		fmt.Sprint(args) != "[0 2 0]" || err != nil {
		t.Errorf("%s, %v, %v", q, args, err)
	}
	if q, _, _ := bind("a = %u", threeNames(), false); q != "a = ?" {
		t.Error(q)
	}
	if _, _, err := bind("a = %{user}", threeNames(), false); err == nil {
		t.Error("a name that is none is taken")
	}
}

// A driver that the program is not built with is an error of the file, not of the first client.
func TestBuiltWithoutDrivers(t *testing.T) {
	for _, name := range []string{"postgres", "mysql", "sqlite"} {
		if err := built("$.providers[0].sql.driver", name, sql.Drivers()); err != nil {
			t.Error(err)
		}
		err := built("$.providers[0].sql.driver", name, nil)
		if err == nil || err.Error() != "this noctule is built without "+name+" (-tags nosql)" {
			t.Error(err)
		}
	}
}
