package canvas

import (
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// FuzzSignature takes any value for a signature in every place where a worker meets one. Nothing may panic,
// what is published must be writable, and what Parse takes comes out again as it went in.
func FuzzSignature(f *testing.F) {
	g := golden(f)
	for i, c := range g.Cases {
		if sig, _ := c.steps[0].Get("sig"); i%3 == 0 && sig != nil {
			f.Add(mustJSON(f, sig))
		}
	}
	f.Add([]byte(`[1]`))
	f.Add([]byte(`{"task":"a","args":[],"kwargs":{"header":[],"body":null},"options":{},"subtask_type":"chord"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		v, err := protocol.ParseJSON(data, protocol.Limits{Depth: 100})
		if err != nil {
			return
		}
		written, err := protocol.AppendJSON(nil, v)
		if err != nil {
			return
		}
		for _, native := range []bool{true, false} {
			env := counted()
			env.NativeChords, env.AllowErrbackOnHeader, env.InheritPriority = native, true, true
			task := &protocol.Task{
				ID: "t", Name: "t", Group: "g", GroupIndex: int64(1), Callbacks: []protocol.Value{v, v}, Errbacks: []protocol.Value{v},
				Chain: []protocol.Value{v, v}, Chord: v, RootID: "r",
			}
			var all []Effect
			add := func(p Plan, _ error) { all = append(all, p.Effects...) }
			if effects, _, err := AfterSuccess(task, "x", env); err == nil {
				all = append(all, effects...)
			}
			task.Callbacks = task.Callbacks[:1]
			if effects, _, err := AfterSuccess(task, "x", env); err == nil {
				all = append(all, effects...)
			}
			effects, _ := AfterFailure(task, protocol.NewException("ValueError", "x"), "tb", env, true)
			all = append(all, effects...)
			part, ok := PartOf(task)
			if ok {
				add(Body(part, []protocol.Value{int64(1)}, env))
				effects, _ := ChordFailed(part, "text", protocol.NewException("ValueError"), env)
				all = append(all, effects...)
			}
			if s, err := Parse(v); err == nil {
				if s.Err() != nil {
					t.Fatalf("a parsed signature has a mistake: %v", s.Err())
				}
				add(Apply(s, []protocol.Value{int64(1)}, protocol.ObjectOf(protocol.Member{Key: "k", Value: v}), nil, env))
				add(Replace(task, s, env))
				add(AddToChord(task, s, env))
				for _, built := range []Signature{Chain(s, New("a"), s), Group(s, s), Chord([]Signature{s}, s), s.Link(s).LinkError(s).SI()} {
					if built.Err() == nil {
						add(Apply(built, nil, nil, nil, env))
					}
				}
			}
			for _, name := range []string{"celery.chunks", "celery.group", "celery.chord", "celery.map", "celery.chord_unlock"} {
				b := &protocol.Task{ID: "t", Name: name, Args: []protocol.Value{v, v, v, v, v}}
				p, _, _ := ApplyBuiltin(b, env)
				all = append(all, p.Effects...)
				_, _ = ParseMap(b)
				if u, err := ParseUnlock(b); err == nil {
					u.Check(func(string) (protocol.Result, bool) { return protocol.Result{Status: protocol.Failure}, true })
				}
			}
			for _, e := range all {
				switch e := e.(type) {
				case Send:
					_, _ = e.Task.Encode(protocol.Encoding{}, env.Now) // may refuse a value, must not panic
					if e.Task.ID == "" || e.Task.Name == "" || len(e.Task.ID) > protocol.MaxIDBytes {
						t.Fatalf("sent without an id or a name: %+v", e.Task)
					}
				case StoreFailure:
					if e.TaskID == "" {
						t.Fatal("a failure for nobody")
					}
				case Part:
					if e.TaskID == "" || e.GroupID == "" {
						t.Fatal("a part of nothing")
					}
				}
			}
		}
		again, err := protocol.AppendJSON(nil, v)
		if err != nil || string(again) != string(written) {
			t.Fatalf("the input was changed from %s to %s", written, again)
		}
	})
}
