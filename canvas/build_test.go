package canvas

import (
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// TestBuildLikePython builds every canvas of the golden file with the builders and compares it with what the
// same expression gives in Python.
func TestBuildLikePython(t *testing.T) {
	t.Parallel()
	n := 0
	for _, c := range golden(t).Cases {
		s := c.steps[0]
		expr, _ := s.Get("expr")
		if expr == nil || c.conf["task_allow_error_cb_on_chord_header"] != nil { // builders know no settings
			continue
		}
		n++
		t.Run(c.name, func(t *testing.T) {
			sig := fromExpr(t, expr)
			if err := sig.Err(); err != nil {
				t.Fatal(err)
			}
			want, _ := s.Get("sig")
			if d := diff.Diff(string(mustJSON(t, want)), string(mustJSON(t, sig.Value()))); d != "" {
				t.Errorf("built (want -, got +):\n%s", d)
			}
		})
	}
	if n < 100 {
		t.Errorf("only %d canvases were built", n)
	}
}

// fromExpr is build of pyfixtures/canvas.py.
func fromExpr(t *testing.T, x protocol.Value) Signature {
	t.Helper()
	l := x.([]protocol.Value)
	rest := func(from int) []Signature {
		var out []Signature
		for _, y := range l[from:] {
			out = append(out, fromExpr(t, y))
		}
		return out
	}
	switch kind := l[0]; kind {
	case "task":
		s := New(l[1].(string), l[2].([]protocol.Value)...)
		kw := map[string]any{}
		for _, m := range l[3].(*protocol.Object).Members() {
			kw[m.Key] = m.Value
		}
		s = s.Kw(kw)
		s.Kwargs = l[3].(*protocol.Object) // in Python's order
		return s
	case "si":
		return fromExpr(t, l[1]).SI()
	case "set":
		s := fromExpr(t, l[1])
		for _, m := range l[2].(*protocol.Object).Members() {
			s = s.Set(m.Key, m.Value)
		}
		return s
	case "link":
		return fromExpr(t, l[1]).Link(rest(2)...)
	case "err":
		return fromExpr(t, l[1]).LinkError(rest(2)...)
	case "chain":
		return Chain(rest(1)...)
	case "rawchain":
		s := Signature{Task: "celery.chain", Type: "chain"}
		tasks := []protocol.Value{}
		for _, y := range rest(1) {
			tasks = append(tasks, y.Value())
		}
		s.Kwargs = protocol.ObjectOf(protocol.Member{Key: "tasks", Value: tasks})
		return s
	case "group":
		return Group(rest(1)...)
	case "chord":
		header := []Signature{}
		for _, y := range l[1].([]protocol.Value) {
			header = append(header, fromExpr(t, y))
		}
		return Chord(header, fromExpr(t, l[2]))
	default:
		t.Fatalf("unknown expression %v", kind)
		return Signature{}
	}
}
