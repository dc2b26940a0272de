//go:build !unix && !windows

package cache

import "io/fs"

func noSpace(error) bool { return false }

func crossDevice(error) bool { return true } // when in doubt, copy

func isLink(error) bool { return false }

func notDir(error) bool { return false }

func hardLinks(fs.FileInfo) uint64 { return 1 }
