//go:build unix

package command

import (
	"os"
	"syscall"
)

// sigDump asks for the stacks of all goroutines.
const sigDump = syscall.SIGUSR1

// become makes this process run the command line again, from the folder it was started in.
func become(folder string, args, environ []string) error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Chdir(folder); err != nil {
		return err
	}
	return syscall.Exec(path, args, environ)
}
