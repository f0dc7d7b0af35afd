package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/mosquitto"
	"noctule/internal/swapfile"
)

const databaseUsage = `Usage: noctule db COMMAND FILE ...

FILE is the file of persistent state, which no broker has open (except for backup).

 check FILE          look at every page and record
 stats FILE          sizes and numbers
 dump FILE           every record, as text
 compact FILE        write the file anew, without gaps
 export FILE [TO]    a TO that ends in .db becomes a mosquitto.db, which Mosquitto 2.0 and 2.1 read, any
                     other JSON, like mosquitto_db_dump --json; to standard output without TO
 import FILE FROM    make FILE, which must not exist, of a mosquitto.db of version 5 or 6, of JSON, or of the
                     SQLite file of Mosquitto 2.1
 backup FILE TO      copy, also while a broker runs
`

// database is `noctule db`.
func (c *command) database(args []string) int {
	most := map[string][2]int{
		"check": {2, 2}, "stats": {2, 2}, "dump": {2, 2}, "compact": {2, 2}, "export": {2, 3},
		"import": {3, 3}, "backup": {3, 3},
	}
	if len(args) == 0 || len(args) < most[args[0]][0] || len(args) > most[args[0]][1] {
		fmt.Fprint(c.stderr, databaseUsage)
		return exitConfig
	}
	name, to := args[1], ""
	if len(args) > 2 {
		to = args[2]
	}
	var err error
	switch args[0] {
	case "import":
		err = c.importInto(name, to)
	case "backup":
		err = backup(name, to)
	default:
		err = c.withFile(name, args[0] == "compact", func(s *bolt.Store) error {
			return c.inspect(args[0], s, name, to)
		})
	}
	if err != nil {
		c.fail(err)
		return stateCode(err)
	}
	return exitOK
}

// withFile opens a file that exists, for reading only or to change it.
func (c *command) withFile(name string, change bool, f func(s *bolt.Store) error) error {
	if err := mustBeOurs(name); err != nil {
		return err
	}
	if err := swapfile.Recover(name); err != nil {
		return err
	}
	s, err := bolt.Open(name, bolt.Options{ReadOnly: !change, Log: c.log})
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}

// mustBeOurs tells who names Mosquitto's file that ours is another.
func mustBeOurs(name string) error {
	head, err := headOf(name)
	if err == nil && mosquitto.IsDatabase(head) {
		err = fmt.Errorf("%s is a database of Mosquitto; that of noctule is noctule.db or NAME.noctule "+
			"beside it", name)
	}
	return err
}

// inspect does what needs an open file.
func (c *command) inspect(what string, s *bolt.Store, name, to string) error {
	switch what {
	case "check":
		return c.checkFile(s)
	case "stats":
		return c.fileStats(s)
	case "dump":
		return dump(c.stdout, s)
	case "compact":
		return compact(s, name)
	default:
		return c.export(s, name, to)
	}
}

func (c *command) fileStats(s *bolt.Store) error {
	size, tables, err := s.Stats()
	if err != nil {
		return err
	}
	for _, t := range tables {
		fmt.Fprintf(c.stdout, "%-14s %10d keys %14d bytes\n", t.Name, t.Keys, t.Bytes)
	}
	fmt.Fprintf(c.stdout, "%-14s %30d bytes\n", "file", size)
	return nil
}

// dump prints a line for each record.
func dump(w io.Writer, s store.Store) error {
	for t := range store.Tables {
		err := s.Walk(t, func(key, value []byte) error {
			line, err := text(t, key, value)
			if err != nil {
				line = fmt.Sprintf("key %x: %v", key, err)
			}
			_, err = fmt.Fprintf(w, "%s: %s\n", t, line)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// text is a record as a line.
func text(t store.Table, key, value []byte) (string, error) {
	switch t {
	case store.Config:
		if store.IsClock(key) {
			c, err := store.ReadClock(value)
			ahead := time.Duration(c.Ahead) * time.Millisecond
			return fmt.Sprintf("clock: the system's is ahead by %s", ahead), err
		}
		m, err := store.ReadMeta(value)
		return fmt.Sprintf("start %d, %d loops", m.Epoch, m.Loops), err
	case store.Sessions:
		r, err := store.ReadSession(key, value)
		state := "online"
		if r.OfflineAt != 0 {
			state = "offline since " + time.Unix(r.OfflineAt, 0).UTC().Format(time.RFC3339)
		}
		will := ""
		if r.Will != nil {
			will = fmt.Sprintf(", will on %q", r.Will.Message.Topic)
		}
		return fmt.Sprintf("%d client %q user %q expiry %d, %s%s",
			r.Number, r.ClientID, r.Username, r.Expiry, state, will), err
	case store.Subscriptions:
		r, err := store.ReadSubscription(key, value)
		return fmt.Sprintf("session %d %q options 0x%02x id %d%s",
			r.Session, r.Filter, r.Options, r.ID, owedText(r.Owed)), err
	case store.Messages, store.Retained:
		m, err := store.ReadMessage(value)
		id := ""
		if t == store.Messages {
			id = fmt.Sprintf("%d ", store.KeyNumber(key))
		}
		return fmt.Sprintf("%s%q QoS %d, %d bytes", id, m.Topic, m.QoS, len(m.Payload)), err
	case store.Entries:
		r, err := store.ReadEntry(key, value)
		return fmt.Sprintf("session %d place %d message %d QoS %d state %d packet id %d",
			r.Session, r.Seq, r.Message, r.QoS, r.State, r.PacketID), err
	case store.Inbound:
		r, err := store.ReadHandshake(key, value)
		return fmt.Sprintf("session %d packet id %d message %d", r.Session, r.PacketID, r.Message), err
	case store.Transits:
		r, err := store.ReadTransit(key, value)
		return fmt.Sprintf("message %d for loop %d and %q", r.Message, r.Loop, r.Filter), err
	case store.Sets:
		r, err := store.ReadSet(key, value)
		return setText(&r), err
	default:
		r, err := store.ReadGrant(key, value)
		return grantText(&r), err
	}
}

// owedText says that retained messages are still to be sent.
func owedText(owed bool) string {
	if owed {
		return ", retained messages to come"
	}
	return ""
}

func setText(r *store.Set) string {
	b := fmt.Appendf(nil, "%x", r.Key)
	for i := range r.Topics {
		t := &r.Topics[i]
		b = fmt.Appendf(b, ", %q options 0x%02x id %d", t.Filter, t.Options, t.ID)
	}
	return string(b)
}

func grantText(r *store.Grant) string {
	b := fmt.Appendf(nil, "session %d %q place %d revision %d set %x unsubscribe %s", r.Session, r.Origin,
		r.Place, r.Revision, r.Set, [...]string{"allow", "sticky", "deny", "?"}[r.Unsubscribe&3])
	if r.Bypass {
		b = append(b, ", bypass"...)
	}
	if r.PerConnect {
		b = append(b, ", per CONNECT"...)
	}
	for _, f := range r.Muted {
		b = fmt.Appendf(b, ", not %q", f)
	}
	for _, f := range r.Owed {
		b = fmt.Appendf(b, ", retained messages for %q to come", f)
	}
	return string(b) + owedText(r.OwedAll)
}

// compact replaces a file by a smaller copy.
func compact(s *bolt.Store, name string) error {
	fresh := name + ".compact"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.Compact(fresh); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if err := ownAs(fresh, name); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return swapfile.Replace(fresh, name)
}

// export writes what Mosquitto reads, or JSON, to a file; JSON to standard output.
func (c *command) export(s store.Store, name, to string) error {
	source, err := mosquitto.Export(s)
	if err != nil {
		return err
	}
	if to == "" {
		return mosquitto.WriteJSON(c.stdout, source)
	}
	if head, err := headOf(to); err == nil && isBolt(head) {
		return fmt.Errorf("%s is a database of noctule", to)
	}
	fresh := to + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var left mosquitto.LeftOut
	if strings.HasSuffix(to, ".db") {
		left, err = mosquitto.WriteDatabase(f, source)
	} else {
		err = mosquitto.WriteJSON(f, source)
	}
	if err = errors.Join(err, ownAs(fresh, to, name), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, removeIf(fresh))
	}
	if text := left.String(); text != "" {
		fmt.Fprintln(c.stdout, "not exported:", text)
	}
	return swapfile.Replace(fresh, to)
}

// importInto makes a new file of another program's.
func (c *command) importInto(name, from string) error {
	if isFilled(name) {
		return fmt.Errorf("%s exists", name)
	}
	r, err := c.makeOf(from, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%d sessions, %d subscriptions, %d messages of sessions, %d retained messages\n",
		r.Sessions, r.Subscriptions, r.Queued, r.Retained)
	if r.Grants > 0 {
		fmt.Fprintf(c.stdout, "%d lists of subscriptions made by servers, %d times\n", r.Lists, r.Grants)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(c.stdout, "not imported:", n)
	}
	return nil
}

// removeIf removes a file that may be there.
func removeIf(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
