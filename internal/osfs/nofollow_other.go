//go:build !unix

package osfs

const noFollow = 0
