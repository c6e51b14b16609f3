package handlers

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

func of[In any](name string) Handler {
	return Func(name, func(context.Context, In) (struct{}, error) { return struct{}{}, nil })
}

// ofFields makes a task of a struct that vet would not let us write down.
func ofFields(name string, fields ...reflect.StructField) Handler {
	return newHandler(name, shapeOf(reflect.StructOf(fields)), func(string) Invoke { return nil })
}

func member(name string, v any, tag reflect.StructTag) reflect.StructField {
	return reflect.StructField{Name: name, Type: reflect.TypeOf(v), Tag: tag}
}

// TestRegistryReportsEveryMistake: all of them in one error, a line each, naming the task and the field.
func TestRegistryReportsEveryMistake(t *testing.T) {
	t.Parallel()
	type point struct{ X, Y int }
	for _, tt := range []struct {
		name string
		hs   []Handler
		want []string
	}{
		{"arguments that are no struct", []Handler{of[int]("t")}, []string{`task "t": arguments are a int, want a struct (struct{} for a task without any)`}},
		{"a pointer to no struct", []Handler{of[*string]("t")}, []string{`task "t": arguments are a string, want a struct (struct{} for a task without any)`}},
		{"two fields of one name", []Handler{ofFields("t", member("A", 0, `json:"x"`), member("B", 0, `json:"x"`))}, []string{`task "t": field B: the name "x" is taken by another field`}},
		{"tags on an unexported field", []Handler{ofFields("t", reflect.StructField{Name: "a", PkgPath: "p", Type: reflect.TypeFor[int](), Tag: `json:"a"`})}, []string{`task "t": field a: the field has tags but is not exported`}},
		{"required after optional", []Handler{of[struct {
			A int `json:"a,omitzero"`
			B int `json:"b"`
		}]("t")}, []string{`task "t": field B: a required parameter after the optional "a": Python has no such function`}},
		{"a channel, nested", []Handler{of[struct {
			A []struct{ C chan int } `json:"a"`
		}]("t")}, []string{`task "t": field A: C: no Python value fits a chan`}},
		{"keys that are no strings", []Handler{of[struct {
			A map[float64]int `json:"a"`
		}]("t")}, []string{`task "t": field A: the map's keys are float64, want text or integers`}},
		{"an interface with methods", []Handler{of[struct {
			A error `json:"a"`
		}]("t")}, []string{`task "t": field A: nothing can be stored in a error; want any or a concrete type`}},
		{"a default that is no JSON", []Handler{of[struct {
			A int `json:"a" default:"many"`
		}]("t")}, []string{`task "t": field A: default "many": want JSON for a Go int`}},
		{"a default of the wrong type", []Handler{of[struct {
			A int `json:"a" default:"1.5"`
		}]("t")}, []string{`task "t": field A: default "1.5": does not fit a Go int: want int, got float`}},
		{"a default of None", []Handler{of[struct {
			A int `json:"a" default:"null"`
		}]("t")}, []string{`task "t": field A: default "null": does not fit a Go int: want int, got NoneType`}},
		{"a name Python has a word for", []Handler{of[struct {
			A int `json:"from"`
			B int `json:"b-c"`
		}]("t")}, []string{`task "t": field A: "from" cannot be the name of a Python parameter`, `task "t": field B: "b-c" cannot be the name of a Python parameter`}},
		{"json options that mean nothing here", []Handler{of[struct {
			A int `json:"a,string"`
		}]("t")}, []string{`task "t": field A: the json option "string" means nothing for a parameter`}},
		{"an unknown celery tag", []Handler{of[struct {
			A []any `json:"a" celery:"args"`
		}]("t")}, []string{`task "t": field A: the celery tag is "args", want "keyword", "*args" or "**kwargs"`}},
		{"variadic fields of the wrong type", []Handler{of[struct {
			A int            `json:"a" celery:"*args"`
			K map[int]string `json:"k" celery:"**kwargs"`
		}]("t")}, []string{`task "t": field A: *args is a int, want a slice`, `task "t": field K: **kwargs is a map[int]string, want *protocol.Object or a map with string keys`}},
		{"a parameter after **kwargs", []Handler{of[struct {
			K map[string]any `json:"k" celery:"**kwargs"`
			A int            `json:"a"`
		}]("t")}, []string{`task "t": field A: a parameter after **kwargs: Python has no such function`}},
		{"*args and a parameter of one name", []Handler{ofFields("t", member("A", 0, `json:"a"`), member("B", []any{}, `json:"a" celery:"*args"`))}, []string{`task "t": field B: the name "a" is taken by another field`}},
		{"an embedded pointer", []Handler{of[struct{ *point }]("t")}, []string{`task "t": field point: an embedded pointer cannot be filled; embed the struct or name the field`}},
		{
			"a result that cannot be encoded",
			[]Handler{Func("t", func(context.Context, struct{}) (map[string]func(), error) { return nil, nil })},
			[]string{`task "t": result type map[string]func(): no Python value fits a func`},
		},
		{"a nil function", []Handler{Func[struct{}, int]("t", nil), Raw("r", nil)}, []string{`task "t": the function is nil`, `task "r": the function is nil`}},
		{"no name", []Handler{of[struct{}]("")}, []string{`task "": the name is empty`}},
		{"a name with a line break", []Handler{of[struct{}]("a\nb")}, []string{`task "a\nb": the name contains a control character`}},
		{"one name three times", []Handler{of[struct{}]("t"), of[struct{}]("t"), of[struct{}]("u").As("t")}, []string{`task "t": the name is taken by another handler`}},
		{"an empty Handler", []Handler{{}}, []string{`task "": an empty Handler; make it with Func or Raw`}},
		{
			"options that mean nothing",
			[]Handler{of[struct{}]("t").With(Options{SoftLimit: -time.Second, Rate: "10/d", Retry: RetryPolicy{Delay: -1}})},
			[]string{`task "t": Options.SoftLimit is -1s, want 0 or more`, `task "t": Options.Retry.Delay is -1ns, want 0 or more`, `task "t": Options.Rate: rate "10/d": unknown unit "d", want s, m or h`},
		},
		{"mistakes of several tasks", []Handler{of[int]("a"), of[struct{}]("good"), of[struct {
			A func() `json:"a"`
		}]("b")}, []string{`task "a": arguments are a int, want a struct (struct{} for a task without any)`, `task "b": field A: no Python value fits a func`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := NewRegistry(tt.hs...)
			if err == nil || r != nil {
				t.Fatalf("NewRegistry = %v, %v, want an error only", r, err)
			}
			var got []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				got = append(got, strings.TrimPrefix(line, "handlers: "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, h := range tt.hs { // run unchecked, a bad handler says what is wrong rather than panic
				if h.Invoke() != nil {
					_, _ = h.Invoke()(t.Context(), &protocol.Task{})
				}
			}
		})
	}
}

func TestRegistryIsSortedAndFinds(t *testing.T) {
	t.Parallel()
	r, err := NewRegistry(of[struct{}]("b"), of[struct{}]("c"), of[struct{}]("b").As("a").With(Options{EarlyAck: true}))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for h := range r.All() {
		names = append(names, h.Name())
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" || r.Len() != 3 {
		t.Errorf("Len %d (-want +got)\n%s", r.Len(), diff)
	}
	if h, ok := r.Lookup("a"); !ok || h.Name() != "a" || !h.Options().EarlyAck {
		t.Errorf("Lookup(a) = %q, %v", h.Name(), ok)
	}
	if _, ok := r.Lookup("A"); ok {
		t.Error("Lookup(A) found something: names are exact")
	}
	if empty, err := NewRegistry(); err != nil || empty.Len() != 0 {
		t.Errorf("an empty registry: %v", err)
	}
}

// TestAliasSpeaksOfItself: a stock handler served as myapp.tasks.make names make in its TypeErrors.
func TestAliasSpeaksOfItself(t *testing.T) {
	t.Parallel()
	h := of[struct {
		X int `json:"x"`
	}]("stock.thumb").With(Options{IgnoreResult: true}).As("myapp.tasks.make")
	_, err := h.Invoke()(t.Context(), &protocol.Task{})
	e, ok := errors.AsType[*protocol.Exception](err)
	if !ok || e.Args[0] != "make() missing 1 required positional argument: 'x'" {
		t.Errorf("error = %v", err)
	}
	if !h.Options().IgnoreResult {
		t.Error("As lost the options")
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	type inner struct{ X []inner }
	type base struct {
		Path string `json:"path"`
	}
	type in struct {
		base
		Size    []int               `json:"size" default:"[256, 256]"`
		Quality *int                `json:"quality,omitzero"`
		Ratio   float32             `json:"ratio,omitzero"`
		Deep    map[string][]string `json:"deep,omitzero"`
		Rec     *inner              `json:"rec,omitzero"`
		Any     any                 `json:"any,omitzero"`
		At      time.Time           `json:"at,omitzero"`
		Wait    time.Duration       `json:"wait" default:"1.5"`
		//lint:ignore U1000 an unexported field without tags is not a parameter
		hidden  int
		Skipped chan int         `json:"-"`
		Data    []byte           `json:"data,omitzero"`
		Rest    []*bool          `json:"rest" celery:"*args"`
		Key     protocol.Decimal `json:"key"`
		Others  *protocol.Object `json:"others" celery:"**kwargs"`
	}
	h := of[*in]("t")
	if _, err := NewRegistry(h); err != nil {
		t.Fatal(err)
	}
	want := []Param{
		{Name: "path", Type: "str"},
		{Name: "size", Type: "list[int]", Optional: true, Default: []any{int64(256), int64(256)}},
		{Name: "quality", Type: "int | None", Optional: true},
		{Name: "ratio", Type: "float | None", Optional: true},
		{Name: "deep", Type: "dict[str, list[str]] | None", Optional: true},
		{Name: "rec", Type: "dict | None", Optional: true},
		{Name: "any", Type: "Any", Optional: true},
		{Name: "at", Type: "datetime.datetime | None", Optional: true},
		{Name: "wait", Type: "float", Optional: true, Default: 1.5},
		{Name: "data", Type: "bytes | None", Optional: true},
		{Name: "*rest", Type: "bool | None", Optional: true},
		{Name: "key", Type: "decimal.Decimal", Keyword: true},
		{Name: "**others", Type: "Any", Optional: true},
	}
	if diff := cmp.Diff(want, h.Params()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	raw := Raw("r", func(context.Context, []any, *protocol.Object) (any, error) { return nil, nil })
	if diff := cmp.Diff([]Param{{Name: "*args", Type: "Any", Optional: true}, {Name: "**kwargs", Type: "Any", Optional: true}}, raw.Params()); diff != "" {
		t.Errorf("Raw (-want +got)\n%s", diff)
	}
}
