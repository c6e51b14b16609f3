package testservers

import "syscall"

// childAttributes: a group of its own, and death with us even when we are killed: `go test -timeout` ends a
// test process without running cleanups.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
