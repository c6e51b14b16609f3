package demo

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/handlerstest"
	"github.com/stalkworker/stalk/protocol"
)

func registry(t *testing.T) *handlers.Registry {
	t.Helper()
	r, err := handlers.NewRegistry(Handlers()...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(o any, key string) protocol.Value { v, _ := o.(*protocol.Object).Get(key); return v }

// wire is v as JSON: 3 and 3.0, 0.0 and -0.0, and two NaNs are told apart or not as Python would write them.
func wire(t *testing.T, v protocol.Value) string {
	t.Helper()
	b, err := protocol.AppendJSON(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDemoAsPython makes the calls that Python made and wants its values and its exceptions.
func TestDemoAsPython(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/demo.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := protocol.ParseJSON(raw, protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if v := get(doc, "python").(string); !strings.HasPrefix(v, "3.11.") {
		t.Errorf("recorded with Python %s, want 3.11: its texts are the promise", v)
	}
	reg := registry(t)
	seen := make(map[string]int)
	for _, c := range get(doc, "cases").([]any) {
		name := get(c, "task").(string)
		seen[name]++
		h, ok := reg.Lookup(name)
		if !ok {
			t.Fatalf("no task %q", name)
		}
		call := get(c, "args").([]any)
		line := wire(t, c)
		kwargs := handlerstest.Kwargs{}
		for _, m := range get(c, "kwargs").(*protocol.Object).Members() {
			if name == "demo.retry" && m.Key == "retries" {
				call = append(call, handlerstest.Retries(int(m.Value.(int64))))
				continue
			}
			kwargs[m.Key] = m.Value
		}
		got := handlerstest.Run(t.Context(), h, append(call, kwargs)...)
		if class, raised := get(c, "exc_type").(string); raised {
			if got.Ending != handlerstest.Failed || got.Exception.Module != "builtins" || got.Exception.Type != class ||
				wire(t, got.Exception.Args) != wire(t, get(c, "exc_message")) {
				t.Errorf("%s\n got %s %v %v", line, got.Ending, got.Value, got.Err)
			}
			continue
		}
		value := get(c, "value")
		if o, ok := value.(*protocol.Object); ok && name == "demo.retry" {
			var seconds float64
			if err := protocol.ToGo(plain(get(o, "countdown")), &seconds); err != nil {
				t.Fatal(err)
			}
			if got.Ending != handlerstest.Retried || got.Countdown.Seconds() != seconds {
				t.Errorf("%s\n got %s %v %v", line, got.Ending, got.Countdown, got.Err)
			}
			continue
		}
		if got.Ending != handlerstest.Succeeded {
			t.Errorf("%s\n got %s %v", line, got.Ending, got.Err)
		} else if a, b := wire(t, value), wire(t, got.Value); a != b && !(name == "demo.echo" && cmp.Equal(sorted(value), sorted(got.Value))) {
			t.Errorf("%s\n got %s", line, b)
		}
	}
	for h := range reg.All() {
		if seen[h.Name()] == 0 {
			t.Errorf("%s is not in the record", h.Name())
		}
	}
}

// plain makes a bool the number that it is in Python.
func plain(v any) any {
	if b, ok := v.(bool); ok {
		if b {
			return int64(1)
		}
		return int64(0)
	}
	return v
}

// sorted forgets the order of a dict's keys: handlerstest.Kwargs is a map.
func sorted(v any) any {
	m := make(map[string]any)
	for _, member := range v.(*protocol.Object).Members() {
		m[member.Key] = member.Value
		if o, ok := member.Value.(*protocol.Object); ok {
			m[member.Key] = sorted(o)
		} else if l, ok := member.Value.([]any); ok {
			var keep []string
			for _, e := range l {
				b, _ := protocol.AppendJSON(nil, e)
				keep = append(keep, string(b))
			}
			m[member.Key] = keep
		}
	}
	return m
}

func TestDemoBytesAndOthers(t *testing.T) {
	t.Parallel()
	got, err := plus([]byte("a"), []byte("b"))
	if err != nil || string(got.([]byte)) != "ab" {
		t.Errorf("bytes: %v, %v", got, err)
	}
	for _, tt := range []struct {
		name string
		x, y any
		want string
	}{
		{"bytes and int", []byte("a"), int64(1), "can't concat int to bytes"},
		{"datetime and int", protocol.DateTime{}, int64(1), "unsupported operand type(s) for +: 'datetime.datetime' and 'int'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := plus(tt.x, tt.y)
			if e, ok := errors.AsType[*protocol.Exception](err); !ok || e.Type != "TypeError" || e.Args[0] != tt.want {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestDemoSleepStopsAtTheSoftLimit: for demo.sleep and demo.progress the end is the limit, exactly.
func TestDemoSleepStopsAtTheSoftLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		task string
		args []any
	}{
		{"demo.sleep", []any{3600}},
		{"demo.sleep", []any{1e9}},
		{"demo.progress", []any{2, 3600.5}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 90*time.Second, handlers.ErrSoftLimit)
			defer cancel()
			h, _ := registry(t).Lookup(tt.task)
			start := time.Now()
			r := handlerstest.Run(ctx, h, tt.args...)
			if r.Ending != handlerstest.Failed || !errors.Is(r.Err, handlers.ErrSoftLimit) || r.Exception.Type != "SoftTimeLimitExceeded" {
				t.Errorf("%s: %s %v, want the soft limit", tt.task, r.Ending, r.Err)
			}
			if took := time.Since(start); took != 90*time.Second {
				t.Errorf("%s: stopped after %v, want 90s", tt.task, took)
			}
		})
	}
}

func TestDemoSleepTakesItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, _ := registry(t).Lookup("demo.sleep")
		start := time.Now()
		r := handlerstest.Run(t.Context(), h, 2.5)
		if r.Value != 2.5 || time.Since(start) != 2500*time.Millisecond {
			t.Errorf("%v after %v, want 2.5 after 2.5s", r.Value, time.Since(start))
		}
	})
}

func TestDemoBurn(t *testing.T) {
	t.Parallel()
	h, _ := registry(t).Lookup("demo.burn")
	start := time.Now()
	if r := handlerstest.Run(t.Context(), h, 0.05); r.Value != 0.05 || time.Since(start) < 50*time.Millisecond {
		t.Errorf("%v after %v, want 0.05 after 50ms or more", r.Value, time.Since(start))
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, handlers.ErrSoftLimit)
	defer cancel()
	r := handlerstest.Run(ctx, h, math.Inf(1))
	if !errors.Is(r.Err, handlers.ErrSoftLimit) {
		t.Errorf("burning for ever: %s %v, want the soft limit", r.Ending, r.Err)
	}
}

func TestDemoRetryHasNoUpperLimit(t *testing.T) {
	t.Parallel()
	h, _ := registry(t).Lookup("demo.retry")
	r := handlerstest.Run(t.Context(), h, 1000, 2.5, handlerstest.Retries(999))
	if r.Ending != handlerstest.Retried || r.Countdown != 2500*time.Millisecond || r.Err.Error() != "Retry in 2.5s" {
		t.Errorf("%s %v %v, want another retry in 2.5s", r.Ending, r.Countdown, r.Err)
	}
	if r := handlerstest.Run(t.Context(), h, 1000, handlerstest.Retries(1000)); r.Value != int64(1000) {
		t.Errorf("%s %v, want 1000", r.Ending, r.Value)
	}
	if r := handlerstest.Run(t.Context(), h, 1, 1e300); r.Exception == nil || r.Exception.Type != "OverflowError" {
		t.Errorf("%s %v, want OverflowError", r.Ending, r.Err)
	}
}

func TestDemoProgressReportsBeforeEachPause(t *testing.T) {
	t.Parallel()
	h, _ := registry(t).Lookup("demo.progress")
	r := handlerstest.Run(t.Context(), h, 3, 0)
	var got []string
	for _, report := range r.Reports {
		got = append(got, string(report.State)+" "+wire(t, report.Meta))
	}
	want := []string{`PROGRESS {"done": 0, "total": 3}`, `PROGRESS {"done": 1, "total": 3}`, `PROGRESS {"done": 2, "total": 3}`}
	if diff := cmp.Diff(want, got); diff != "" || r.Value != int64(3) {
		t.Errorf("value %v (-want +got)\n%s", r.Value, diff)
	}
}

func TestDemoFailUnknownClass(t *testing.T) {
	t.Parallel()
	h, _ := registry(t).Lookup("demo.fail")
	for _, class := range []string{"SystemExit", "nope", "", "print", "os.system"} {
		r := handlerstest.Run(t.Context(), h, "m", class)
		if r.Exception == nil || r.Exception.Type != "ValueError" || !strings.Contains(r.Exception.Args[0].(string), "exc_type '"+class+"'") {
			t.Errorf("%q: %v, want a ValueError that names it", class, r.Err)
		}
	}
}

// TestDemoParameters: the table that the README promises.
func TestDemoParameters(t *testing.T) {
	t.Parallel()
	got := make(map[string]string)
	for h := range registry(t).All() {
		var b strings.Builder
		for i, p := range h.Params() {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(p.Name)
			if p.Optional && !strings.HasPrefix(p.Name, "*") {
				b.WriteString("=" + wire(t, p.Default))
			}
		}
		got[h.Name()] = b.String()
	}
	want := map[string]string{
		"demo.add": "x, y=1", "demo.echo": "*args, **kwargs", "demo.sleep": "seconds=1", "demo.burn": "seconds=1",
		"demo.fail": `message="boom", exc_type="ValueError"`, "demo.retry": "times=1, countdown=0", "demo.progress": "steps=5, seconds=0.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
