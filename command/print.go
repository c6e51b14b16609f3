package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// What is printed here is what Celery's commands print (celery/bin/base.py, CLIContext), without colours.

// chat prints what one node answered: a header line, and the answer below it when body is asked for.
func chat(out io.Writer, quiet bool, node string, v protocol.Value, body bool) {
	arrow := "-> "
	if quiet {
		arrow = ""
	}
	status, text := pretty(v)
	fmt.Fprintf(out, "%s %s: %s\n", arrow, node, status)
	if body {
		fmt.Fprintln(out, indent(text))
	}
}

// pretty is the status and the text of an answer.
func pretty(v protocol.Value) (status, text string) {
	switch v := v.(type) {
	case []protocol.Value:
		return "OK", prettyList(v)
	case *protocol.Object:
		if ok, has := v.Get("ok"); has {
			_, text = pretty(ok)
			return "OK", indent(text)
		}
		if wrong, has := v.Get("error"); has {
			_, text = pretty(wrong)
			return "ERROR", indent(text)
		}
		return "OK", string(appendPretty(nil, v, 0))
	case string:
		return "OK", v
	}
	return "OK", protocol.Str(v)
}

func prettyList(list []protocol.Value) string {
	if len(list) == 0 {
		return "- empty -"
	}
	lines := make([]string, len(list))
	for i, v := range list {
		lines[i] = "* " + protocol.Str(v)
	}
	return strings.Join(lines, "\n")
}

// indent puts four spaces before each line, empty ones too.
func indent(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// prettyDepth bounds the nesting that is laid out; what is deeper stands on one line.
const prettyDepth = 64

// appendPretty is json.dumps(v, sort_keys=True, indent=4).
func appendPretty(b []byte, v protocol.Value, level int) []byte {
	newline := func(level int) { b = append(append(b, '\n'), strings.Repeat("    ", level)...) }
	switch v := v.(type) {
	case *protocol.Object:
		if v.Len() == 0 || level > prettyDepth {
			break
		}
		members := slices.Clone(v.Members())
		slices.SortStableFunc(members, func(x, y protocol.Member) int { return strings.Compare(x.Key, y.Key) })
		b = append(b, '{')
		for i, m := range members {
			if i > 0 {
				b = append(b, ',')
			}
			newline(level + 1)
			b = append(append(b, jsonText(m.Key)...), ": "...)
			b = appendPretty(b, m.Value, level+1)
		}
		newline(level)
		return append(b, '}')
	case []protocol.Value:
		if len(v) == 0 || level > prettyDepth {
			break
		}
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			newline(level + 1)
			b = appendPretty(b, e, level+1)
		}
		newline(level)
		return append(b, ']')
	}
	return append(b, jsonText(v)...)
}

// jsonText is one line of JSON as Python writes it; what JSON has no form for is its repr.
func jsonText(v protocol.Value) string {
	b, err := protocol.AppendJSON(nil, v)
	if err != nil {
		b, _ = protocol.AppendJSON(nil, protocol.Str(v))
	}
	return string(b)
}

// object makes an object of pairs of key and value; values are what protocol.FromGo takes.
func object(pairs ...any) *protocol.Object {
	o := &protocol.Object{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v, err := protocol.FromGo(pairs[i+1])
		if err != nil {
			v = fmt.Sprint(pairs[i+1])
		}
		o.Set(pairs[i].(string), v)
	}
	return o
}

// plural is Celery's pluralize.
func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// table prints rows in columns of at least 16, as `celery list bindings` does.
func table(out io.Writer, head []string, rows [][]string) {
	line := func(cells []string) {
		for i, cell := range cells {
			if i == len(cells)-1 {
				fmt.Fprintln(out, cell)
				return
			}
			fmt.Fprintf(out, "%-28s ", cell)
		}
	}
	line(head)
	line(slices.Repeat([]string{strings.Repeat("-", 16)}, len(head)))
	for _, row := range rows {
		line(row)
	}
}
