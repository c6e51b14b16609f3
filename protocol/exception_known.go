package protocol

import (
	"errors"
	"strings"
)

// The exceptions Celery itself stores, in the words its clients know.

func celeryException(class string, args ...Value) *Exception {
	return &Exception{Module: "celery.exceptions", Type: class, Args: args}
}

// NotRegistered: no task of that name is served here.
func NotRegistered(name string) *Exception { return celeryException("NotRegistered", name) }

// TaskRevoked is the result of REVOKED; reason is "revoked", "expired" or "terminated".
func TaskRevoked(reason string) *Exception { return celeryException("TaskRevokedError", reason) }

// MaxRetriesExceeded: no retry is left and the task gave no cause.
func MaxRetriesExceeded(text string) *Exception {
	return celeryException("MaxRetriesExceededError", cleanText(text))
}

// InvalidTask: the message is a task that cannot run.
func InvalidTask(text string) *Exception {
	return celeryException("InvalidTaskError", cleanText(text))
}

// Reject is what Celery 5.7 stores for a task that was given up without requeue. reason may be nil.
func Reject(reason Value, requeue bool) *Exception {
	return celeryException("Reject", reason, requeue)
}

// TimeLimitExceeded: the hard limit, a number of seconds as the message gave it (int64 or float64).
func TimeLimitExceeded(seconds Value) *Exception {
	return &Exception{Module: "billiard.exceptions", Type: "TimeLimitExceeded", Args: []Value{seconds}}
}

// SoftTimeLimitExceeded: the handler did not stop by itself at the soft limit.
func SoftTimeLimitExceeded() *Exception {
	return &Exception{Module: "billiard.exceptions", Type: "SoftTimeLimitExceeded", Args: []Value{}}
}

// WorkerLost: whoever ran the task is gone.
func WorkerLost(text string) *Exception {
	return &Exception{Module: "billiard.exceptions", Type: "WorkerLostError", Args: []Value{cleanText(text)}}
}

// EncodeErr is Kombu's EncodeError for a result that cannot be written; its one argument is the repr of the
// TypeError that Python would have raised.
func EncodeErr(err error) *Exception {
	text := ""
	if err != nil {
		text = err.Error()
		if inner := (*EncodeError)(nil); errors.As(err, &inner) && inner.Err != nil {
			text = inner.Err.Error()
		}
	}
	return &Exception{
		Module: "kombu.exceptions", Type: "EncodeError", Cause: err,
		Args: []Value{"TypeError(" + pyRepr(cleanText(text)) + ")"},
	}
}

// ownModule is where classes go that must not be looked up in a module of Python's: no process loads it, so
// every client makes a class of that name.
const ownModule = "stalk.errors"

// safeClass is the module and class to write. A name that Python would resolve to something else than an
// exception makes the record unreadable for ever (SecurityError on every read), and SystemExit or
// KeyboardInterrupt would end the process that reads it.
func safeClass(module, class string) (string, string) {
	if class == "" {
		class = "RuntimeError"
		if module == "" {
			module = "builtins"
		}
	}
	if fatal[class[strings.LastIndexByte(class, '.')+1:]] {
		return ownModule, class
	}
	switch module {
	case "builtins":
		if !builtinExceptions[class] {
			module = ownModule
		}
	case "":
		module = ownModule
		if builtinExceptions[class] {
			module = "builtins"
		}
	default:
		// module.a.b walks attributes: only names that can be classes may be walked.
		for step := range strings.SplitSeq(class, ".") {
			if !isClassName(step) {
				return ownModule, class
			}
		}
	}
	return module, class
}

func isClassName(s string) bool {
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= 0x80:
		case (r >= '0' && r <= '9' || r == '_') && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// fatal are the exceptions that end the process they are raised in.
var fatal = set("KeyboardInterrupt", "SystemExit", "GeneratorExit")

// builtinExceptions are Python's, 3.9 and later, less the fatal ones. The groups are left out: they cannot
// be made from plain arguments.
var builtinExceptions = set(
	"ArithmeticError", "AssertionError", "AttributeError", "BaseException", "BlockingIOError",
	"BrokenPipeError", "BufferError", "BytesWarning", "ChildProcessError", "ConnectionAbortedError",
	"ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "DeprecationWarning", "EOFError",
	"EnvironmentError", "Exception", "FileExistsError", "FileNotFoundError", "FloatingPointError",
	"FutureWarning", "IOError", "ImportError", "ImportWarning", "IndentationError", "IndexError",
	"InterruptedError", "IsADirectoryError", "KeyError", "LookupError", "MemoryError", "ModuleNotFoundError",
	"NameError", "NotADirectoryError", "NotImplementedError", "OSError", "OverflowError",
	"PendingDeprecationWarning", "PermissionError", "ProcessLookupError", "RecursionError", "ReferenceError",
	"ResourceWarning", "RuntimeError", "RuntimeWarning", "StopAsyncIteration", "StopIteration", "SyntaxError",
	"SyntaxWarning", "SystemError", "TabError", "TimeoutError", "TypeError", "UnboundLocalError",
	"UnicodeDecodeError", "UnicodeEncodeError", "UnicodeError", "UnicodeTranslateError", "UnicodeWarning",
	"UserWarning", "ValueError", "Warning", "ZeroDivisionError",
)

// osErrors print as "[Errno 2] text".
var osErrors = set(
	"OSError", "IOError", "EnvironmentError", "BlockingIOError", "BrokenPipeError", "ChildProcessError",
	"ConnectionError", "ConnectionAbortedError", "ConnectionRefusedError", "ConnectionResetError",
	"FileExistsError", "FileNotFoundError", "InterruptedError", "IsADirectoryError", "NotADirectoryError",
	"PermissionError", "ProcessLookupError", "TimeoutError",
)
