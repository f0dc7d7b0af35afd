//go:build nosql

package goauth

import (
	"database/sql"
	"errors"
)

func openMySQL(*SQL) (*sql.DB, error) {
	return nil, errors.New("this noctule is built without mysql (-tags nosql)")
}
