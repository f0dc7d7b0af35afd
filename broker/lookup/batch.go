package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// batches asks a webservice several questions at once: it posts {"clients":[{...},...]}, and the answer is
// {"lists":[{...},{"error":"..."},...]}, one for each, in their order. The two words are the caller's.
type batches[A any] struct {
	*webservice[A]
	asked, answers string
}

var _ Batcher[int] = batches[int]{}

// Most implements Batcher.
func (s batches[A]) Most() int { return s.cfg.Batch }

// Ask implements Source.
func (s batches[A]) Ask(ctx context.Context, q *Question) (A, error) {
	list, err := s.AskMany(ctx, []*Question{q})
	if err != nil {
		var none A
		return none, err
	}
	return list[0].Answer, list[0].Err
}

// AskMany implements Batcher.
func (s batches[A]) AskMany(ctx context.Context, list []*Question) ([]Found[A], error) {
	about := make([]map[string]string, len(list))
	for i, q := range list {
		about[i] = s.about(q)
	}
	body, _ := json.Marshal(map[string]any{s.asked: about}) // of strings, which has no errors
	var out []Found[A]
	read := OK(func(answer []byte) (_ struct{}, err error) {
		out, err = s.parse(answer, len(list))
		return struct{}{}, err
	})
	err := s.ask(ctx, list[0], string(body), func(status int, answer []byte) error {
		_, err := read(status, answer)
		return err
	})
	return out, err
}

// parse reads the answer to n questions.
func (s batches[A]) parse(answer []byte, n int) ([]Found[A], error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(answer, &object); err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(object[s.answers], &list); err != nil {
		return nil, fmt.Errorf("%s: %w", s.answers, err)
	}
	if len(list) != n {
		return nil, fmt.Errorf("%d %s for %d %s", len(list), s.answers, n, s.asked)
	}
	out := make([]Found[A], n)
	for i, raw := range list {
		var no struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(raw, &no) == nil && no.Error != "" {
			out[i].Err = Final{errors.New(no.Error)}
			continue
		}
		if out[i].Answer, out[i].Err = s.read(http.StatusOK, raw); out[i].Err != nil {
			out[i].Err = Final{out[i].Err}
		}
	}
	return out, nil
}
