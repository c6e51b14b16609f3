package worker

import (
	"fmt"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// Tracebacks have Python's shape with at least one File line: a client with task_remote_tracebacks parses
// them, and one without a frame makes its get raise a parse error in place of the task's exception.

// lastLine is how a Python traceback ends: the class with its module, unless it is a builtin, and its text.
func lastLine(exc *protocol.Exception) string {
	if exc.Module == "" || exc.Module == "builtins" {
		return exc.Error()
	}
	return exc.Module + "." + exc.Error()
}

// traceback is the text for an error a handler returned: Go errors carry no stack, so the one frame
// names the task.
func traceback(task, last string) string {
	return cleanText(fmt.Sprintf("Traceback (most recent call last):\n  File \"stalk\", line 1, in %s\n%s\n", task, last))
}

// panicTraceback shows the frames of a panic, innermost last as Python does.
func panicTraceback(task string, p *panicked, exc *protocol.Exception) string {
	var b strings.Builder
	b.WriteString("Traceback (most recent call last):\n")
	fmt.Fprintf(&b, "  File \"stalk\", line 1, in %s\n", task)
	for i := len(p.frames) - 1; i >= 0; i-- {
		f := p.frames[i]
		if f.Function == "" || strings.HasPrefix(f.Function, "runtime.") {
			continue
		}
		fmt.Fprintf(&b, "  File %q, line %d, in %s\n", f.File, f.Line, f.Function)
	}
	b.WriteString(lastLine(exc))
	b.WriteString("\n")
	return cleanText(b.String())
}

// cleanText is s as every serializer can write it: a lone surrogate or a stray byte would keep the whole
// document from being stored.
func cleanText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
