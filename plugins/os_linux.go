package plugins

import "syscall"

// dieWithHost has the kernel kill the child when the thread that starts it ends; thread keeps that thread.
func dieWithHost(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
