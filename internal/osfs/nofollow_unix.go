//go:build unix

package osfs

import "syscall"

const noFollow = syscall.O_NOFOLLOW
