package worker

import (
	"fmt"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// signals are the names of Python's module signal on Linux. Here every one of them ends a handler the same way;
// the number only stands in log and event.
var signals = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGIOT": 6, "SIGBUS": 7, "SIGFPE": 8,
	"SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15, "SIGSTKFLT": 16,
	"SIGCHLD": 17, "SIGCLD": 17, "SIGCONT": 18, "SIGSTOP": 19, "SIGTSTP": 20, "SIGTTIN": 21, "SIGTTOU": 22, "SIGURG": 23,
	"SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26, "SIGPROF": 27, "SIGWINCH": 28, "SIGIO": 29, "SIGPOLL": 29, "SIGPWR": 30,
	"SIGSYS": 31, "SIGRTMIN": 34, "SIGRTMAX": 64,
}

// signalNumber reads the argument signal as celery.platforms does: a number, or an upper-case name with or without
// SIG; nothing is SIGTERM.
func signalNumber(v protocol.Value) (int, error) {
	if !protocol.Truthy(v) {
		return signals["SIGTERM"], nil
	}
	if n, ok := pythonInt(v); ok {
		return n, nil
	}
	name, ok := v.(string)
	if !ok || strings.ToUpper(name) != name || strings.ToLower(name) == name { // str.isupper
		return 0, protocol.NewException("TypeError", "signal name must be uppercase string.")
	}
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	n, ok := signals[name]
	if !ok {
		return 0, protocol.NewException("AttributeError", fmt.Sprintf("module 'signal' has no attribute '%s'", clip(name)))
	}
	return n, nil
}
