package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

type failIn struct {
	Message protocol.Value `json:"message" default:"\"boom\""`
	Type    string         `json:"exc_type" default:"ValueError"`
}

// fail raises the builtin exception of that name. SystemExit and its kin are no Exceptions: in Python they
// would end the worker, so here they are unknown.
func fail(_ context.Context, in failIn) (struct{}, error) {
	class := in.Type
	if real, ok := builtinAliases[class]; ok {
		class = real
	}
	if text, ok := builtinMoreArgs[class]; ok {
		return struct{}{}, typeError("%s", text)
	}
	if !builtinExceptions[class] {
		return struct{}{}, protocol.NewException("ValueError", fmt.Sprintf("exc_type %s: want the name of a builtin exception, such as ValueError", protocol.Repr(in.Type)))
	}
	return struct{}{}, protocol.NewException(class, in.Message)
}

// builtinAliases are second names of OSError.
var builtinAliases = map[string]string{"EnvironmentError": "OSError", "IOError": "OSError"}

// builtinMoreArgs are the exceptions that one message is too little for, with what Python says then.
var builtinMoreArgs = map[string]string{
	"ExceptionGroup":        "BaseExceptionGroup.__new__() takes exactly 2 arguments (1 given)",
	"UnicodeDecodeError":    "function takes exactly 5 arguments (1 given)",
	"UnicodeEncodeError":    "function takes exactly 5 arguments (1 given)",
	"UnicodeTranslateError": "function takes exactly 4 arguments (1 given)",
}

// builtinExceptions are the subclasses of Exception among Python 3.11's builtins that take one message. EncodingWarning is
// left out: it is new in 3.10, and a caller on an older Python has no such class.
var builtinExceptions = func() map[string]bool {
	names := make(map[string]bool)
	for name := range strings.FieldsSeq(`
		ArithmeticError AssertionError AttributeError BlockingIOError BrokenPipeError BufferError BytesWarning
		ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError
		DeprecationWarning EOFError Exception FileExistsError FileNotFoundError FloatingPointError
		FutureWarning ImportError ImportWarning IndentationError IndexError InterruptedError IsADirectoryError
		KeyError LookupError MemoryError ModuleNotFoundError NameError NotADirectoryError NotImplementedError
		OSError OverflowError PendingDeprecationWarning PermissionError ProcessLookupError RecursionError
		ReferenceError ResourceWarning RuntimeError RuntimeWarning StopAsyncIteration StopIteration SyntaxError
		SyntaxWarning SystemError TabError TimeoutError TypeError UnboundLocalError UnicodeError UnicodeWarning
		UserWarning ValueError Warning ZeroDivisionError`) {
		names[name] = true
	}
	return names
}()
