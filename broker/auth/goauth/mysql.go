//go:build !nosql

package goauth

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"

	"github.com/go-sql-driver/mysql"

	"noctule/internal/regular"
)

// openMySQL opens a server of MySQL or MariaDB; nobody is connected to yet.
func openMySQL(cfg *SQL) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName = cfg.User, cfg.Password, cfg.Name
	c.Net, c.Addr = "tcp", net.JoinHostPort(cfg.Host, cfg.Port)
	c.AllowNativePasswords = cfg.NativePasswords
	c.Timeout = queryTime
	c.Logger = &mysql.NopLogger{} // errors come out of queries
	if cfg.Unix {
		c.Net, c.Addr = "unix", cfg.Socket
	}
	switch cfg.TLS {
	case "custom":
		var err error
		if c.TLS, err = customTLS(cfg); err != nil {
			return nil, err
		}
	case "":
	default:
		c.TLSConfig = cfg.TLS
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, errors.New("its options cannot be used") // the error may have them
	}
	return sql.OpenDB(connector), nil
}

// customTLS is what the three files say.
func customTLS(cfg *SQL) (*tls.Config, error) {
	raw, err := regular.ReadFile(cfg.CA)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: cfg.Host}
	if !t.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s has no certificate", cfg.CA)
	}
	if cfg.Cert == "" {
		return t, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, err
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}
