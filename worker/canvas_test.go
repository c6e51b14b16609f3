package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/internal/dispatch"
	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// canvasRig is a rig whose worker sends follow-ups to its own queue, with the tasks canvases are made of.
func canvasRig(t *testing.T, change func(*Config), more ...handlers.Handler) *rig {
	t.Helper()
	routes, err := canvas.ParseRoutes(map[string]any{"task_default_queue": "q"})
	if err != nil {
		t.Fatal(err)
	}
	type two struct {
		X int `json:"x"`
		Y int `json:"y"`
	}
	hs := append([]handlers.Handler{
		handlers.Func("add", func(_ context.Context, in two) (int, error) { return in.X + in.Y, nil }),
		handlers.Func("sum", func(_ context.Context, in struct {
			Xs []int `json:"xs"`
		},
		) (int, error) {
			n := 0
			for _, x := range in.Xs {
				n += x
			}
			return n, nil
		}),
		handlers.Raw("fail", func(context.Context, []protocol.Value, *protocol.Object) (any, error) {
			return nil, protocol.NewException("ValueError", "boom")
		}),
		handlers.Func("tell", func(_ context.Context, in struct {
			ID string `json:"id"`
		},
		) (string, error) {
			return in.ID, nil
		}),
		handlers.Raw("echo", func(_ context.Context, args []protocol.Value, _ *protocol.Object) (any, error) { return args, nil }),
	}, more...)
	return startRig(t, func(c *Config) {
		c.Routes, c.Concurrency = routes, 2
		if change != nil {
			change(c)
		}
	}, hs...)
}

// apply sends a canvas as a client would.
func (r *rig) apply(s canvas.Signature) canvas.Plan {
	r.t.Helper()
	env := &canvas.Env{NewID: ids.New, Now: time.Now(), Routes: r.w.cfg.Routes, ReplyTo: "client", NativeChords: true}
	p, err := canvas.Apply(s, nil, nil, nil, env)
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := r.broker.Connect(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	d := &dispatch.Dispatcher{Publisher: conn, Results: r.results}
	for _, e := range p.Effects {
		if err := d.Do(r.t.Context(), e, time.Now()); err != nil {
			r.t.Fatal(err)
		}
	}
	return p
}

func add(args ...any) canvas.Signature { return canvas.New("add", args...) }

func TestChainRunsStepByStep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		p := r.apply(canvas.Chain(add(1, 2).TaskID("one"), add(10).TaskID("two"), add(100).TaskID("three")))
		pass(time.Second)
		if p.ID() != "three" {
			t.Fatalf("the chain's id is %q", p.ID())
		}
		if res := r.wantState("three", protocol.Success); res.Value != int64(113) || res.ParentID != "two" {
			t.Errorf("last step = %v, parent %q", res.Value, res.ParentID)
		}
		want := []protocol.Value{[]protocol.Value{[]protocol.Value{"two", nil}, nil}}
		if diff := cmp.Diff(want, r.result("one").Children); diff != "" {
			t.Errorf("children of the first step (-want +got):\n%s", diff)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestGroupsAndChordsComplete(t *testing.T) {
	for _, tt := range []struct {
		name string
		sig  canvas.Signature
		want protocol.Value
	}{
		{"a chord", canvas.Chord([]canvas.Signature{add(1, 1), add(2, 2), add(3, 3)}, canvas.New("sum")), int64(12)},
		{"a chord of one", canvas.Chord([]canvas.Signature{add(1, 1)}, canvas.New("sum")), int64(2)},
		{"a chord of none", canvas.Chord(nil, canvas.New("sum")), int64(0)},
		{"a chord of chains", canvas.Chord([]canvas.Signature{canvas.Chain(add(1, 1), add(5)), add(2, 2)}, canvas.New("sum")), int64(11)},
		{"a chain through a group", canvas.Chain(add(1, 1), canvas.Group(add(1), add(2)), canvas.New("sum")), int64(7)},
		{"a chain of two chords", canvas.Chain(canvas.Group(add(1, 1), add(2, 2)), canvas.New("sum"), canvas.Group(add(1), add(2)), canvas.New("sum")), int64(15)},
		{"a chord whose body is a chain", canvas.Chord([]canvas.Signature{add(1, 1), add(2, 2)}, canvas.Chain(canvas.New("sum"), add(100))), int64(106)},
		{"a chord in a chord", canvas.Chord([]canvas.Signature{canvas.Chord([]canvas.Signature{add(1, 1), add(2, 2)}, canvas.New("sum")), add(5, 5)}, canvas.New("sum")), int64(16)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := canvasRig(t, nil)
				p := r.apply(tt.sig)
				pass(time.Minute)
				if res := r.wantState(p.ID(), protocol.Success); res.Value != tt.want {
					t.Errorf("result = %v, want %v", res.Value, tt.want)
				}
				r.wantQueue("q", 0, 0)
			})
		})
	}
}

func TestFailureInAChainTellsTheLaterStepsAndTheErrback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		r.apply(canvas.Chain(canvas.New("fail").TaskID("one"), add(10).TaskID("two"), add(1).TaskID("three")).
			LinkError(canvas.New("tell").TaskID("errback")))
		pass(time.Minute)
		for _, id := range []string{"one", "two", "three"} {
			if exc := r.wantException(id, "ValueError"); exc.Args[0] != "boom" {
				t.Errorf("%s: %v", id, exc)
			}
		}
		if res := r.wantState("errback", protocol.Success); res.Value != "one" {
			t.Errorf("the errback got %v, want the failed id", res.Value)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestChordErrorIsToldUnderTheBodysID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		r.apply(canvas.Chord([]canvas.Signature{add(1, 1), canvas.New("fail").TaskID("bad"), add(2, 2)}, canvas.New("sum").TaskID("body")))
		pass(time.Minute)
		if exc := r.wantException("body", "ChordError"); exc.Args[0] != "Dependency bad raised ValueError('boom')" {
			t.Errorf("text = %v", exc.Args)
		}
	})
}

// TestUnknownAndExpiredPartsEndTheirChord: Celery leaves the chord of an unknown task hanging.
func TestUnknownAndExpiredPartsEndTheirChord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		r.apply(canvas.Chord([]canvas.Signature{add(1, 1), canvas.New("no.such").TaskID("bad")}, canvas.New("sum").TaskID("body1")))
		r.apply(canvas.Chord([]canvas.Signature{add(1, 1), add(1, 2).TaskID("late").ExpiresAt(time.Now().Add(-time.Second))}, canvas.New("sum").TaskID("body2")))
		r.apply(canvas.Chord([]canvas.Signature{canvas.Chain(add(1, 2).ExpiresAt(time.Now().Add(-time.Second)), add(1).TaskID("never"))}, canvas.New("sum").TaskID("body3")))
		r.apply(canvas.Chain(canvas.New("no.such"), add(1).TaskID("behind")))
		pass(time.Minute)
		if exc := r.wantException("body3", "ChordError"); exc.Args[0] != "Dependency never raised TaskRevokedError('expired')" {
			t.Errorf("text = %v", exc.Args)
		}
		r.wantException("behind", "NotRegistered")
		if exc := r.wantException("body1", "ChordError"); exc.Args[0] != "Dependency bad raised NotRegistered('no.such')" {
			t.Errorf("text = %v", exc.Args)
		}
		if exc := r.wantException("body2", "ChordError"); exc.Args[0] != "Dependency late raised TaskRevokedError('expired')" {
			t.Errorf("text = %v", exc.Args)
		}
	})
}

func TestWhatAHandlerSendsIsItsChild(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil,
			handlers.Func("parent", func(ctx context.Context, _ nothing) (handlers.Sent, error) {
				if _, err := handlers.Spawn(ctx, add(1, 1).TaskID("child")); err != nil {
					return handlers.Sent{}, err
				}
				return handlers.Spawn(ctx, canvas.Group(add(1, 2).TaskID("a"), add(3, 4).TaskID("b")).TaskID("group"))
			}))
		r.send(protocol.Task{ID: "p", Name: "parent"})
		pass(time.Second)
		res := r.wantState("p", protocol.Success)
		tuple := func(id string) protocol.Value { return []protocol.Value{[]protocol.Value{id, nil}, nil} }
		group := []protocol.Value{[]protocol.Value{"group", nil}, []protocol.Value{tuple("a"), tuple("b")}}
		if diff := cmp.Diff([]protocol.Value{tuple("child"), group}, res.Children); diff != "" {
			t.Errorf("children (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(protocol.Value(group), res.Value); diff != "" {
			t.Errorf("a returned AsyncResult (-want +got):\n%s", diff)
		}
		if child := r.wantState("child", protocol.Success); child.ParentID != "p" {
			t.Errorf("the child's parent is %q", child.ParentID)
		}
	})
}

func TestReplaceKeepsIdAndChain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil, handlers.Func("swap", func(context.Context, nothing) (int, error) {
			return 0, handlers.Replace(canvas.Chain(add(1, 1), add(5)))
		}))
		r.apply(canvas.Chain(canvas.New("swap").TaskID("one"), add(100).TaskID("two")))
		pass(time.Second)
		if res := r.wantState("one", protocol.Success); res.Value != int64(7) {
			t.Errorf("the replaced task = %v", res.Value)
		}
		if res := r.wantState("two", protocol.Success); res.Value != int64(107) {
			t.Errorf("the step behind it = %v", res.Value)
		}
	})
}

func TestAddToChordMakesTheBodyWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil, handlers.Func("more", func(ctx context.Context, _ nothing) (int, error) {
			_, err := handlers.AddToChord(ctx, add(100, 1))
			return 1, err
		}))
		p := r.apply(canvas.Chord([]canvas.Signature{canvas.New("more"), add(2, 2)}, canvas.New("sum")))
		pass(time.Minute)
		if res := r.wantState(p.ID(), protocol.Success); res.Value != int64(106) {
			t.Errorf("body = %v, want 1 + 4 + 101", res.Value)
		}
	})
}

func TestFollowUpsAreRetriedNeverAFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		sent := r.apply(canvas.Chain(add(1, 2).TaskID("one").Countdown(time.Second), add(10).TaskID("two")))
		r.broker.Fail(membroker.Publish, 3, fmt.Errorf("test: %w", transports.ErrRefused))
		pass(time.Minute)
		if res := r.wantState(sent.ID(), protocol.Success); res.Value != int64(13) {
			t.Errorf("result = %v", res.Value)
		}
		r.wantState("one", protocol.Success)
	})
}

// TestRedeliveredPartsCountOnce: the connection breaks while parts settle, again and again.
func TestRedeliveredPartsCountOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bodies := 0
		r := canvasRig(t, nil, handlers.Func("body", func(_ context.Context, in struct {
			Xs []int `json:"xs"`
		},
		) (int, error) {
			bodies++
			return len(in.Xs), nil
		}))
		var header []canvas.Signature
		for i := range 40 {
			header = append(header, add(i, i))
		}
		r.broker.Delay(membroker.Settle, 20*time.Millisecond)
		p := r.apply(canvas.Chord(header, canvas.New("body")))
		for range 20 {
			pass(30 * time.Millisecond)
			r.broker.Cut()
		}
		pass(5 * time.Minute)
		if res := r.wantState(p.ID(), protocol.Success); res.Value != int64(40) || bodies != 1 {
			t.Errorf("body ran %d times and saw %v results", bodies, res.Value)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestMalformedFollowUpsFailTheTaskClearly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		r.send(protocol.Task{ID: "a", Name: "add", Args: args(int64(1), int64(2)), Callbacks: args("not a signature")})
		synctest.Wait()
		if exc := r.wantException("a", "ValueError"); exc.Args[0] != "canvas: callbacks[0]: is a text, want a signature" {
			t.Errorf("text = %v", exc.Args)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestBuiltinTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		list := func(vs ...protocol.Value) protocol.Value { return vs }
		sig := canvas.New("add").Value()
		for _, tt := range []struct {
			name string
			task protocol.Task
			want protocol.Value
		}{
			{"accumulate", protocol.Task{Name: "celery.accumulate", Args: args(int64(1), int64(2))}, list(int64(1), int64(2))},
			{"accumulate by index", protocol.Task{Name: "celery.accumulate", Args: args(list(int64(7))), Kwargs: protocol.ObjectOf(protocol.Member{Key: "index", Value: int64(0)})}, list(int64(7))},
			{"starmap", protocol.Task{Name: "celery.starmap", Args: args(sig, list(list(int64(1), int64(2)), list(int64(3), int64(4))))}, list(int64(3), int64(7))},
			{"map", protocol.Task{Name: "celery.map", Args: args(canvas.New("echo").Value(), list(int64(1), "x"))}, list(list(int64(1)), list("x"))},
			{"chunks", protocol.Task{Name: "celery.chunks", Args: args(sig, list(list(int64(1), int64(2)), list(int64(3), int64(4))), int64(1))}, nil},
			{"backend_cleanup", protocol.Task{Name: "celery.backend_cleanup"}, nil},
		} {
			tt.task.ID = tt.name
			r.send(tt.task)
			synctest.Wait()
			got := r.wantState(tt.name, protocol.Success)
			if tt.name == "chunks" { // it answers with what it has started
				if len(got.Children) != 1 || cmp.Diff(got.Children[0], got.Value) != "" {
					t.Errorf("chunks = %v with children %v", got.Value, got.Children)
				}
				continue
			}
			if diff := cmp.Diff(tt.want, got.Value); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
		r.send(protocol.Task{ID: "unknown", Name: "celery.map", Args: args(canvas.New("no.such").Value(), list())})
		synctest.Wait()
		r.wantException("unknown", "NotRegistered")
		r.send(protocol.Task{ID: "malformed", Name: "celery.starmap", Args: args(sig, list(int64(1)))})
		r.send(protocol.Task{ID: "chain", Name: "celery.chain"})
		synctest.Wait()
		r.wantException("malformed", "ValueError")
		r.wantException("chain", "NotImplementedError")
	})
}

func TestChordUnlockWaitsForTheHeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		tuple := func(id string) protocol.Value { return []protocol.Value{[]protocol.Value{id, nil}, nil} }
		r.send(protocol.Task{
			ID: "unlock", Name: "celery.chord_unlock", Args: args("g", canvas.New("sum").TaskID("body").Value()),
			Kwargs: protocol.ObjectOf(protocol.Member{Key: "result", Value: args(tuple("x"), tuple("y"))}),
		})
		pass(10 * time.Second)
		if _, err := r.results.Load(t.Context(), "body"); err == nil {
			t.Fatal("the body ran before its header")
		}
		r.send(protocol.Task{ID: "x", Name: "add", Args: args(int64(1), int64(1))})
		r.send(protocol.Task{ID: "y", Name: "add", Args: args(int64(2), int64(2))})
		pass(10 * time.Second)
		if res := r.wantState("body", protocol.Success); res.Value != int64(6) {
			t.Errorf("body = %v", res.Value)
		}
		r.wantQueue("q", 0, 0)
	})
}

// A header may hold groups, and a chord that nobody will look at again fails.
func TestChordUnlockOfGroupsAndWithoutEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		tuple := func(id string, members ...protocol.Value) protocol.Value {
			if members == nil {
				return []protocol.Value{[]protocol.Value{id, nil}, nil}
			}
			return []protocol.Value{[]protocol.Value{id, nil}, members}
		}
		unlock := func(body, task string, max protocol.Value, tuples ...protocol.Value) {
			r.send(protocol.Task{
				ID: "unlock " + body, Name: "celery.chord_unlock", Args: args("g", canvas.New(task).TaskID(body).Value()),
				Kwargs: protocol.ObjectOf(protocol.Member{Key: "interval", Value: 0.5}, protocol.Member{Key: "max_retries", Value: max}, protocol.Member{Key: "result", Value: tuples}),
			})
		}
		r.send(protocol.Task{ID: "x", Name: "add", Args: args(int64(1), int64(1))})
		r.send(protocol.Task{ID: "y", Name: "add", Args: args(int64(2), int64(2))})
		unlock("grouped", "echo", nil, tuple("x"), tuple("inner", tuple("y")))
		unlock("endless", "echo", int64(3), tuple("x"), tuple("nobody"))
		r.send(protocol.Task{ID: "z", Name: "fail"})
		unlock("failed", "echo", nil, tuple("x"), tuple("inner", tuple("z")))
		pass(time.Minute)
		want := []protocol.Value{[]protocol.Value{int64(2), []protocol.Value{int64(4)}}}
		if diff := cmp.Diff(protocol.Value(want), r.wantState("grouped", protocol.Success).Value); diff != "" {
			t.Errorf("the body saw (-want +got):\n%s", diff)
		}
		exc := r.wantException("endless", "ChordError")
		if text, _ := exc.Args[0].(string); !strings.HasPrefix(text, `chord_unlock could not be retried: MaxRetriesExceededError("Can't retry celery.chord_unlock[unlock endless] `) {
			t.Errorf("text = %q", text)
		}
		if exc := r.wantException("failed", "ChordError"); exc.Args[0] != "ValueError('boom')" {
			t.Errorf("text = %q", exc.Args[0])
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestSpawnAfterTheEndIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		late := make(chan error, 1)
		r := canvasRig(t, nil, handlers.Func("leak", func(ctx context.Context, _ nothing) (int, error) {
			time.AfterFunc(time.Second, func() {
				_, err := handlers.Spawn(ctx, add(1, 1))
				late <- err
			})
			return 1, nil
		}))
		r.send(protocol.Task{ID: "a", Name: "leak"})
		pass(time.Minute)
		if err := <-late; !errors.Is(err, errOver) {
			t.Errorf("Spawn = %v, want errOver", err)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestErrbacksOfTheNewStyleAreCalledInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		type call struct{ id, exc, label string }
		var calls []call
		r := canvasRig(t, nil,
			handlers.Func("onerror", func(_ context.Context, in struct {
				Request   *protocol.Object `json:"request"`
				Exception *protocol.Object `json:"exc"`
				Traceback protocol.Value   `json:"traceback"`
				Label     string           `json:"label,omitzero"`
			},
			) (int, error) {
				id, _ := in.Request.Get("id")
				class, _ := in.Exception.Get("exc_type")
				calls = append(calls, call{id.(string), class.(string), in.Label})
				return 0, errors.New("only logged")
			}))
		r.apply(canvas.New("fail").TaskID("one").LinkError(canvas.New("onerror"), canvas.New("onerror", "x"), canvas.New("tell").TaskID("sent")))
		pass(time.Minute)
		r.apply(canvas.Chord([]canvas.Signature{canvas.New("fail").TaskID("bad")}, canvas.New("sum").TaskID("body").LinkError(canvas.New("onerror"))))
		pass(time.Minute)
		want := []call{{"one", "ValueError", ""}, {"one", "ValueError", "x"}, {"body", "ChordError", ""}}
		if diff := cmp.Diff(want, calls, cmp.AllowUnexported(call{})); diff != "" {
			t.Errorf("errbacks (-want +got):\n%s", diff)
		}
		if res := r.wantState("sent", protocol.Success); res.Value != "one" {
			t.Errorf("the old one got %v", res.Value)
		}
		r.wantLog("errback onerror raised an exception")
		r.wantQueue("q", 0, 0)
	})
}

// TestABodysFailureListsItsErrbacks: a client walks from the body's result to what its errbacks returned.
func TestABodysFailureListsItsErrbacks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil)
		r.apply(canvas.Chord([]canvas.Signature{canvas.New("fail").TaskID("bad")}, canvas.New("sum").TaskID("body").LinkError(canvas.New("tell").TaskID("told"))))
		pass(time.Minute)
		r.wantException("body", "ChordError")
		children := r.result("body").Children
		if len(children) != 1 {
			t.Fatalf("children of the body = %v", children)
		}
		members := children[0].([]protocol.Value)[1].([]protocol.Value)
		if diff := cmp.Diff([]protocol.Value{[]protocol.Value{[]protocol.Value{"told", nil}, nil}}, members); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
	})
}

func TestReplacingByNothingIsImproperlyConfigured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil, handlers.Func("swap", func(context.Context, nothing) (int, error) { return 0, handlers.Replace(canvas.Chain()) }))
		r.send(protocol.Task{ID: "a", Name: "swap"})
		synctest.Wait()
		if exc := r.wantException("a", "ImproperlyConfigured"); exc.Args[0] != "Cannot replace with an empty chain" {
			t.Errorf("text = %v", exc.Args)
		}
	})
}

// TestAChordAppliedAgainWaitsForItsClient: Celery's client forgets the chord's earlier run only just before its
// last header message.
func TestAChordAppliedAgainWaitsForItsClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bodies := 0
		r := canvasRig(t, nil, handlers.Func("body", func(context.Context, struct {
			Xs []int `json:"xs"`
		},
		) (int, error) {
			bodies++
			return bodies, nil
		}))
		header := []canvas.Signature{add(1, 1).TaskID("a"), add(2, 2).TaskID("b")}
		p := r.apply(canvas.Chord(header, canvas.New("body").TaskID("body")).TaskID("g"))
		pass(time.Minute)
		r.wantState("body", protocol.Success)

		var sends []canvas.Effect
		var group string
		for _, e := range p.Effects {
			switch e := e.(type) {
			case canvas.Send:
				sends = append(sends, e)
			case canvas.ChordSize:
				group = e.GroupID
			}
		}
		conn, err := r.broker.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		d := &dispatch.Dispatcher{Publisher: conn, Results: r.results}
		do := func(e canvas.Effect) {
			if err := d.Do(t.Context(), e, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		do(sends[0])
		pass(100 * time.Millisecond) // the part is there before the client has forgotten the first run
		do(canvas.ChordBegin{GroupID: group})
		do(canvas.ChordSize{GroupID: group, N: 2})
		do(sends[1])
		pass(time.Minute)
		if bodies != 2 {
			t.Errorf("the body ran %d times, want 2", bodies)
		}
		r.wantQueue("q", 0, 0)
	})
}

// A shortLived store forgets a chord's counters after a minute without a part.
type shortLived struct{ *memresult.Backend }

func (shortLived) ChordLifetime() time.Duration { return time.Minute }

func TestPartThatOutlastsItsChordIsWarnedOf(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Results = shortLived{memresult.New()} }, handlers.Func("double", double))
		body := protocol.ObjectOf(arg("task", "double"), arg("args", []protocol.Value{}), arg("kwargs", &protocol.Object{}), arg("options", protocol.ObjectOf(arg("task_id", "body"))))
		r.send(protocol.Task{ID: "long", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour), Chord: body, Group: "g"})
		r.send(protocol.Task{ID: "short", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Second), Chord: body, Group: "g"})
		r.send(protocol.Task{ID: "none", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		pass(2 * time.Second)
		r.wantLog("Task double[long] is part of a chord and waits for 1h0m0s, longer than")
		if n := strings.Count(r.log.String(), "is part of a chord and waits"); n != 1 {
			t.Errorf("warned %d times:\n%s", n, r.log)
		}
	})
}
