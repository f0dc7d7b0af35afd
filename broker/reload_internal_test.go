package broker

import (
	"context"
	"reflect"
	"testing"

	"noctule/codec"
)

// TestReloadTakesOver changes every option: each loop has the new values of those that are reloadable, and of no
// other.
func TestReloadTakesOver(t *testing.T) {
	o := DefaultOptions()
	o.Loops = 2
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer endBroker(t, b)
	marked := map[string]bool{}
	for _, name := range Reloadable() {
		marked[name] = true
	}
	next := o
	fields := reflect.ValueOf(&next).Elem()
	for i := range fields.NumField() {
		f := fields.Field(i)
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Uint8, reflect.Uint16, reflect.Uint32:
			f.SetUint(f.Uint() + 1)
		case reflect.Int, reflect.Int64:
			f.SetInt(f.Int() + 1<<40)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		default: // what the program gives: tested where it is used
			if marked[fields.Type().Field(i).Name] {
				t.Errorf("%s is reloadable, and is not changed here", fields.Type().Field(i).Name)
			}
		}
	}
	// Features keep what New was given, whatever a reload says.
	next.Admitters, next.Features = []Admitter{nobody{}}, nil
	if err := b.Reload(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.onEach(context.Background(), func(s *shard) {
		got, old, want := reflect.ValueOf(*s.opts), reflect.ValueOf(b.opts), reflect.ValueOf(next)
		for i := range got.NumField() {
			f := got.Type().Field(i)
			if !f.IsExported() || f.Type.Kind() == reflect.Func {
				continue
			}
			from := old
			if marked[f.Name] {
				from = want
			}
			if !reflect.DeepEqual(got.Field(i).Interface(), from.Field(i).Interface()) {
				t.Errorf("loop %d: %s is %v, want %v", s.index, f.Name, got.Field(i), from.Field(i))
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// nobody is an Admitter that is not asked.
type nobody struct{}

func (nobody) Admit(context.Context, *Admission) codec.Reason { return codec.Success }
