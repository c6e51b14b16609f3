package protocol

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"
)

// partError puts part in front of the part err already names. Only the innermost cause is kept as Err, so
// that a message reads "protocol: body[1].x: ..." and not one prefix after the other.
func partError(part string, err error) *DecodeError {
	if inner := (*DecodeError)(nil); errors.As(err, &inner) {
		switch {
		case inner.Part == "":
			return &DecodeError{Part: part, Err: inner.Err}
		case inner.Part[0] == '[':
			return &DecodeError{Part: part + inner.Part, Err: inner.Err}
		}
		return &DecodeError{Part: part + "." + inner.Part, Err: inner.Err}
	}
	return &DecodeError{Part: part, Err: err}
}

// wrongType is the error for a value that is not what its place asks for.
func wrongType(part string, got Value, want string) *DecodeError {
	return &DecodeError{Part: part, Err: fmt.Errorf("is %s, want %s", describe(got), want)}
}

// invalid is wrongType for a message that cannot be a task.
func invalid(part string, got Value, want string) *DecodeError {
	return &DecodeError{Part: part, Err: fmt.Errorf("%w: is %s, want %s", ErrInvalidTask, describe(got), want)}
}

// describe names a value for an error text: its kind, and the value itself only when it is short and cannot
// hold anything private.
func describe(v Value) string {
	switch v := v.(type) {
	case nil:
		return "missing or null"
	case bool, int64, float64:
		return fmt.Sprint(v)
	case *big.Int:
		return "a huge number"
	case string:
		if v == "" {
			return "an empty text"
		}
		if len(v) > 64 {
			return fmt.Sprintf("a text of %d bytes", len(v))
		}
		return fmt.Sprintf("%q", v)
	case []byte:
		return "bytes"
	case []Value:
		return fmt.Sprintf("a list of %d", len(v))
	case *Object:
		return "an object"
	case DateTime, Date, TimeOfDay:
		return "a date or time"
	}
	return fmt.Sprintf("a %T", v)
}

func isText(v Value) bool { s, ok := v.(string); return ok && s != "" }

// textOrNil is s, or None for no text.
func textOrNil(s string) Value {
	if s == "" {
		return nil
	}
	return cleanText(s)
}

// cleanText is s with replacement characters for what is not text, so that every serializer can write it. Lone
// surrogates are text: Python has them.
func cleanText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	for i := 0; i < len(s); {
		_, n := decodeWTF8(s[i:])
		if n == 0 {
			return strings.ToValidUTF8(s, "\ufffd")
		}
		i += n
	}
	return s
}

// Truthy is Python's bool(v).
func Truthy(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []byte:
		return len(v) > 0
	case []Value:
		return len(v) > 0
	case Set:
		return len(v) > 0
	case *Object:
		return v.Len() > 0
	}
	return true
}

// MaybeList is Celery's maybe_list: a list is itself, None is none, anything else is a list of one.
func MaybeList(v Value) []Value {
	switch v := v.(type) {
	case nil:
		return nil
	case []Value:
		return v
	}
	return []Value{v}
}
