//go:build unix

package isolate

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// Supported reports whether handlers can be isolated on this system.
const Supported = true

// raise sends the signal to this process.
func raise(n syscall.Signal) error { return syscall.Kill(os.Getpid(), n) }

// killGroup kills the process and what it has started, as far as that has stayed in its group.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) } // ESRCH: it has ended

func closeOnExec(f *os.File) { syscall.CloseOnExec(int(f.Fd())) }

// peakMemory is the most resident memory this process ever had, in bytes; 0 where it cannot be known. On Linux what
// getrusage tells counts the worker's own: its child inherits it.
func peakMemory() int64 {
	if text, err := os.ReadFile("/proc/self/status"); err == nil {
		if _, rest, ok := bytes.Cut(text, []byte("VmHWM:")); ok {
			line, _, _ := bytes.Cut(rest, []byte(" kB"))
			n, _ := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
			return n << 10
		}
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" { // bytes there, kilobytes elsewhere
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) << 10
}

// residentMemory is the resident memory of a process, by its id or "self"; false where the system does not tell it this way.
func residentMemory(pid string) (int64, bool) {
	text, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

// exitStatus is how a process ended, as billiard's human_status says it.
func exitStatus(s *os.ProcessState) (text string, signum int) {
	ws, ok := s.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return signalText(ws.Signal()), int(ws.Signal())
	}
	return "exitcode " + strconv.Itoa(s.ExitCode()), 0
}

// signalText is "signal 9 (SIGKILL)".
func signalText(sig syscall.Signal) string {
	text := "signal " + strconv.Itoa(int(sig))
	if name := signalNames[sig]; name != "" {
		text += " (" + name + ")"
	}
	return text
}

// signalNames are those a process ends by.
var signalNames = map[syscall.Signal]string{
	syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL", syscall.SIGTRAP: "SIGTRAP",
	syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE", syscall.SIGKILL: "SIGKILL", syscall.SIGUSR1: "SIGUSR1",
	syscall.SIGSEGV: "SIGSEGV", syscall.SIGUSR2: "SIGUSR2", syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM",
	syscall.SIGXCPU: "SIGXCPU", syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGVTALRM: "SIGVTALRM", syscall.SIGPROF: "SIGPROF", syscall.SIGIO: "SIGIO",
	syscall.SIGSYS: "SIGSYS",
}
