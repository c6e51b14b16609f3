//go:build !linux

package command

// handBack does nothing: only Linux has the means.
func handBack() {}
