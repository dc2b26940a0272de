//go:build !linux

package plugins

// canWaitFirst says that there is no way to wait without giving the process's number free: children that a
// plugin leaves behind are then ended only when the plugin itself is killed.
const canWaitFirst = false

func waitable(int) {}
