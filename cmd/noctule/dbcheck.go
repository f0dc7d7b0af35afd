package main

import (
	"errors"
	"fmt"

	"noctule/broker/store"
	"noctule/broker/store/bolt"
	"noctule/broker/store/state"
)

// damage reports whether an error is about what a file holds, and not about how it is reached.
func damage(err error) bool {
	return errors.Is(err, store.ErrCorrupt) || errors.Is(err, bolt.ErrForeign) ||
		errors.Is(err, bolt.ErrUnreadable)
}

// stateCode is the exit code of an error of persistent state.
func stateCode(err error) int {
	if damage(err) {
		return exitConfig
	}
	return exitListener
}

// checkFile reads everything.
func (c *command) checkFile(s *bolt.Store) error {
	problems := s.Check()
	records := 0
	var refs state.References
	for t := range store.Tables {
		err := s.Walk(t, func(key, value []byte) error {
			records++
			_, err := text(t, key, value)
			if err == nil {
				err = refs.Look(t, key, value)
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: key %x: %w", t, key, err))
			}
			return nil
		})
		if err != nil && len(problems) == 0 { // Check has seen it, if it has seen anything
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	fmt.Fprintf(c.stdout, "%d records, no problems.\n", records)
	return nil
}
