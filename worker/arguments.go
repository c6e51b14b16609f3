package worker

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// Arguments of remote control commands are keyword arguments of Python functions; what is wrong with them is told
// in Python's words, because that is what a Celery worker answers.

func noAttribute(v protocol.Value, name string) error {
	return protocol.NewException("AttributeError", fmt.Sprintf("'%s' object has no attribute '%s'", protocol.TypeName(v), name))
}

// notAnInteger is what Python says where only an int will do.
func notAnInteger(v protocol.Value) error {
	return protocol.NewException("TypeError", fmt.Sprintf("'%s' object cannot be interpreted as an integer", protocol.TypeName(v)))
}

// pythonText is str(v).
func pythonText(v protocol.Value) string {
	if s, ok := v.(string); ok {
		return s
	}
	return protocol.PythonRepr(v)
}

// pythonNumber is v as a number, if it is one; True is 1.
func pythonNumber(v protocol.Value) (float64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// pythonInt is v as an int, within bounds that no count of ours leaves.
func pythonInt(v protocol.Value) (int, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return int(min(max(v, math.MinInt32), math.MaxInt32)), true
	}
	return 0, false
}

// pythonFloat is float(text).
func pythonFloat(text string) (float64, error) {
	bad := protocol.NewException("ValueError", "could not convert string to float: "+protocol.PythonRepr(text))
	digits := []byte(strings.TrimSpace(text))
	plain := digits[:0:0]
	digit := func(i int) bool { return i >= 0 && i < len(digits) && digits[i] >= '0' && digits[i] <= '9' }
	for i, c := range digits {
		switch {
		case c == '_' && digit(i-1) && digit(i+1):
			continue
		case c == '_', c == 'x', c == 'X', c == 'p', c == 'P': // Go's own notations
			return 0, bad
		}
		plain = append(plain, c)
	}
	f, err := strconv.ParseFloat(string(plain), 64)
	if err != nil && !math.IsInf(f, 0) { // what is too large is infinite in Python
		return 0, bad
	}
	return f, nil
}

// names reads an argument that is a text or a list of texts (Celery's maybe_list). What is no text is left out.
func names(v protocol.Value) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []protocol.Value:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// textsOnly is Python's complaint about what names leaves out.
func textsOnly(v protocol.Value) error {
	list, ok := v.([]protocol.Value)
	if !ok && v != nil {
		list = []protocol.Value{v}
	}
	for i, e := range list {
		if _, ok := e.(string); ok {
			continue
		}
		return protocol.NewException("TypeError", fmt.Sprintf("sequence item %d: expected str instance, %s found", i, protocol.TypeName(e)))
	}
	return nil
}

// clip shortens a text that a log line would not show in full.
func clip(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
