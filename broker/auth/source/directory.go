package source

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"

	"noctule/broker/auth"
	"noctule/broker/lookup"
	"noctule/broker/lookup/ldap"
)

// directory asks a directory about logins.
type directory struct {
	cfg    *LDAP
	server *ldap.Server

	dn, base, filter    *lookup.Template // of users
	groupBase, groupFit *lookup.Template
}

func (d *directory) parse() (err error) {
	parse := func(to **lookup.Template, text string, n lookup.Names) {
		if err == nil {
			*to, err = n.Parse(text)
		}
	}
	parse(&d.dn, d.cfg.DN, names(false))
	if s := d.cfg.Search; s != nil {
		parse(&d.base, s.Base, names(false))
		parse(&d.filter, s.Filter, groupNames())
	}
	if g := d.cfg.Groups; g != nil {
		parse(&d.groupBase, g.Base, names(false))
		parse(&d.groupFit, g.Filter, groupNames())
	}
	return err
}

// Uses implements lookup.Source.
func (d *directory) Uses() []int { return []int{nameUser, nameClient, namePassword} }

// Close implements lookup.Source.
func (d *directory) Close() {}

// errSeveral is why a user is not found.
var errSeveral = errors.New("the search finds more than one user")

// Ask implements lookup.Source: it finds the user and binds with its password. Of a DN that was made from the
// username nobody says whether it is there, so a password that is not taken leaves it to other sources.
func (d *directory) Ask(ctx context.Context, q *lookup.Question) (*answer, error) {
	a := &answer{verdict: auth.Defer}
	err := d.server.Do(ctx, func(c *ldap.Conn) error {
		dn, err := d.find(c, q.Values)
		if err != nil {
			return err
		}
		known := dn != ""
		if !known { // it takes as long as for one that is there, as far as that is for us
			dn = "cn=" + rand.Text() + "," + d.cfg.Search.Base
		}
		ok, err := c.Bind(dn, q.Values[namePassword])
		switch {
		case err != nil:
			return err
		case known && ok:
			a.verdict = auth.Allow
		case known && d.cfg.Search != nil:
			a.verdict = auth.Deny
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// find is the DN of a user; "" if it is not there.
func (d *directory) find(c *ldap.Conn, values []string) (string, error) {
	if d.cfg.Search == nil {
		return d.dn.Expand(values, ldap.InDN), nil
	}
	if err := c.Service(); err != nil {
		return "", err
	}
	list, err := c.Search(d.base.Expand(values, ldap.InDN),
		d.filter.Expand([]string{values[nameUser], values[nameClient], ""}, ldap.InFilter), 1)
	switch {
	case errors.Is(err, ldap.ErrMany):
		return "", lookup.Final{Err: errSeveral}
	case err != nil || len(list) == 0:
		return "", err
	}
	return list[0].DN, nil
}

// members asks a directory for the groups of a user.
type members struct{ *directory }

// Uses implements lookup.Source.
func (m members) Uses() []int { return []int{nameUser, nameClient} }

// Ask implements lookup.Source.
func (m members) Ask(ctx context.Context, q *lookup.Question) (*answer, error) {
	a := &answer{verdict: auth.Allow, listed: true}
	err := m.server.Do(ctx, func(c *ldap.Conn) error {
		if err := c.Service(); err != nil {
			return err
		}
		values := []string{q.Values[nameUser], q.Values[nameClient], ""}
		dn, err := m.find(c, values)
		if err != nil || dn == "" {
			return err
		}
		values[2] = dn
		g := m.cfg.Groups
		attribute := cmp.Or(g.Attribute, "cn")
		list, err := c.Search(m.groupBase.Expand(values, ldap.InDN), m.groupFit.Expand(values, ldap.InFilter),
			groupsMax, attribute)
		for i := range list {
			a.groups = append(a.groups, list[i].Values(attribute)...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}
