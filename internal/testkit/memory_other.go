//go:build !linux

package testkit

// memory returns "": there is no directory in memory.
func memory() string { return "" }
