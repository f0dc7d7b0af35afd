package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"noctule/broker/message"
	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/mosquitto"
	"noctule/broker/store/state"
	"noctule/cmd/internal/cli"
	"noctule/internal/swapfile"
)

// dbCommand is `noctule db`.
func (c *command) dbCommand() cli.Command {
	return cli.Command{
		Name: "db", Summary: "Look after the file of persistent state.",
		Text: `The file is the one that "persistence true" writes, noctule.db in persistence_location.
No broker may have it open, but for a backup.

The exit code is 0; 1 if a file cannot be reached or written; 3 if it is damaged, or the command
line is wrong.`,
		Examples: []string{
			"db check /var/lib/mosquitto/noctule.db",
			"db backup /var/lib/mosquitto/noctule.db /backup/noctule.db",
		},
		Commands: []cli.Command{
			c.dbCheck(), c.dbStats(), c.dbDump(), c.dbCompact(), c.dbExport(), c.dbImport(), c.dbBackup(),
		},
	}
}

// dbFile is the file of most of them.
func dbFile() cli.Arg {
	return cli.Arg{Name: "file", Help: "The file of persistent state, such as noctule.db."}
}

func (c *command) dbCheck() cli.Command {
	return cli.Command{
		Name: "check", Summary: "Look at every page and record.",
		Examples: []string{"db check noctule.db"},
		Args:     []cli.Arg{dbFile()},
		Run:      func(l *cli.Line) error { return c.state(c.withFile(l.Arg(0), false, c.checkFile)) },
	}
}

func (c *command) dbStats() cli.Command {
	return cli.Command{
		Name: "stats", Summary: "Print sizes and numbers.",
		Examples: []string{"db stats noctule.db"},
		Args:     []cli.Arg{dbFile()},
		Run:      func(l *cli.Line) error { return c.state(c.withFile(l.Arg(0), false, c.fileStats)) },
	}
}

func (c *command) dbDump() cli.Command {
	return cli.Command{
		Name: "dump", Summary: "Print every record as text.",
		Examples: []string{"db dump noctule.db | grep '^retained'"},
		Args:     []cli.Arg{dbFile()},
		Run: func(l *cli.Line) error {
			return c.state(c.withFile(l.Arg(0), false, func(s *bolt.Store) error {
				return dump(c.stdout, s)
			}))
		},
	}
}

func (c *command) dbCompact() cli.Command {
	return cli.Command{
		Name: "compact", Summary: "Write the file anew, without gaps.",
		Examples: []string{"db compact noctule.db"},
		Args:     []cli.Arg{dbFile()},
		Run: func(l *cli.Line) error {
			return c.state(c.withFile(l.Arg(0), true, func(s *bolt.Store) error {
				return compact(s, l.Arg(0))
			}))
		},
	}
}

func (c *command) dbExport() cli.Command {
	return cli.Command{
		Name: "export", Summary: "Write what Mosquitto reads, or JSON.",
		Text: `A file whose name ends in .db becomes a mosquitto.db, which Mosquitto 2.0 and 2.1 read;
any other JSON, like that of mosquitto_db_dump --json.`,
		Examples: []string{"db export noctule.db mosquitto.db", "db export noctule.db | jq ."},
		Args: []cli.Arg{dbFile(), {
			Name: "to", Help: "File to write; without one, JSON goes to the standard output.", Optional: true,
		}},
		Run: func(l *cli.Line) error {
			return c.state(c.withFile(l.Arg(0), false, func(s *bolt.Store) error {
				return c.export(s, l.Arg(0), l.Arg(1))
			}))
		},
	}
}

func (c *command) dbImport() cli.Command {
	return cli.Command{
		Name: "import", Summary: "Make a file of what Mosquitto has written, or of JSON.",
		Text: `Reads a mosquitto.db of version 5 or 6, JSON as "noctule db export" writes it, or the
SQLite file of Mosquitto 2.1. A broker with "persistence true" and no file of its own does that by
itself.`,
		Examples: []string{"db import noctule.db mosquitto.db"},
		Args: []cli.Arg{
			{Name: "file", Help: "The file to make, which must not exist."},
			{Name: "from", Help: "What is read."},
		},
		Run: func(l *cli.Line) error { return c.state(c.importInto(l.Arg(0), l.Arg(1))) },
	}
}

func (c *command) dbBackup() cli.Command {
	return cli.Command{
		Name: "backup", Summary: "Copy the file, also while a broker runs.",
		Text: `The copy is the file as it is at one moment, is checked, and can be put in the place of
the file. Of a broker that runs, it is asked for by way of FILE.sock.`,
		Examples: []string{"db backup /var/lib/mosquitto/noctule.db /backup/noctule.db"},
		Args:     []cli.Arg{dbFile(), {Name: "to", Help: "The copy."}},
		Run:      func(l *cli.Line) error { return c.state(backup(l.Arg(0), l.Arg(1))) },
	}
}

// state tells of an error of persistent state, and makes an exit code of it.
func (c *command) state(err error) error {
	if err == nil {
		return nil
	}
	c.fail(err)
	return exit(stateCode(err))
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
func text(t store.Table, key, value []byte) (line string, err error) {
	say := func(format string, args ...any) error { //nolint:unparam // what a Visitor's functions return
		line = fmt.Sprintf(format, args...)
		return nil
	}
	v := state.Visitor{
		Clock: func(c *store.Clock) error {
			return say("clock: the system's is ahead by %s", time.Duration(c.Ahead)*time.Millisecond)
		},
		Meta:    func(m *store.Meta) error { return say("start %d, %d loops", m.Epoch, m.Loops) },
		Session: func(r *store.Session) error { return say("%s", sessionText(r)) },
		Subscription: func(r *store.Subscription) error {
			return say("session %d %q options 0x%02x id %d%s",
				r.Session, r.Filter, r.Options, r.ID, owedText(r.Owed))
		},
		Message: func(id uint64, m *message.Message) error {
			return say("%d %q QoS %d, %d bytes", id, m.Topic, m.QoS, len(m.Payload))
		},
		Retained: func(m *message.Message) error {
			return say("%q QoS %d, %d bytes", m.Topic, m.QoS, len(m.Payload))
		},
		Entry: func(r *store.Entry) error {
			return say("session %d place %d message %d QoS %d state %d packet id %d",
				r.Session, r.Seq, r.Message, r.QoS, r.State, r.PacketID)
		},
		Handshake: func(r *store.Handshake) error {
			return say("session %d packet id %d message %d", r.Session, r.PacketID, r.Message)
		},
		Transit: func(r *store.Transit) error {
			return say("message %d for loop %d and %q", r.Message, r.Loop, r.Filter)
		},
		Set:        func(r *store.Set) error { return say("%s", setText(r)) },
		Grant:      func(r *store.Grant) error { return say("%s", grantText(r)) },
		AnswerList: func(r *store.Set) error { return say("%s", setText(r)) },
		Answer: func(r *store.Answer) error {
			return say("provider %q question %x list %x, %s", r.Source, r.Key, r.List, untilText(r.Until))
		},
		Denial: func(r *store.Denial) error {
			return say("%s %q %s by %q: %q", r.Of, r.Name, untilText(r.Until), r.By, r.Reason)
		},
	}
	err = v.Look(t, key, value)
	return line, err
}

func sessionText(r *store.Session) string {
	state := "online"
	if r.OfflineAt != 0 {
		state = "offline since " + time.Unix(r.OfflineAt, 0).UTC().Format(time.RFC3339)
	}
	will := ""
	if r.Will != nil {
		will = fmt.Sprintf(", will on %q", r.Will.Message.Topic)
	}
	return fmt.Sprintf("%d client %q user %q expiry %d, %s%s",
		r.Number, r.ClientID, r.Username, r.Expiry, state, will)
}

// owedText says that retained messages are still to be sent.
func owedText(owed bool) string {
	if owed {
		return ", retained messages to come"
	}
	return ""
}

// untilText says when a denial ends.
func untilText(at int64) string {
	if at == 0 {
		return "for ever"
	}
	return "until " + time.Unix(at, 0).UTC().Format(time.RFC3339)
}

func setText(r *store.Set) string {
	b := fmt.Appendf(nil, "%x", r.Key)
	for i := range r.Topics {
		t := &r.Topics[i]
		b = fmt.Appendf(b, ", %q options 0x%02x id %d", t.Filter, t.Options, t.ID)
		if t.End != 0 {
			b = append(b, " "+untilText(t.End)...)
		}
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
	if r.Denials > 0 {
		fmt.Fprintf(c.stdout, "%d bans\n", r.Denials)
	}
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
