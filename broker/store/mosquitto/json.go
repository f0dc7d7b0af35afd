package mosquitto

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// JSON is the text that mosquitto_db_dump --json or WriteJSON has written.
type JSON struct {
	in io.ReadSeeker
}

// NewJSON returns the source that in holds.
func NewJSON(in io.ReadSeeker) *JSON { return &JSON{in} }

// Each implements Source.
func (j *JSON) Each(v *Visitor) error {
	if _, err := j.in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	d := json.NewDecoder(bufio.NewReaderSize(j.in, 1<<20))
	if err := readObject(d, v); err != nil {
		return fmt.Errorf("byte %d: %w", d.InputOffset(), err)
	}
	return nil
}

var errShape = errors.New("not the JSON of mosquitto_db_dump")

func readObject(d *json.Decoder, v *Visitor) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errShape, err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		switch key {
		case "base-messages":
			err = readList(d, v.Message)
		case "clients":
			err = readList(d, v.Client)
		case "client-messages":
			err = readList(d, v.ClientMessage)
		case "retained-messages":
			err = readList(d, v.Retained)
		case "subscriptions":
			err = readList(d, v.Subscription)
		case "subscription-lists":
			err = readList(d, v.List)
		case "subscription-grants":
			err = readList(d, v.Grant)
		case "denials":
			err = readList(d, v.Denial)
		default:
			err = d.Decode(&json.RawMessage{})
		}
		if err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// readList reads an array, or null.
func readList[R any](d *json.Decoder, f func(*R) error) error {
	switch t, err := d.Token(); {
	case err != nil:
		return err
	case t == nil:
		return nil
	case t != json.Delim('['):
		return errShape
	}
	for d.More() {
		if f == nil {
			if err := d.Decode(&json.RawMessage{}); err != nil {
				return err
			}
			continue
		}
		var r R
		if err := d.Decode(&r); err != nil {
			return err
		}
		if err := f(&r); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// jsonWriter writes the parts of an object, each a list.
type jsonWriter struct {
	w     *bufio.Writer
	parts int
	open  string // name of the list that is being written; "" none
	err   error
}

// part ends the list before and begins another.
func (j *jsonWriter) part(name string) {
	j.end()
	if j.parts++; j.parts > 1 {
		j.text(",")
	}
	j.text("\n  \"" + name + "\": [")
}

func (j *jsonWriter) end() {
	if j.open != "" {
		j.text("\n  ")
	}
	if j.parts > 0 {
		j.text("]")
	}
	j.open = ""
}

func (j *jsonWriter) text(s string) {
	if j.err == nil {
		_, j.err = j.w.WriteString(s)
	}
}

// record returns what writes one record to the list of that name. Lists that must be there, empty or not,
// have been begun by part.
func record[R any](j *jsonWriter, name string) func(*R) error {
	return func(r *R) error {
		raw, err := json.MarshalIndent(r, "    ", "  ")
		if err != nil {
			return err
		}
		if j.open == "" {
			j.text("\n    ")
		} else {
			j.text(",\n    ")
		}
		j.open = name
		j.text(string(raw))
		return j.err
	}
}

// optional is record for one that is only there if it has a record.
func optional[R any](j *jsonWriter, name string) func(*R) error {
	add := record[R](j, name)
	begun := false
	return func(r *R) error {
		if !begun {
			j.part(name)
			begun = true
		}
		return add(r)
	}
}

// WriteJSON writes what mosquitto_db_dump --json would, what servers have subscribed clients to,
// and who may not be here.
func WriteJSON(w io.Writer, from Source) error {
	j := &jsonWriter{w: bufio.NewWriterSize(w, 1<<16)}
	j.text("{")
	for _, p := range []struct {
		name string
		v    Visitor
	}{
		{"base-messages", Visitor{Message: record[Message](j, "base-messages")}},
		{"clients", Visitor{Client: record[Client](j, "clients")}},
		{"client-messages", Visitor{ClientMessage: record[ClientMessage](j, "client-messages")}},
		{"retained-messages", Visitor{Retained: record[Retained](j, "retained-messages")}},
		{"subscriptions", Visitor{Subscription: record[Subscription](j, "subscriptions")}},
	} {
		j.part(p.name)
		if err := from.Each(&p.v); err != nil {
			return err
		}
	}
	for _, v := range []Visitor{
		{List: optional[List](j, "subscription-lists")},
		{Grant: optional[Grant](j, "subscription-grants")},
		{Denial: optional[Denial](j, "denials")},
	} {
		if err := from.Each(&v); err != nil {
			return err
		}
	}
	j.end()
	j.text("\n}\n")
	return errors.Join(j.err, j.w.Flush())
}
