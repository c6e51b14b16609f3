package protocol_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

func TestNewException(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		class  string
		args   []any
		module string
		text   string
		repr   string
	}{
		{"ValueError", []any{"boom", 3}, "builtins", "ValueError: ('boom', 3)", "ValueError('boom', 3)"},
		{"ValueError", []any{"boom"}, "builtins", "ValueError: boom", "ValueError('boom')"},
		{"RuntimeError", nil, "builtins", "RuntimeError", "RuntimeError()"},
		{"KeyError", []any{"k"}, "builtins", "KeyError: 'k'", "KeyError('k')"},
		{"FileNotFoundError", []any{2, "nope"}, "builtins", "FileNotFoundError: [Errno 2] nope", "FileNotFoundError(2, 'nope')"},
		{"", []any{"x"}, "builtins", "RuntimeError: x", "RuntimeError('x')"},
		{"open", []any{"x"}, "stalk.errors", "open: x", "open('x')"},
		{"eval", nil, "stalk.errors", "eval", "eval()"},
		{"SystemExit", []any{1}, "stalk.errors", "SystemExit: 1", "SystemExit(1)"},
		{"KeyboardInterrupt", nil, "stalk.errors", "KeyboardInterrupt", "KeyboardInterrupt()"},
		{"GeneratorExit", nil, "stalk.errors", "GeneratorExit", "GeneratorExit()"},
		{"ExceptionGroup", nil, "stalk.errors", "ExceptionGroup", "ExceptionGroup()"},
		{"ValueError.__class__", nil, "stalk.errors", "ValueError.__class__", "__class__()"},
		{"ValueError", []any{make(chan int)}, "builtins", "", ""},
	} {
		e := protocol.NewException(tt.class, tt.args...)
		if e.Module != tt.module || tt.text != "" && (e.Error() != tt.text || e.Repr() != tt.repr) {
			t.Errorf("NewException(%q, %v) = %s %q %s, want %s %q %s", tt.class, tt.args, e.Module, e.Error(), e.Repr(), tt.module, tt.text, tt.repr)
		}
	}
}

// However an exception was made, what is written cannot poison its record or end its reader.
func TestWrittenExceptionsAreSafe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ module, class, want string }{
		{"builtins", "ValueError", `"exc_type": "ValueError", "exc_message": [], "exc_module": "builtins"`},
		{"", "ValueError", `"exc_type": "ValueError", "exc_message": [], "exc_module": "builtins"`},
		{"", "Mine", `"exc_type": "Mine", "exc_message": [], "exc_module": "stalk.errors"`},
		{"builtins", "open", `"exc_type": "open", "exc_message": [], "exc_module": "stalk.errors"`},
		{"builtins", "SystemExit", `"exc_type": "SystemExit", "exc_message": [], "exc_module": "stalk.errors"`},
		{"asyncio", "exceptions.SystemExit", `"exc_type": "exceptions.SystemExit", "exc_message": [], "exc_module": "stalk.errors"`},
		{"myapp.errors", "Book.DoesNotExist", `"exc_type": "Book.DoesNotExist", "exc_message": [], "exc_module": "myapp.errors"`},
		{"myapp.errors", "__name__", `"exc_type": "__name__", "exc_message": [], "exc_module": "stalk.errors"`},
		{"os", "a b", `"exc_type": "a b", "exc_message": [], "exc_module": "stalk.errors"`},
	} {
		r := protocol.Result{TaskID: "i", Status: protocol.Failure, Exception: &protocol.Exception{Module: tt.module, Type: tt.class}}
		doc, err := r.Encode(protocol.Encoding{})
		if err != nil || !strings.Contains(string(doc), tt.want) {
			t.Errorf("%s.%s: %s, %v, want %s", tt.module, tt.class, doc, err, tt.want)
		}
	}
}

func TestFromError(t *testing.T) {
	t.Parallel()
	if e := protocol.FromError(nil); e != nil {
		t.Errorf("FromError(nil) = %v", e)
	}
	cause := errors.New("smtp: refused \xff")
	e := protocol.FromError(cause)
	if e.Repr() != "RuntimeError('smtp: refused \ufffd')" || !errors.Is(e, cause) {
		t.Errorf("%s, unwraps to its cause: %v", e.Repr(), errors.Is(e, cause))
	}
	mine := &protocol.Exception{Module: "myapp.errors", Type: "Declined", Cause: cause}
	if got := protocol.FromError(fmt.Errorf("handler: %w", mine)); got != mine {
		t.Errorf("the wrapped exception was lost: %v", got)
	}
}

func TestExceptionRepr(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		arg  protocol.Value
		want string
	}{
		{nil, "None"},
		{true, "True"},
		{int64(1), "1"},
		{2.0, "2.0"},
		{"it's", `"it's"`},
		{`it's "x"`, `'it\'s "x"'`},
		{"a\n\t\\\x00é\u200b\U0001f600\U000e0001", `'a\n\t\\\x00é\u200b😀\U000e0001'`},
		{"\xed\xa0\x80", `'\ud800'`},
		{[]byte("a'\xff"), `b"a'\xff"`},
		{[]protocol.Value{"a", []protocol.Value{}}, "['a', []]"},
		{object("k", int64(1)), "{'k': 1}"},
		{protocol.Set{}, "set()"},
		{protocol.Set{int64(1)}, "{1}"},
	} {
		e := &protocol.Exception{Module: "builtins", Type: "X", Args: []protocol.Value{tt.arg}}
		if got := e.Repr(); got != "X("+tt.want+")" {
			t.Errorf("%#v: %s, want X(%s)", tt.arg, got, tt.want)
		}
	}
	var deep protocol.Value
	for range 100000 {
		deep = []protocol.Value{deep}
	}
	e := &protocol.Exception{Type: "X", Args: []protocol.Value{deep}}
	if got := e.Repr(); len(got) > 2000 || !strings.Contains(got, "...") {
		t.Errorf("a deep argument prints %d bytes", len(got))
	}
}
