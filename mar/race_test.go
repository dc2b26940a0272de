//go:build race

package mar

// slower is how much longer tests may take.
const slower = 10
