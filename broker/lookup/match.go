package lookup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// What selectors of all files of settings are made of: whom something is for.

// Patterns are globs: "*" stands for any characters, also for none, everything else for itself. So "" is a
// client that has no such name.
type Patterns []string

// Prefixes are networks; an address is one that has nothing else in it.
type Prefixes []netip.Prefix

// valuesMax is how many values one setting of a selector may have.
const valuesMax = 1000

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (p *Patterns) UnmarshalYAML(n ast.Node) error {
	return eachValue(n, func(_ ast.Node, text string) error {
		*p = append(*p, text)
		return nil
	})
}

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (p *Prefixes) UnmarshalYAML(n ast.Node) error {
	return eachValue(n, func(node ast.Node, text string) error {
		prefix, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); aerr == nil && a.Zone() == "" {
			prefix, err = a.Unmap().Prefix(a.Unmap().BitLen())
		}
		if err != nil {
			return Misplaced(node, "%q is not an address, nor a network such as 10.0.0.0/8", text)
		}
		if prefix != prefix.Masked() {
			return Misplaced(node, "%q has bits beyond the network %s", text, prefix.Masked())
		}
		*p = append(*p, prefix)
		return nil
	})
}

// selectorsMax is how many selectors there may be.
const selectorsMax = 100

// Selectors reads one selector, or a list of them. One that selects by nothing, which none tells, would fit
// everybody and is an error; keys are what it may select by, for that.
func Selectors[S any](n ast.Node, none func(*S) bool, keys string) ([]S, error) {
	nodes := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		nodes = seq.Values
	}
	if len(nodes) == 0 || len(nodes) > selectorsMax {
		return nil, Misplaced(n, "a list of %d selectors, 1 to %d are allowed", len(nodes), selectorsMax)
	}
	list := make([]S, len(nodes))
	for i, node := range nodes {
		if err := yaml.NodeToValue(node, &list[i], yaml.Strict()); err != nil {
			return nil, err
		}
		if none(&list[i]) {
			return nil, Misplaced(node, "a selector needs one of %s", keys)
		}
	}
	return list, nil
}

// eachValue goes through a scalar, or a list of at least one.
func eachValue(n ast.Node, f func(node ast.Node, text string) error) error {
	nodes := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		nodes = seq.Values
	}
	if len(nodes) == 0 || len(nodes) > valuesMax {
		return Misplaced(n, "a list of %d values, 1 to %d are allowed", len(nodes), valuesMax)
	}
	for _, node := range nodes {
		scalar, ok := node.(ast.ScalarNode)
		if !ok || node.Type() == ast.NullType {
			return Misplaced(node, "not a value, nor a list of values")
		}
		text := scalar.GetToken().Value
		if s, ok := node.(*ast.StringNode); ok {
			text = s.Value
		}
		if err := f(node, text); err != nil {
			return err
		}
	}
	return nil
}

// Misplaced is an error with the place of a node, as the YAML reader has it.
func Misplaced(n ast.Node, format string, args ...any) error {
	pos := n.GetToken().Position
	return fmt.Errorf("[%d:%d] %s", pos.Line, pos.Column, fmt.Sprintf(format, args...))
}

// Fit reports whether one of them fits a name.
func (p Patterns) Fit(name string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool { return globFits(pattern, name) })
}

// Fit reports whether an address is in one of them.
func (p Prefixes) Fit(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(a) })
}

// globFits takes time in proportion to name, whatever the pattern: names are for clients to choose.
func globFits(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	for ok {
		var piece string
		if piece, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(name, piece)
		}
		_, name, ok = strings.Cut(name, piece)
	}
	return false
}
