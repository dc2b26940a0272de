//go:build race

package senbonzakura

const raceEnabled = true
