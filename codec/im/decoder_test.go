package im

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

// question is a payload for the other decoder.
type question struct {
	Format string `json:"format"`
	Hex    string `json:"hex"`
}

// verdict is what a decoder says of a payload: one of the two.
type verdict struct {
	Value  any  `json:"value,omitempty"`
	Offset *int `json:"offset,omitempty"`
}

// mutationsOf are payloads that are nearly raw: with a byte changed, cut, doubled or put in.
func mutationsOf(r *rand.Rand, raw []byte, n int) (list [][]byte) {
	telling := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x20, 0x40, '+', '#', '/', 0x7F, 0x80, 0xC2, 0xED, 0xEF, 0xFF}
	for range n {
		b := bytes.Clone(raw)
		for range 1 + r.IntN(2) {
			at := r.IntN(len(b) + 1)
			c := telling[r.IntN(len(telling))]
			switch r.IntN(4) {
			case 0:
				b = b[:at]
			case 1:
				b = append(b[:at:at], append([]byte{c}, b[at:]...)...)
			case 2:
				b = append(b[:at:at], b[min(at+1, len(b)):]...)
			default:
				if at < len(b) {
					b[at] = c
				}
			}
		}
		list = append(list, b)
	}
	return list
}

// ours is what this package says.
func ours(t *testing.T, q question) verdict {
	t.Helper()
	raw, err := hex.DecodeString(q.Hex)
	if err != nil {
		t.Fatal(err)
	}
	p := formats[q.Format+".json"]()
	err = p.Parse(raw)
	if err == nil {
		return verdict{Value: plain(t, p)}
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	return verdict{Offset: &e.Offset}
}

// theirs is what the decoder in Python says, which was written from docs/formats.md only.
func theirs(t *testing.T, questions []question) (list []verdict) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is not installed")
		}
		t.Skip("python3 is not installed")
	}
	var in, out, complaints bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, q := range questions {
		if err := enc.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/decoder.py")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("decoder.py: %v\n%s", err, complaints.String())
	}
	for dec := json.NewDecoder(&out); dec.More(); {
		var v verdict
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	if len(list) != len(questions) {
		t.Fatalf("decoder.py answers %d of %d", len(list), len(questions))
	}
	return list
}

// TestIndependentDecoder holds a decoder in another language, written from docs/formats.md, against the vectors,
// and against this package where there is no vector.
func TestIndependentDecoder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var questions []question
	var wants []verdict
	for file := range formats {
		format := strings.TrimSuffix(file, ".json")
		for _, v := range vectors(t, file) {
			want := verdict{Offset: v.Offset}
			if v.Offset == nil {
				if err := json.Unmarshal(v.Value, &want.Value); err != nil {
					t.Fatal(err)
				}
			}
			questions, wants = append(questions, question{format, v.Hex}), append(wants, want)
			raw, err := hex.DecodeString(v.Hex)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range mutationsOf(r, raw, 100) {
				q := question{format, hex.EncodeToString(b)}
				questions, wants = append(questions, q), append(wants, ours(t, q))
			}
		}
	}
	taken := 0
	for i, got := range theirs(t, questions) {
		if got.Offset == nil {
			taken++
		}
		if !reflect.DeepEqual(got, wants[i]) {
			t.Errorf("%s %s:\nPython %s\nwant   %s", questions[i].Format, questions[i].Hex, show(got), show(wants[i]))
		}
	}
	if taken < len(questions)/20 {
		t.Errorf("%d of %d payloads are taken: too few to compare values", taken, len(questions))
	}
	t.Logf("%d payloads, %d of them taken", len(questions), taken)
}

func show(v verdict) string {
	b, _ := json.Marshal(v)
	return string(b)
}
