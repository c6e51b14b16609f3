package protocol

import (
	"errors"
	"fmt"
)

// A DecodeError says which part of a message could not be read: "headers.eta", "body[1].x",
// "properties.delivery_tag".
type DecodeError struct {
	Part string
	Err  error
}

func (e *DecodeError) Error() string {
	if e.Part == "" { // from ToGo, about the value itself
		return fmt.Sprintf("protocol: %v", e.Err)
	}
	return fmt.Sprintf("protocol: %s: %v", e.Part, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// An EncodeError says that a value cannot be written: a type the serializer has no form for, text that
// is not text. Err's message is Python's where Python has one.
type EncodeError struct {
	Part string // where in the value: "" for the value itself, "[2].x"
	Err  error
}

func (e *EncodeError) Error() string {
	if e.Part == "" {
		return fmt.Sprintf("protocol: %v", e.Err)
	}
	return fmt.Sprintf("protocol: %s: %v", e.Part, e.Err)
}
func (e *EncodeError) Unwrap() error { return e.Err }

var (
	// ErrRefusedContent: the content type is not among those accepted (Kombu's ContentDisallowed).
	ErrRefusedContent = errors.New("content type is not accepted")
	// ErrUnknownMessage: neither a task header nor a task key in the body (Celery's "unknown message").
	ErrUnknownMessage = errors.New("not a task message")
	// ErrInvalidTask: readable, but not a task that could run (Celery's InvalidTaskError).
	ErrInvalidTask = errors.New("invalid task message")
	// ErrTooLarge: inflating or nesting went past the Limits.
	ErrTooLarge = errors.New("over the limit")
)
