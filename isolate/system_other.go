//go:build !unix

package isolate

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// Supported reports whether handlers can be isolated on this system.
const Supported = false

var errUnsupported = errors.New("isolate: handlers cannot be isolated on this system")

func raise(syscall.Signal) error                  { return errUnsupported }
func killGroup(int)                               {}
func closeOnExec(*os.File)                        {}
func peakMemory() int64                           { return 0 }
func residentMemory(string) (int64, bool)         { return 0, false }
func attributes() *syscall.SysProcAttr            { return nil }
func program() (string, error)                    { return "", errUnsupported }
func offerToKiller()                              {}
func exitStatus(s *os.ProcessState) (string, int) { return "exitcode " + strconv.Itoa(s.ExitCode()), 0 }
