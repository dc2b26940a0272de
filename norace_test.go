//go:build !race

package senbonzakura

const raceEnabled = false
