package isolate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/stalkworker/stalk/protocol"
)

// A kind is what a frame is.
type kind byte

const (
	frameHello   kind = iota + 1 // child: ready, or why not
	frameCall                    // worker: run this
	frameCancel                  // worker: the context ends, and why
	frameReply                   // worker: to a request
	frameRequest                 // child: Report, Spawn, AddToChord
	frameRecord                  // child: a line for the log
	frameResult                  // child: how the run ended
	frameBegun                   // child: the handler is about to be called
)

// frameMax bounds one frame: a task's arguments, or a result. Messages inflate to half of it.
const frameMax = 256 << 20

// errFrameSize is a value that is too large to cross.
var errFrameSize = fmt.Errorf("isolate: more than %d MiB cannot cross between the worker and its child process", frameMax>>20)

// A wire writes frames. It is safe for concurrent use.
type wire struct {
	mu sync.Mutex
	w  io.Writer
}

// send writes one frame. Nothing is written when the value cannot cross.
func (w *wire) send(k kind, v protocol.Value) error {
	b, err := appendValue(make([]byte, 5, 512), v, 0)
	if err != nil {
		return err
	}
	if len(b)-5 > frameMax {
		return errFrameSize
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-5))
	b[4] = byte(k)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.w.Write(b); err != nil {
		return &osError{err}
	}
	return nil
}

// An osError is a pipe whose other end is gone.
type osError struct{ err error }

func (e *osError) Error() string { return "isolate: " + e.err.Error() }
func (e *osError) Unwrap() error { return e.err }

// A frame is one message between worker and child.
type frame struct {
	kind kind
	body *protocol.Object
}

// receive reads one frame; io.EOF is the end of the other side.
func receive(r *bufio.Reader) (frame, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > frameMax {
		return frame{}, errFrameSize
	}
	body := make([]byte, min(n, 1<<20)) // what is larger grows as it comes
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, unexpected(err)
	}
	if n > len(body) {
		rest, err := io.ReadAll(io.LimitReader(r, int64(n-len(body))))
		if body = append(body, rest...); err == nil && len(body) < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return frame{}, err
		}
	}
	v, err := readValue(body)
	o, ok := v.(*protocol.Object)
	if err != nil || !ok {
		return frame{}, errDamaged
	}
	return frame{kind(head[4]), o}, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// The members of an object whose types are known, because the other end is the same program. What is missing or of
// another type reads as zero.

func text(o *protocol.Object, key string) string  { return member[string](o, key) }
func number(o *protocol.Object, key string) int64 { return member[int64](o, key) }
func yes(o *protocol.Object, key string) bool     { return member[bool](o, key) }
func list(o *protocol.Object, key string) []any   { return member[[]protocol.Value](o, key) }

func sub(o *protocol.Object, key string) *protocol.Object { return member[*protocol.Object](o, key) }

func member[T any](o *protocol.Object, key string) T {
	v, _ := o.Get(key)
	t, _ := v.(T)
	return t
}
