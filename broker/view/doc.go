// Package view is what operators see of a broker: long lists a page at a time (Cursor), and what happens to
// clients, as it happens (Watch). Neither holds the broker up: a cursor asks a loop for a bounded piece at a
// time, and who watches and does not read loses events, and hears how many.
//
// What a client, a subscription or a shared one is, loops write into the values here; the package knows
// nothing of loops but that they can be asked.
package view
