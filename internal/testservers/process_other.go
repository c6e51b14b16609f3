//go:build !linux

package testservers

import "syscall"

// childAttributes: a group of its own. Only Linux can tie a child's life to ours.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
