//go:build race

package session

// shallower is by how much the short search is less deep than a scenario says.
const shallower = 4
