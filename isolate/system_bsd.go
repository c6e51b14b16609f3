//go:build unix && !linux

package isolate

import (
	"os"
	"syscall"
)

// attributes make the child the head of a group of its own, so that Ctrl-C at a terminal reaches the worker alone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// program is the file to start.
func program() (string, error) { return os.Executable() }

func offerToKiller() {}
