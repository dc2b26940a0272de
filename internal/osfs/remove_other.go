//go:build !windows

package osfs

import "os"

// RemoveIn is root.Remove, also where the system lacks what that asks for.
func RemoveIn(root *os.Root, name string) error { return root.Remove(name) }
