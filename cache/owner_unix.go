//go:build unix

package cache

import (
	"io/fs"
	"os"
	"syscall"
)

// owner is the user that the directory belongs to.
type owner struct {
	uid   uint32
	known bool
}

func ownerOf(st fs.FileInfo) owner {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return owner{sys.Uid, true}
	}
	return owner{}
}

// trusts says whether a file belongs to the directory's owner or to this process's user.
func (o owner) trusts(st fs.FileInfo) bool {
	f := ownerOf(st)
	return !o.known || !f.known || f.uid == o.uid || f.uid == uint32(os.Geteuid())
}

func unsafeMode(st fs.FileInfo) bool { return st.Mode().Perm()&0o022 != 0 }
