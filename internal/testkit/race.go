//go:build race

package testkit

// Race says whether the race detector is built in: computing then takes five to fifteen times as long.
const Race = true
