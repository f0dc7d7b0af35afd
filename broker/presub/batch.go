package presub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// batchSource asks a webservice about several clients at once: it posts {"clients":[{...},...]}, and the
// answer is {"lists":[{"topics":[...]},{"error":"..."},...]}: one for each client, in their order.
type batchSource struct{ *httpSource }

var _ batcher = batchSource{}

// batched is the source in the form in which the webservice is to be asked.
func (s *httpSource) batched() source {
	if s.cfg.Batch == 0 {
		return s
	}
	return batchSource{s}
}

// size implements batcher.
func (s batchSource) size() int { return s.cfg.Batch }

// topics implements source.
func (s batchSource) topics(ctx context.Context, c *Client) ([]Topic, error) {
	list, err := s.lists(ctx, []*Client{c})
	if err != nil {
		return nil, err
	}
	return list[0].list, list[0].err
}

// lists implements batcher.
func (s batchSource) lists(ctx context.Context, list []*Client) ([]found, error) {
	var order struct {
		Clients []map[string]string `json:"clients"`
	}
	for _, c := range list {
		order.Clients = append(order.Clients, about(c))
	}
	body, err := json.Marshal(&order)
	if err != nil {
		return nil, finalError{err}
	}
	var out []found
	err = s.ask(ctx, list[0], body, func(answer []byte) error {
		out, err = parseLists(answer, len(list))
		return err
	})
	return out, err
}

// parseLists reads the answer about n clients.
func parseLists(answer []byte, n int) ([]found, error) {
	var got struct {
		Lists []json.RawMessage `json:"lists"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, err
	}
	if len(got.Lists) != n {
		return nil, fmt.Errorf("%d lists for %d clients", len(got.Lists), n)
	}
	out := make([]found, n)
	for i, raw := range got.Lists {
		var no struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(raw, &no) == nil && no.Error != "" {
			out[i].err = finalError{errors.New(no.Error)}
			continue
		}
		if out[i].list, out[i].err = parseList(raw); out[i].err != nil {
			out[i].err = finalError{out[i].err}
		}
	}
	return out, nil
}
