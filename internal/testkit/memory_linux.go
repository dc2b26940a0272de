package testkit

import "syscall"

// memory returns a directory in memory that has room for tests and lets programs be started from it, or "". Containers
// often have one that is small or does not.
func memory() string {
	const (
		dir    = "/dev/shm"
		room   = 1 << 30
		noExec = 8 // ST_NOEXEC of statvfs(3)
	)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil || st.Bavail*uint64(st.Bsize) < room || st.Flags&noExec != 0 {
		return ""
	}
	return dir
}
