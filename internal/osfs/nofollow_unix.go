//go:build unix

package osfs

import "syscall"

// Not to follow links, and not to wait for the other end of a pipe.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
