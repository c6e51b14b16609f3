package canvas

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// counted is an Env whose ids are n-1, n-2, ...
func counted() *Env {
	n := 0
	return &Env{
		NewID: func() string { n++; return fmt.Sprintf("n-%d", n) },
		Now:   time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), NativeChords: true, ReplyTo: "me",
	}
}

func mustApply(t *testing.T, s Signature, env *Env) Plan {
	t.Helper()
	p, err := Apply(s, nil, nil, nil, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sent are the tasks of the messages, in order.
func sent(effects []Effect) []*protocol.Task {
	var out []*protocol.Task
	for _, e := range effects {
		if s, ok := e.(Send); ok {
			out = append(out, s.Task)
		}
	}
	return out
}

// lines are the effects that are no messages, one a line.
func lines(effects []Effect) []string {
	var out []string
	for _, e := range effects {
		switch e := e.(type) {
		case Part:
			out = append(out, fmt.Sprintf("part %s of %s at %v: %s", e.TaskID, e.GroupID, e.Index, e.State))
		case StoreFailure:
			out = append(out, fmt.Sprintf("fail %s: %s", e.TaskID, e.Exception.Type))
		case Send:
			out = append(out, fmt.Sprintf("send %s", e.Task.Name))
		}
	}
	return out
}

func TestFailureReachesEverybodyWhoWaits(t *testing.T) {
	t.Parallel()
	boom := protocol.NewException("ValueError", "boom")
	task := func(id, name string) Signature { return New(name).TaskID(id) }
	header := func(id string) Signature { return task(id, "p") }
	for _, tt := range []struct {
		name   string
		canvas Signature
		failed string // the task that fails
		parts  []string
		want   []string
	}{
		{
			"the steps of a chain fail with it",
			Chain(task("a", "a"), task("b", "b"), task("c", "c")), "a", nil,
			[]string{"fail c: ValueError", "fail b: ValueError"},
		},
		{
			"every member of a group that was to follow",
			Chain(task("a", "a"), Group(task("b", "b"), Chain(task("c", "c"), task("d", "d")))), "a", nil,
			[]string{"fail n-1: ValueError", "fail b: ValueError", "fail d: ValueError", "fail c: ValueError"},
		},
		{
			"the body of a chord that was to follow, and what was to follow that",
			Chain(task("a", "a"), Group(header("b"), header("c")), task("body", "body"), task("d", "d")), "a", nil,
			[]string{"fail d: ValueError", "fail n-1: ValueError", "fail body: ValueError"},
		},
		{
			"the part that the chain's last step would have been",
			Chord([]Signature{Chain(task("a", "a"), task("b", "b")), task("c", "c")}, task("body", "body")), "a", nil,
			[]string{"fail b: ValueError", "part b of n-1 at 0: FAILURE"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := counted()
			p := mustApply(t, tt.canvas, env)
			i := slices.IndexFunc(sent(p.Effects), func(s *protocol.Task) bool { return s.ID == tt.failed })
			if i < 0 {
				t.Fatalf("%s is not sent", tt.failed)
			}
			effects, err := AfterFailure(sent(p.Effects)[i], boom, "tb", env, true)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff.Diff(tt.want, lines(effects)); d != "" {
				t.Errorf("effects (want -, got +):\n%s", d)
			}
		})
	}
}

func TestChordFailureReachesEverybodyWhoWaits(t *testing.T) {
	t.Parallel()
	cause := protocol.NewException("ValueError", "x", 42)
	p1, p2 := New("p").TaskID("p1"), New("p").TaskID("p2")
	for _, tt := range []struct {
		name   string
		canvas Signature
		want   []string
	}{
		{
			"a task",
			Chord([]Signature{p1, p2}, New("body").TaskID("body").LinkError(New("eb"))),
			[]string{"send eb", "fail body: ChordError"},
		},
		{
			"a chain: its last step and those it was to be followed by",
			Chain(Group(p1, p2), New("body").TaskID("body"), New("c").TaskID("c")),
			[]string{"fail c: ChordError", "fail body: ChordError"},
		},
		{
			"a chord: the id its client waits for, which is that of the innermost body",
			Chord([]Signature{p1, p2}, Chord([]Signature{New("q").TaskID("q1"), New("q").TaskID("q2")}, New("body").TaskID("body"))),
			[]string{"fail n-3: ChordError", "fail body: ChordError"},
		},
		{
			"a group: every member with the part's own exception, and the group",
			Chord([]Signature{p1, p2}, Group(New("c").TaskID("c").LinkError(New("eb")), Chain(New("d").TaskID("d"), New("e").TaskID("e")))),
			[]string{"send eb", "fail c: ValueError", "fail e: ValueError", "fail d: ValueError", "fail n-3: ValueError"},
		},
		{
			"a part of an outer chord: that chord learns it",
			Chord([]Signature{Chord([]Signature{p1, p2}, New("inner").TaskID("inner")), New("r").TaskID("r")}, New("body").TaskID("body")),
			[]string{"fail inner: ChordError", "part inner of n-1 at 0: FAILURE"},
		},
		{
			"a chain that is a part of an outer chord",
			Chord([]Signature{Chain(Group(p1, p2), New("inner").TaskID("inner"), New("last").TaskID("last")), New("r").TaskID("r")}, New("body").TaskID("body")),
			[]string{"fail last: ChordError", "fail inner: ChordError", "part last of n-1 at 0: FAILURE"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := counted()
			tasks := sent(mustApply(t, tt.canvas, env).Effects)
			i := slices.IndexFunc(tasks, func(s *protocol.Task) bool { return s.ID == "p1" })
			part, ok := PartOf(tasks[i])
			if !ok {
				t.Fatal("p1 is no part")
			}
			env.Parent = ParentOf(tasks[i])
			effects, err := ChordFailed(part, DependencyText("p1", cause), cause, env)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff.Diff(tt.want, lines(effects)); d != "" {
				t.Errorf("effects (want -, got +):\n%s", d)
			}
			for _, e := range effects {
				f, ok := e.(StoreFailure)
				if ok && f.Exception.Type == "ChordError" && f.Traceback != "" {
					if !strings.HasPrefix(f.Traceback, "ValueError: ('x', 42)\n\nThe above exception was the direct cause of the following exception:\n\nTraceback") {
						t.Errorf("traceback %q", f.Traceback)
					}
					if got := f.Exception.Args[0]; got != "Dependency p1 raised ValueError('x', 42)" {
						t.Errorf("text %q", got)
					}
				}
			}
		})
	}
}

func TestNoPartWhereNobodyCounts(t *testing.T) {
	t.Parallel()
	env := counted()
	tasks := sent(mustApply(t, Chord([]Signature{New("a").TaskID("a")}, New("body")), env).Effects)
	env.NativeChords = false
	effects, err := AfterFailure(tasks[0], protocol.NewException("ValueError"), "", env, true)
	if err != nil || len(effects) != 0 {
		t.Errorf("AfterFailure = %v, %v", lines(effects), err)
	}
	if got := AfterRevoked(tasks[0], protocol.TaskRevoked("revoked"), env); got != nil {
		t.Errorf("AfterRevoked = %v", lines(got))
	}
}

func TestRevokedReportsThePartAlone(t *testing.T) {
	t.Parallel()
	env := counted()
	s := Chord([]Signature{Chain(New("a").TaskID("a"), New("b").TaskID("b"))}, New("body")).LinkError(New("eb"))
	task := sent(mustApply(t, s, env).Effects)[0]
	// A step before the last is no part itself, but the chord waits for what should have followed it.
	if d := diff.Diff([]string{"part b of n-1 at 0: FAILURE"}, lines(AfterRevoked(task, protocol.TaskRevoked("revoked"), env))); d != "" {
		t.Errorf("effects of the first step (want -, got +):\n%s", d)
	}
	effects, _, err := AfterSuccess(task, nil, env)
	if err != nil {
		t.Fatal(err)
	}
	last := sent(effects)[0]
	want := []string{"part b of n-1 at 0: REVOKED"}
	if d := diff.Diff(want, lines(AfterRevoked(last, protocol.TaskRevoked("expired"), env))); d != "" {
		t.Errorf("effects (want -, got +):\n%s", d)
	}
}

func TestGroupAloneIsNoChord(t *testing.T) {
	t.Parallel()
	for _, task := range sent(mustApply(t, Group(New("a"), New("b")), counted()).Effects) {
		if _, ok := PartOf(task); ok || task.Group == "" {
			t.Errorf("%s of group %q is a part", task.Name, task.Group)
		}
	}
}

func TestStoredFailuresCarryTheStep(t *testing.T) {
	t.Parallel()
	env := counted()
	s := Chain(New("a"), New("b", 1).Kw(map[string]any{"k": 2}).TaskID("b").Set("reply_to", "them"))
	effects, err := AfterFailure(sent(mustApply(t, s, env).Effects)[0], protocol.NewException("ValueError"), "tb", env, true)
	if err != nil {
		t.Fatal(err)
	}
	f := effects[0].(StoreFailure)
	if f.ReplyTo != "them" || f.Traceback != "tb" || f.Extended.Name != "b" || !equal(f.Extended.Args, []protocol.Value{int64(1)}) || f.Extended.Kwargs.Len() != 1 {
		t.Errorf("stored %+v", f)
	}
	if effects, _ = AfterFailure(sent(mustApply(t, s, env).Effects)[0], protocol.NewException("ValueError"), "tb", env, false); len(effects) != 0 {
		t.Errorf("with ignored results: %v", lines(effects))
	}
}

func TestMalformedFollowUps(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]protocol.Value{
		"a text":              "proj.a",
		"null":                nil,
		"only a task":         protocol.ObjectOf(protocol.Member{Key: "task", Value: "a"}),
		"an unknown type":     protocol.ObjectOf(protocol.Member{Key: "task", Value: "a"}, protocol.Member{Key: "args", Value: nil}, protocol.Member{Key: "kwargs", Value: nil}, protocol.Member{Key: "options", Value: nil}, protocol.Member{Key: "subtask_type", Value: "x"}),
		"a chain of no steps": New("a").Set("x", 1).Kw(nil).asChain().Value(),
	} {
		t.Run(name, func(t *testing.T) {
			env := counted()
			good := New("good").Value()
			for _, task := range []*protocol.Task{
				{ID: "t", Name: "t", Callbacks: []protocol.Value{good, v}},
				{ID: "t", Name: "t", Callbacks: []protocol.Value{good}, Chain: []protocol.Value{v}},
			} {
				effects, children, err := AfterSuccess(task, 1, env)
				var bad *SignatureError
				if !errors.As(err, &bad) || len(effects) > 0 || len(children) > 0 {
					t.Fatalf("AfterSuccess = %v, %v, %v", effects, children, err)
				}
				if !strings.Contains(bad.Part, "[") {
					t.Errorf("the error names no part: %v", err)
				}
			}
			effects, err := AfterFailure(&protocol.Task{ID: "t", Errbacks: []protocol.Value{v, good}}, protocol.NewException("ValueError"), "", env, true)
			if d := diff.Diff([]string{"send good"}, lines(effects)); d != "" || err == nil {
				t.Errorf("errbacks: %v, error %v", lines(effects), err)
			}
		})
	}
}

// asChain is a chain whose steps are missing.
func (s Signature) asChain() Signature { s.Type = "chain"; return s }

func TestLenient(t *testing.T) {
	t.Parallel()
	raw := protocol.ObjectOf(
		protocol.Member{Key: "task", Value: "b"}, protocol.Member{Key: "args", Value: nil}, protocol.Member{Key: "kwargs", Value: nil},
		protocol.Member{Key: "options", Value: protocol.ObjectOf(
			protocol.Member{Key: "task_id", Value: nil},
			protocol.Member{Key: "stamped_headers", Value: []protocol.Value{"s", "gone"}}, protocol.Member{Key: "s", Value: int64(1)},
			protocol.Member{Key: "mystery", Value: "kept"})},
		protocol.Member{Key: "chord_size", Value: int64(2)},
	)
	env := counted()
	task := &protocol.Task{ID: "t", Name: "t", Chain: []protocol.Value{New("c").TaskID("c").Value(), raw}}
	effects, _, err := AfterSuccess(task, "v", env)
	if err != nil {
		t.Fatal(err)
	}
	got := sent(effects)[0]
	if got.ID != "n-1" || !equal(got.Args, []protocol.Value{"v"}) || !slices.Equal(got.StampNames, []string{"s"}) {
		t.Errorf("sent %+v", got)
	}
	// What is only handed on keeps what nobody here knows.
	task.Chain = []protocol.Value{raw, New("a").TaskID("a").Value()}
	effects, _, err = AfterSuccess(task, "v", env)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff.Diff(string(mustJSON(t, raw)), string(mustJSON(t, sent(effects)[0].Chain[0]))); d != "" {
		t.Errorf("handed on (want -, got +):\n%s", d)
	}
	s, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Value().(*protocol.Object).Get("chord_size"); v != int64(2) {
		t.Errorf("chord_size is %v", v)
	}
}

func TestBuildersKeepMistakes(t *testing.T) {
	t.Parallel()
	bad := New("a", make(chan int)).Priority(300).TaskID("")
	for _, s := range []Signature{bad, Chain(New("ok"), bad), Group(bad), Chord([]Signature{New("ok")}, bad), New("ok").Link(bad), New("ok").LinkError(bad), Chain(Group(bad), New("ok"))} {
		_, err := Apply(s, nil, nil, nil, counted())
		if err == nil {
			t.Errorf("%s: no error", s.Task)
			continue
		}
		for _, want := range []string{"argument 0", "priority 300", "task id"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not name %q", s.Task, err, want)
			}
		}
	}
	for _, s := range []Signature{New(""), New("a").TimeLimit(time.Second, time.Minute), New("a").Kw(map[string]any{"f": func() {}}), New("a").Set("x", func() {})} {
		if s.Err() == nil {
			t.Errorf("%+v: no error", s)
		}
	}
	if _, err := Apply(Signature{}, nil, nil, nil, counted()); err == nil {
		t.Error("the zero signature applies")
	}
	if _, err := Apply(New("a"), nil, nil, nil, nil); err == nil {
		t.Error("no Env, and no error")
	}
}

func TestBuildersCopy(t *testing.T) {
	t.Parallel()
	a := New("a", 1).Kw(map[string]any{"k": 1}).Queue("q").Link(New("cb"))
	before := string(mustJSON(t, a.Value()))
	a.Kw(map[string]any{"k": 2}).Queue("r").Link(New("cb2")).LinkError(New("eb")).SI().Stamp("s", 1).Stamp("t", 2)
	g := Group(a, a)
	g.LinkError(New("eb")).SI()
	c := Chain(a, Group(a, a), a)
	wire := string(mustJSON(t, c.Value()))
	for range 2 {
		if _, err := Apply(c, nil, nil, nil, counted()); err != nil {
			t.Fatal(err)
		}
	}
	if after := string(mustJSON(t, a.Value())); after != before {
		t.Errorf("changed from %s to %s", before, after)
	}
	if after := string(mustJSON(t, c.Value())); after != wire {
		t.Errorf("applying changed the chain from %s to %s", wire, after)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	env := counted()
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	s := New("a").Address("ex", "key").Countdown(90*time.Second).ExpiresAt(at).Priority(3).TimeLimit(time.Minute, 1500*time.Millisecond).
		IgnoreResult(true).Serializer("msgpack").Compression("zlib").Headers(map[string]any{"h": 1}).Stamp("s", "x")
	send := mustApply(t, s, env).Effects[0].(Send)
	got := send.Task
	if got.Exchange != "ex" || got.RoutingKey != "key" || !got.ETA.Equal(env.Now.Add(90*time.Second)) || !got.Expires.Equal(at) ||
		*got.Priority != 3 || got.HardLimit != time.Minute || got.SoftLimit != 1500*time.Millisecond || !*got.IgnoreResult ||
		send.Serializer != "msgpack" || send.Compression != "zlib" || got.Custom.Len() != 1 || !slices.Equal(got.StampNames, []string{"s"}) {
		t.Errorf("sent %+v of %+v", send, got)
	}
	if got = mustApply(t, New("a").ETA(at).ExpiresIn(time.Hour), env).Effects[0].(Send).Task; !got.ETA.Equal(at) || !got.Expires.Equal(env.Now.Add(time.Hour)) {
		t.Errorf("eta %v, expires %v", got.ETA, got.Expires)
	}
	for option, v := range map[string]any{
		"countdown": "soon", "eta": "soon", "expires": []any{}, "priority": 1.5, "time_limit": map[string]any{}, "queue": 3, "task_id": 4,
		"headers": "h", "stamped_headers": 1, "group_index": "x", "retries": "x", "shadow": 1, "expires ": nil,
	} {
		_, err := Apply(New("a").Set(option, v), nil, nil, nil, env)
		if bad := (*SignatureError)(nil); (err != nil) != (option != "expires ") || err != nil && !errors.As(err, &bad) {
			t.Errorf("%s = %v: error %v", option, v, err)
		}
	}
}

func TestNativeDelay(t *testing.T) {
	t.Parallel()
	rt, err := ParseRoutes(map[string]any{
		"task_queues":        map[string]any{"q": map[string]any{"exchange": "x", "exchange_type": "topic", "routing_key": "k", "queue_arguments": map[string]any{"x-queue-type": "quorum"}}},
		"task_default_queue": "q",
	})
	if err != nil {
		t.Fatal(err)
	}
	env := counted()
	env.Routes, env.NativeDelay = rt, rt.Quorum()
	send := mustApply(t, New("a").Countdown(5*time.Second), env).Effects[0].(Send)
	if send.Delay != 5*time.Second || send.Queue == nil || send.Task.Exchange != "x" || send.Task.RoutingKey != "k" {
		t.Errorf("sent to %q %q of %+v after %v", send.Task.Exchange, send.Task.RoutingKey, send.Queue, send.Delay)
	}
	for name, s := range map[string]Signature{
		"no eta":                 New("a"),
		"an eta that has passed": New("a").Countdown(-time.Second),
		"a direct exchange":      New("a").Countdown(5*time.Second).Set("queue", "made-up"),
		"an address of its own":  New("a").Countdown(5*time.Second).Set("exchange", "y").Set("exchange_type", "topic").Set("routing_key", "z"),
	} {
		if send = mustApply(t, s, env).Effects[0].(Send); send.Delay != 0 {
			t.Errorf("%s: a delay of %v", name, send.Delay)
		}
	}
}

func TestReplaceRefuses(t *testing.T) {
	t.Parallel()
	task := &protocol.Task{ID: "t", Name: "t"}
	for name, s := range map[string]Signature{
		"a part of a chord": New("a").Set("chord", New("b")),
		"an empty chain":    Chain(),
	} {
		if _, err := Replace(task, s, counted()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := AddToChord(task, New("a"), counted()); !errors.Is(err, ErrNoChord) {
		t.Errorf("AddToChord = %v", err)
	}
}

func TestMapCalls(t *testing.T) {
	t.Parallel()
	items := []protocol.Value{[]protocol.Value{int64(1), int64(2)}, []protocol.Value{int64(3)}}
	inner := New("add", 9).Queue("q").Value()
	call := func(name string) MapCall {
		m, err := ParseMap(&protocol.Task{Name: name, Kwargs: protocol.ObjectOf(protocol.Member{Key: "task", Value: inner}, protocol.Member{Key: "it", Value: items})})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := call("celery.starmap"); m.Task != "add" || !equal(m.Calls[0], items[0]) || len(m.Calls[1]) != 1 {
		t.Errorf("starmap: %+v", m)
	}
	if m := call("celery.map"); len(m.Calls[0]) != 1 || !equal(m.Calls[0][0], items[0]) {
		t.Errorf("map: %+v", m)
	}
	for _, args := range [][]protocol.Value{nil, {inner}, {inner, "x"}, {inner, []protocol.Value{int64(1)}}, {int64(1), items}} {
		if _, err := ParseMap(&protocol.Task{Name: "celery.starmap", Args: args}); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestUnlockWaits(t *testing.T) {
	t.Parallel()
	tuple := func(id string) protocol.Value { return []protocol.Value{[]protocol.Value{id, nil}, nil} }
	group := []protocol.Value{[]protocol.Value{"g", nil}, []protocol.Value{tuple("b"), tuple("c")}}
	kwargs := protocol.ObjectOf(
		protocol.Member{Key: "result", Value: []protocol.Value{tuple("a"), group}}, protocol.Member{Key: "interval", Value: 2.5},
		protocol.Member{Key: "max_retries", Value: int64(3)}, protocol.Member{Key: "_chord_unlock_exchange_type", Value: "topic"})
	u, err := ParseUnlock(&protocol.Task{Name: "celery.chord_unlock", Args: []protocol.Value{"gid", New("body").TaskID("body").Value()}, Kwargs: kwargs})
	if err != nil {
		t.Fatal(err)
	}
	if u.Interval != 2500*time.Millisecond || *u.MaxRetries != 3 || u.ExchangeType != "topic" || !slices.Equal(u.IDs(), []string{"a", "b", "c"}) {
		t.Errorf("read %+v", u)
	}
	states := map[string]protocol.Result{"a": {Status: protocol.Success, Value: int64(1)}, "b": {Status: protocol.Started}}
	load := func(id string) (protocol.Result, bool) { r, ok := states[id]; return r, ok }
	if j := u.Check(load); j.Ready {
		t.Error("ready with a task that runs and one nobody knows")
	}
	states["b"], states["c"] = protocol.Result{Status: protocol.Success, Value: int64(2)}, protocol.Result{Status: protocol.Success, Value: int64(3)}
	if j := u.Check(load); !j.Ready || !equal(j.Results, []protocol.Value{int64(1), []protocol.Value{int64(2), int64(3)}}) {
		t.Errorf("joined %+v", j)
	}
	states["b"] = protocol.Result{Status: protocol.Revoked, Exception: protocol.TaskRevoked("revoked")}
	if j := u.Check(load); j.FailedID != "b" || PollDependencyText(j.Exception) != "TaskRevokedError('revoked')" {
		t.Errorf("joined %+v", j)
	}
	for _, args := range [][]protocol.Value{{"g"}, {"g", "x"}, {"g", New("b").Value(), nil, nil, "x"}, {"g", New("b").Value(), nil, nil, []protocol.Value{int64(1)}}, {"g", New("b").Value(), "x", nil, []protocol.Value{}}} {
		if _, err := ParseUnlock(&protocol.Task{Args: args}); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestAccumulateRefuses(t *testing.T) {
	t.Parallel()
	for _, index := range []protocol.Value{int64(2), int64(-3), "x"} {
		task := &protocol.Task{Args: []protocol.Value{int64(1), int64(2)}, Kwargs: protocol.ObjectOf(protocol.Member{Key: "index", Value: index})}
		if v, err := Accumulate(task); err == nil {
			t.Errorf("index %v gives %v", index, v)
		}
	}
}

func TestSignatureIsAValue(t *testing.T) {
	t.Parallel()
	s := Chain(New("a", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), New("b"))
	v, err := protocol.FromGo(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(v)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := string(mustJSON(t, s.Value())), string(mustJSON(t, back.Value())); a != b {
		t.Errorf("%s became %s", a, b)
	}
	if _, err := json.Marshal(New("")); err == nil {
		t.Error("a signature with a mistake marshals")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	deep := New("a")
	for range 2 * maxDepth {
		deep = Signature{Task: "celery.chain", Type: "chain", Kwargs: protocol.ObjectOf(protocol.Member{Key: "tasks", Value: []protocol.Value{deep.Value()}})}
	}
	wide := func(n int, kind string, s Signature) Signature {
		tasks := make([]protocol.Value, n)
		for i := range tasks {
			tasks[i] = s.Value()
		}
		return Signature{Task: "celery." + kind, Type: kind, Kwargs: protocol.ObjectOf(protocol.Member{Key: "tasks", Value: tasks})}
	}
	errbacks := make([]protocol.Value, 3000)
	for i := range errbacks {
		errbacks[i] = New("eb", i).Value()
	}
	manyLinks := wide(3000, "chain", New("a")).Set("link_error", errbacks)
	bigBody := Chord([]Signature{New("a")}, New("body", strings.Repeat("x", 1<<20)))
	header, _ := wide(3000, "group", New("a")).Kwargs.Get("tasks")
	bigBody.Kwargs = bigBody.Kwargs.Clone()
	bigBody.Kwargs.Set("header", header)
	nested := New("a")
	for range 40 {
		nested = wide(3, "group", nested)
	}
	for name, s := range map[string]Signature{"deep": deep, "links": manyLinks, "body": bigBody, "nested": nested} {
		start := time.Now()
		_, err := Apply(s, nil, nil, nil, counted())
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error %v", name, err)
		}
		t.Log(name, time.Since(start))
	}
	if testing.Short() {
		return
	}
	for name, s := range map[string]Signature{"a group of 20,000": wide(20000, "group", New("a", 1)), "a chain of 5,000": wide(5000, "chain", New("a"))} {
		start := time.Now()
		if _, err := Apply(s, nil, nil, nil, counted()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(name, time.Since(start))
	}
}
