package main

import (
	"fmt"
	"os"
	"syscall"
)

// exhaust lets the process have 128 MiB more than it has, as `ulimit -v` does, and takes all of it. The runtime then ends
// the process: nobody can catch that, as nobody can catch the kernel's memory killer.
func exhaust() error {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		return err
	}
	most := pages*uint64(os.Getpagesize()) + 128<<20
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
		return err
	}
	var kept [][]byte
	for len(kept) < 64 {
		block := make([]byte, 16<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	return fmt.Errorf("%d blocks of 16 MiB fit below a limit of 128 MiB", len(kept))
}
