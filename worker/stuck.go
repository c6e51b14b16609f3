package worker

import (
	"bytes"
	"runtime"
	"strings"
)

// A mark finds the goroutine of a handler again that does not end: its stack tells what it does. nil marks nothing.
type mark struct{ id chan string } // capacity 1: the goroutine's number

func newMark(wanted bool) *mark {
	if !wanted {
		return nil
	}
	return &mark{make(chan string, 1)}
}

// set marks the goroutine that calls it.
func (m *mark) set() {
	if m == nil {
		return
	}
	var buf [64]byte
	head := buf[:runtime.Stack(buf[:], false)] // "goroutine 123 [running]:..."
	head = bytes.TrimPrefix(head, []byte("goroutine "))
	number, _, _ := bytes.Cut(head, []byte(" "))
	m.id <- string(number)
}

const (
	stackMax  = 16 << 10 // of what is told
	stacksMax = 16 << 20 // of what is searched: those of all goroutines
)

// stack is the stack of the marked goroutine, and those of the goroutines that it started itself, up to a bound; "" when it is not
// to be had. The world stands still meanwhile: a few milliseconds for thousands of goroutines.
func (m *mark) stack() string {
	if m == nil {
		return ""
	}
	var id string
	select {
	case id = <-m.id:
	default:
		return ""
	}
	var all []byte
	for size := 1 << 16; ; size *= 4 {
		all = make([]byte, size)
		if n := runtime.Stack(all, true); n < size || size >= stacksMax {
			all = all[:n]
			break
		}
	}
	var own, started strings.Builder
	for block := range strings.SplitSeq(string(all), "\n\n") {
		switch {
		case strings.HasPrefix(block, "goroutine "+id+" ["):
			own.WriteString(block)
		case strings.Contains(block, " in goroutine "+id+"\n") && started.Len() < stackMax:
			started.WriteString("\n\n" + block)
		}
	}
	text := own.String() + started.String()
	if len(text) > stackMax {
		text = text[:stackMax] + "\n..."
	}
	return text
}
