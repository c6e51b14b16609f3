package protocol

import (
	"bytes"
	"errors"
)

// MarkRedelivered sets both redelivered flags of a raw envelope, as Kombu does when it gives a message
// back, and changes nothing else: unknown keys, their order and the text of every number stay. What is no
// envelope is a *DecodeError.
func MarkRedelivered(raw []byte) ([]byte, error) {
	doc, err := ParseJSON(raw, Limits{})
	if err != nil {
		return nil, partError("envelope", err)
	}
	env, ok := doc.(*Object)
	if !ok {
		return nil, wrongType("envelope", doc, "an object")
	}
	props, err := envelopeObject(env, "properties")
	if err != nil {
		return nil, err
	}
	if _, err := envelopeObject(props, "delivery_info"); err != nil {
		return nil, partError("properties", err)
	}
	if h, _ := env.Get("headers"); h != nil {
		if _, ok := h.(*Object); !ok {
			return nil, wrongType("headers", h, "an object")
		}
	}

	// The text is valid JSON from here on, so the scan below only has to find where things begin and end.
	out := append(make([]byte, 0, len(raw)+64), raw...)
	for _, path := range [][]string{
		{"properties", "delivery_info", "redelivered"},
		{"headers", "redelivered"},
	} {
		if out, err = setTrue(out, path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// setTrue writes true at path in the JSON object text, adding at the end what is not there. A null on the
// way is replaced by an object.
func setTrue(text []byte, path []string) ([]byte, error) {
	at := skipSpace(text, 0)
	for depth, key := range path {
		start, end, last, err := findMember(text, at, key)
		if err != nil {
			return nil, err
		}
		rest := path[depth+1:]
		if start < 0 { // not there: add it before the closing brace
			member := append(quoteKey(key), nested(rest)...)
			if !last.empty {
				member = append([]byte(", "), member...)
			}
			return splice(text, last.insert, last.insert, member), nil
		}
		if len(rest) == 0 || text[start] != '{' {
			return splice(text, start, end, nested(rest)), nil
		}
		at = start
	}
	return text, nil
}

func quoteKey(key string) []byte { return []byte(`"` + key + `": `) }

// nested is true under the keys of path, each in an object of its own.
func nested(path []string) []byte {
	if len(path) == 0 {
		return []byte("true")
	}
	out := append([]byte("{"), quoteKey(path[0])...)
	out = append(out, nested(path[1:])...)
	return append(out, '}')
}

func splice(text []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(text)+len(with))
	out = append(out, text[:from]...)
	out = append(out, with...)
	return append(out, text[to:]...)
}

// tail is where a member can be added to an object.
type tail struct {
	insert int // after the last value, or after the brace
	empty  bool
}

var errScan = errors.New("protocol: envelope: not the JSON it was a moment ago")

// findMember finds the value of key in the object that begins at text[at]: of a key given twice the last,
// which is the one readers take. start is -1 when it is not there.
func findMember(text []byte, at int, key string) (start, end int, t tail, err error) {
	start, end = -1, -1
	i := at
	if i >= len(text) || text[i] != '{' {
		return -1, -1, t, errScan
	}
	i = skipSpace(text, i+1)
	t = tail{insert: i, empty: true}
	for i < len(text) && text[i] != '}' {
		k := i
		if i = skipString(text, i); i < 0 {
			return -1, -1, t, errScan
		}
		name := text[k:i]
		i = skipSpace(text, i)
		if i >= len(text) || text[i] != ':' {
			return -1, -1, t, errScan
		}
		v := skipSpace(text, i+1)
		if i = skipValue(text, v); i < 0 {
			return -1, -1, t, errScan
		}
		if keyIs(name, key) {
			start, end = v, i
		}
		t = tail{insert: i}
		if i = skipSpace(text, i); i < len(text) && text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	if i >= len(text) {
		return -1, -1, t, errScan
	}
	return start, end, t, nil
}

// keyIs compares a JSON string with a name; escapes in it are read only when there are any.
func keyIs(quoted []byte, name string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == name
	}
	v, err := ParseJSON(quoted, Limits{})
	return err == nil && v == name
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// skipString is the index after the string that begins at i, or -1.
func skipString(text []byte, i int) int {
	if i >= len(text) || text[i] != '"' {
		return -1
	}
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// skipValue is the index after the value that begins at i, or -1. It counts brackets instead of recursing.
func skipValue(text []byte, i int) int {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			if i = skipString(text, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default:
			for i < len(text) && !bytes.ContainsRune([]byte(",:]} \t\n\r"), rune(text[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return -1
}
