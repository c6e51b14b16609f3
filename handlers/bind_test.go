package handlers

import (
	"context"
	"errors"
	"math/big"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// The Go side of each function in pyfixtures/binding.py. Fields are any, so that what arrives is what was sent.
type (
	noneIn struct{}
	oneIn  struct {
		X any `json:"x"`
	}
	twoIn struct {
		X any `json:"x"`
		Y any `json:"y"`
	}
	threeIn struct {
		A any `json:"a"`
		B any `json:"b"`
		C any `json:"c"`
	}
	fourIn struct {
		threeIn     // embedded: its fields stand here
		D       any `json:"d"`
	}
	optIn struct {
		X any `json:"x"`
		Y any `json:"y" default:"1"`
	}
	optsIn struct {
		A any `json:"a" default:"1"`
		B any `json:"b" default:"2"`
	}
	starIn struct {
		X    any   `json:"x"`
		Args []any `json:"args" celery:"*args"`
	}
	staroptIn struct {
		X    any   `json:"x"`
		Y    any   `json:"y" default:"1"`
		Args []any `json:"args" celery:"*args"`
	}
	kwIn struct {
		X      any            `json:"x"`
		Kwargs map[string]any `json:"kwargs" celery:"**kwargs"`
	}
	bothIn struct {
		Args   []any            `json:"args" celery:"*args"`
		Kwargs *protocol.Object `json:"kwargs" celery:"**kwargs"`
	}
	onlyIn struct {
		X any `json:"x"`
		K any `json:"k" celery:"keyword"`
	}
	onlyoptIn struct {
		K any `json:"k" celery:"keyword" default:"5"`
		X any `json:"x"`
		Y any `json:"y" default:"1"`
		M any `json:"m" celery:"keyword"`
	}
	onlythreeIn struct {
		A any `json:"a" celery:"keyword"`
		B any `json:"b" celery:"keyword"`
		C any `json:"c" celery:"keyword"`
	}
	mixIn struct {
		A      any              `json:"a"`
		B      any              `json:"b" default:"2"`
		Args   []any            `json:"args" celery:"*args"`
		C      any              `json:"c"`
		D      any              `json:"d" default:"4"`
		Kwargs *protocol.Object `json:"kwargs" celery:"**kwargs"`
	}
)

// locals makes a task that returns what its parameters hold, by name.
func locals[In any](name string) Handler {
	return Func(name, func(_ context.Context, in In) (any, error) {
		bound := make(map[string]any)
		s := shapeOf(reflect.TypeFor[In]())
		v := reflect.Indirect(reflect.ValueOf(in))
		for _, f := range s.fields {
			bound[f.name] = f.of(v).Interface()
		}
		if s.rest != nil {
			bound[s.rest.name] = append([]any{}, s.rest.of(v).Interface().([]any)...)
		}
		if s.others != nil {
			bound[s.others.name] = s.others.of(v).Interface()
		}
		return bound, nil
	})
}

var locally = []Handler{
	locals[noneIn]("t.none"), locals[oneIn]("t.one"), locals[*twoIn]("t.two"), locals[threeIn]("t.three"), locals[fourIn]("t.four"),
	locals[optIn]("t.opt"), locals[optsIn]("t.opts"), locals[starIn]("t.star"), locals[staroptIn]("t.staropt"), locals[kwIn]("t.kw"),
	locals[bothIn]("t.both"), locals[onlyIn]("t.only"), locals[onlyoptIn]("t.onlyopt"), locals[onlythreeIn]("t.onlythree"), locals[mixIn]("t.mix"),
}

// plain makes maps of objects, so that order does not count and types do.
func plain(v any) any {
	switch v := v.(type) {
	case *protocol.Object:
		m := make(map[string]any)
		for _, member := range v.Members() {
			m[member.Key] = plain(member.Value)
		}
		return m
	case map[string]any:
		m := make(map[string]any)
		for k, e := range v {
			m[k] = plain(e)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = plain(e)
		}
		return l
	}
	return v
}

// TestBindAsPython makes the calls that Python made and wants what Python bound, or its very words.
func TestBindAsPython(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/binding.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := protocol.ParseJSON(raw, protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := NewRegistry(locally...)
	if err != nil {
		t.Fatal(err)
	}
	get := func(o any, key string) any { v, _ := o.(*protocol.Object).Get(key); return v }
	if v := get(doc, "python").(string); !strings.HasPrefix(v, "3.11.") {
		t.Errorf("recorded with Python %s, want 3.11: its texts are the promise", v)
	}
	if n := get(doc, "signatures").(*protocol.Object).Len(); n != reg.Len() {
		t.Errorf("%d signatures recorded, %d Go structs", n, reg.Len())
	}
	failed, bound := 0, 0
	for _, c := range get(doc, "cases").([]any) {
		name := get(c, "function").(string)
		h, ok := reg.Lookup("t." + name)
		if !ok {
			t.Fatalf("no struct for %q", name)
		}
		task := &protocol.Task{Args: get(c, "args").([]any), Kwargs: get(c, "kwargs").(*protocol.Object)}
		line, _ := protocol.AppendJSON(nil, c)
		got, err := h.Invoke()(t.Context(), task)
		if want, refused := get(c, "error").(string); refused {
			failed++
			e, ok := errors.AsType[*protocol.Exception](err)
			if !ok || e.Type != "TypeError" || e.Module != "builtins" || !reflect.DeepEqual(e.Args, []any{want}) {
				t.Errorf("%s\n got %v, %v", line, got, err)
			}
			continue
		}
		bound++
		if err != nil {
			t.Errorf("%s\n got error %v", line, err)
		} else if diff := cmp.Diff(plain(get(c, "bound")), plain(got)); diff != "" {
			t.Errorf("%s\n(-Python +Go)\n%s", line, diff)
		}
	}
	if failed < 500 || bound < 100 {
		t.Errorf("the record holds %d refused and %d accepted calls; too few to mean anything", failed, bound)
	}
}

type typedIn struct {
	X     int            `json:"x"`
	Scale float64        `json:"scale" default:"1.5"`
	Name  string         `json:"name" default:"inside"`
	Sizes []int          `json:"sizes" default:"[256, 128]"`
	Label *string        `json:"label,omitzero"`
	Limit int            `json:"limit,omitempty"`
	Tags  map[string]int `json:"tags" celery:"keyword" default:"{}"`
}

func typed(t *testing.T, args []any, kwargs ...protocol.Member) (typedIn, error) {
	t.Helper()
	h := Func("myapp.tasks.scale", func(_ context.Context, in typedIn) (typedIn, error) { return in, nil })
	if _, err := NewRegistry(h); err != nil {
		t.Fatal(err)
	}
	v, err := h.Invoke()(t.Context(), &protocol.Task{Args: args, Kwargs: protocol.ObjectOf(kwargs...)})
	if err != nil {
		return typedIn{}, err
	}
	return v.(typedIn), nil
}

func TestBindTypedValues(t *testing.T) {
	t.Parallel()
	label := "l"
	for _, tt := range []struct {
		name   string
		args   []any
		kwargs []protocol.Member
		want   typedIn
	}{
		{
			"defaults fill what is left out",
			[]any{int64(7)},
			nil,
			typedIn{X: 7, Scale: 1.5, Name: "inside", Sizes: []int{256, 128}, Tags: map[string]int{}},
		},
		{
			"a zero given is not the default",
			[]any{int64(0), 0.0, ""},
			[]protocol.Member{{Key: "sizes", Value: []any{}}},
			typedIn{Sizes: []int{}, Tags: map[string]int{}},
		},
		{
			"an int is a float where one is wanted",
			[]any{int64(7), int64(2)},
			nil,
			typedIn{X: 7, Scale: 2, Name: "inside", Sizes: []int{256, 128}, Tags: map[string]int{}},
		},
		{
			"keywords of any order", nil,
			[]protocol.Member{{Key: "label", Value: "l"}, {Key: "x", Value: int64(1)}, {Key: "tags", Value: protocol.ObjectOf(protocol.Member{Key: "a", Value: int64(1)})}},
			typedIn{X: 1, Scale: 1.5, Name: "inside", Sizes: []int{256, 128}, Label: &label, Tags: map[string]int{"a": 1}},
		},
		{
			"None is Python's default of an optional parameter without one",
			[]any{int64(1)},
			[]protocol.Member{{Key: "label", Value: nil}, {Key: "limit", Value: nil}},
			typedIn{X: 1, Scale: 1.5, Name: "inside", Sizes: []int{256, 128}, Tags: map[string]int{}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := typed(t, tt.args, tt.kwargs...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBindWrongType(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("100000000000000000000000000", 10)
	for _, tt := range []struct {
		name   string
		args   []any
		kwargs []protocol.Member
		want   string
	}{
		{"a str for an int", []any{"7"}, nil, "scale() argument 'x': want int, got str"},
		{"a float for an int", []any{7.0}, nil, "scale() argument 'x': want int, got float"},
		{"None for an int", []any{nil}, nil, "scale() argument 'x': want int, got NoneType"},
		{"None for a default", []any{int64(1), nil}, nil, "scale() argument 'scale': want float, got NoneType"},
		{"None for a list", []any{int64(1)}, []protocol.Member{{Key: "sizes", Value: nil}}, "scale() argument 'sizes': want list[int], got NoneType"},
		{"None for a dict", []any{int64(1)}, []protocol.Member{{Key: "tags", Value: nil}}, "scale() argument 'tags': want dict[str, int], got NoneType"},
		{"an int for a str", []any{int64(1), 1.0, int64(1)}, nil, "scale() argument 'name': want str, got int"},
		{"a str for a list", []any{int64(1)}, []protocol.Member{{Key: "sizes", Value: "1"}}, "scale() argument 'sizes': want list, got str"},
		{"a list for a dict", []any{int64(1)}, []protocol.Member{{Key: "tags", Value: []any{}}}, "scale() argument 'tags': want dict, got list"},
		{"a dict for a pointer", []any{int64(1)}, []protocol.Member{{Key: "label", Value: &protocol.Object{}}}, "scale() argument 'label': want str, got dict"},
		{"how it was called comes first", []any{"7"}, []protocol.Member{{Key: "z", Value: nil}}, "scale() got an unexpected keyword argument 'z'"},
		{"a wrong element is named", []any{int64(1), 1.0, "n", []any{int64(1), "2"}}, nil, "scale() argument 'sizes[1]': want int, got str"},
		{"the first wrong value in order", []any{"7", "8"}, nil, "scale() argument 'x': want int, got str"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := typed(t, tt.args, tt.kwargs...)
			e, ok := errors.AsType[*protocol.Exception](err)
			if !ok || e.Type != "TypeError" || !reflect.DeepEqual(e.Args, []any{tt.want}) {
				t.Errorf("error = %v, want TypeError %q", err, tt.want)
			}
		})
	}
	_, err := typed(t, []any{huge})
	if e, ok := errors.AsType[*protocol.Exception](err); !ok || e.Type != "TypeError" || !strings.HasPrefix(e.Error(), "TypeError: scale() argument 'x': ") || strings.Contains(e.Error(), "got int") {
		t.Errorf("an int out of range: %v, want a TypeError that says so", err)
	} else if _, ok := errors.AsType[*protocol.DecodeError](err); !ok {
		t.Errorf("%v does not wrap the DecodeError", err)
	}
}

// TestBindVariadicTypes: *args and **kwargs may have element types, and say which element does not fit.
func TestBindVariadicTypes(t *testing.T) {
	t.Parallel()
	type in struct {
		Sizes []int             `json:"sizes" celery:"*args"`
		Names map[string]string `json:"names" celery:"**kwargs"`
	}
	h := Func("f", func(_ context.Context, arg in) (in, error) { return arg, nil })
	run := func(args []any, kwargs *protocol.Object) (any, error) {
		return h.Invoke()(t.Context(), &protocol.Task{Args: args, Kwargs: kwargs})
	}
	got, err := run([]any{int64(1), int64(2)}, protocol.ObjectOf(protocol.Member{Key: "a b", Value: "c"}))
	if diff := cmp.Diff(in{[]int{1, 2}, map[string]string{"a b": "c"}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := run([]any{int64(1), "2"}, nil); err == nil || err.Error() != "TypeError: f() argument 'sizes[1]': want int, got str" {
		t.Errorf("error = %v", err)
	}
	if _, err := run(nil, protocol.ObjectOf(protocol.Member{Key: "k", Value: nil})); err == nil || err.Error() != "TypeError: f() argument 'k': want str, got NoneType" {
		t.Errorf("error = %v", err)
	}
	got, err = run(nil, nil)
	if diff := cmp.Diff(in{nil, map[string]string{}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// TestHandlersOwnWhatTheyGet: changing an argument must not change the message that a retry sends again.
func TestHandlersOwnWhatTheyGet(t *testing.T) {
	t.Parallel()
	spoil := func(v any) { v.([]any)[0].(*protocol.Object).Set("k", "spoiled") }
	type in struct {
		X    any              `json:"x"`
		Args []any            `json:"args" celery:"*args"`
		K    *protocol.Object `json:"k" celery:"**kwargs"`
	}
	for _, h := range []Handler{
		Func("func", func(_ context.Context, in in) (any, error) {
			y, _ := in.K.Get("y")
			spoil(in.X)
			spoil(in.Args[0])
			spoil(y)
			return nil, nil
		}),
		Raw("raw", func(_ context.Context, args []any, kwargs *protocol.Object) (any, error) {
			y, _ := kwargs.Get("y")
			spoil(args[0])
			spoil(args[1])
			spoil(y)
			args[0] = nil
			return nil, nil
		}),
	} {
		fresh := func() any { return []any{protocol.ObjectOf(protocol.Member{Key: "k", Value: "v"})} }
		task := &protocol.Task{Args: []any{fresh(), fresh()}, Kwargs: protocol.ObjectOf(protocol.Member{Key: "y", Value: fresh()})}
		if _, err := h.Invoke()(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		args, _ := protocol.AppendJSON(nil, task.Args)
		kwargs, _ := protocol.AppendJSON(nil, task.Kwargs)
		if got, want := string(args)+string(kwargs), `[[{"k": "v"}], [{"k": "v"}]]{"y": [{"k": "v"}]}`; got != want {
			t.Errorf("%s: the message is now %s, want %s", h.Name(), got, want)
		}
	}
}

// TestBindDefaultsAreNotShared: what one run does to its default no other run may see.
func TestBindDefaultsAreNotShared(t *testing.T) {
	t.Parallel()
	type in struct {
		Sizes []any `json:"sizes" default:"[1]"`
		Any   any   `json:"any" default:"[1, {}]"`
	}
	h := Func("f", func(_ context.Context, in in) (int64, error) {
		before := in.Sizes[0].(int64) + in.Any.([]any)[0].(int64)
		in.Sizes[0], in.Any.([]any)[0] = int64(9), int64(9)
		return before, nil
	})
	for range 2 {
		got, err := h.Invoke()(t.Context(), &protocol.Task{})
		if err != nil || got != int64(2) {
			t.Fatalf("got %v, %v, want 2", got, err)
		}
	}
}

// FuzzBind: no call panics or is refused with anything but a TypeError.
func FuzzBind(f *testing.F) {
	for _, seed := range []string{
		`[[], {}]`, `[[1, 2], {"z": 3}]`, `[[1, 2, 3, 4, 5], {"a": null, "c": [{}]}]`, `[["a"], {"sizes": [1e99], "tags": {"": 1.5}}]`,
		`[[99999999999999999999999], {"x": NaN}]`, `[[{"__type__": "datetime", "__value__": "2026-11-21"}], {"at": "2026-11-21T00:00:00"}]`,
	} {
		f.Add([]byte(seed))
	}
	type wild struct {
		X    int8               `json:"x" default:"1"`
		N    *big.Int           `json:"n,omitzero"`
		S    []byte             `json:"s,omitzero"`
		Deep struct{ A []*int } `json:"deep,omitzero"`
		A    []uint             `json:"a" celery:"*args"`
		K    map[string]bool    `json:"k" celery:"**kwargs"`
	}
	hs := append([]Handler{
		Func("wild", func(context.Context, wild) (any, error) { return nil, nil }),
		Func("typed", func(context.Context, typedIn) (any, error) { return nil, nil }),
	}, locally...)
	if _, err := NewRegistry(hs...); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := protocol.ParseJSON(data, protocol.Limits{Depth: 50})
		pair, ok := v.([]any)
		if err != nil || !ok || len(pair) != 2 {
			return
		}
		args, ok1 := pair[0].([]any)
		kwargs, ok2 := pair[1].(*protocol.Object)
		if !ok1 || !ok2 {
			return
		}
		for _, h := range hs {
			if _, err := h.Invoke()(t.Context(), &protocol.Task{Args: args, Kwargs: kwargs}); err != nil {
				if e, ok := errors.AsType[*protocol.Exception](err); !ok || e.Type != "TypeError" {
					t.Errorf("%s: %v, want a TypeError", h.Name(), err)
				}
			}
		}
	})
}

// BenchmarkBind is the cost of calling a task that does nothing.
func BenchmarkBind(b *testing.B) {
	b.ReportAllocs()
	h := Func("f", func(context.Context, typedIn) (struct{}, error) { return struct{}{}, nil })
	task := &protocol.Task{Args: []any{int64(1), 2.0}, Kwargs: protocol.ObjectOf(protocol.Member{Key: "name", Value: "n"})}
	for b.Loop() {
		if _, err := h.Invoke()(b.Context(), task); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBindAdd is the same for the smallest task there is.
func BenchmarkBindAdd(b *testing.B) {
	b.ReportAllocs()
	type addIn struct{ X, Y int }
	h := Func("add", func(_ context.Context, in addIn) (int, error) { return in.X + in.Y, nil })
	task := &protocol.Task{Args: []any{int64(2), int64(3)}, Kwargs: &protocol.Object{}}
	ctx := b.Context()
	for b.Loop() {
		if _, err := h.Invoke()(ctx, task); err != nil {
			b.Fatal(err)
		}
	}
}
