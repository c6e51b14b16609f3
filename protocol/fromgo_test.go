package protocol

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type (
	level   int
	color   string
	base    struct{ ID, Name string }
	goThing struct {
		base
		*Extra
		ID      int    `json:"id"`
		Skipped string `json:"-"`
		//lint:ignore SA5008 that a field named "-" is written so is what this shows
		Dash  string         `json:"-,"`
		Empty []int          `json:"empty,omitempty"`
		Zero  time.Time      `json:"zero,omitzero"`
		Nil   []int          `json:"nil"`
		Map   map[string]any `json:"map"`
		Ptr   *int           `json:"ptr"`
	}
	Extra struct{ More bool }
	clash struct {
		left
		right
	}
	left   struct{ X int }
	right  struct{ X int }
	onPtr  struct{ text string }
	node   struct{ Next *node }
	typed1 struct {
		T string `json:"__type__"`
		V int    `json:"__value__"`
	}
	quoted struct {
		N int `json:"n,string"`
	}
)

func (p *onPtr) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]string{"on": p.text}) }

type badMarshaler struct{}

func (badMarshaler) MarshalJSON() ([]byte, error) { return nil, errors.New("no") }

func TestFromGo(t *testing.T) {
	t.Parallel()
	five := 5
	big1, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	at := time.Date(2024, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	for _, tt := range []struct {
		name string
		in   any
		want string // as describeValue puts it
	}{
		{"nil", nil, "None"},
		{"nil pointer", (*int)(nil), "None"},
		{"pointer", &five, "int 5"},
		{"nil slice is an empty list", []int(nil), "[]"},
		{"nil map is an empty dict", map[string]int(nil), "{}"},
		{"nil bytes are empty bytes", []byte(nil), "bytes "},
		{"named int", level(3), "int 3"},
		{"named text", color("red"), `str "red"`},
		{"uint64 beyond int64", uint64(math.MaxUint64), "int 18446744073709551615"},
		{"int8", int8(-1), "int -1"},
		{"float32 by its shortest digits", float32(0.1), "float 3fb999999999999a"},
		{"integral float stays float", 3.0, "float 4008000000000000"},
		{"big.Int", *big1, "int 123456789012345678901234567890"},
		{"small *big.Int is an int64", big.NewInt(7), "int 7"},
		{"nil *big.Int", (*big.Int)(nil), "None"},
		{"time", at, "datetime 2024-01-02T03:04:05.000006+01:00"},
		{"pointer to time", &at, "datetime 2024-01-02T03:04:05.000006+01:00"},
		{"duration is seconds", 1500 * time.Millisecond, "float 3ff8000000000000"},
		{"map is sorted", map[color]int{"b": 1, "a": 2}, `{"a": int 2, "b": int 1}`},
		{"map of int keys", map[int]string{2: "x"}, `{"2": str "x"}`},
		{"map of text keys", map[netip.Addr]int{netip.MustParseAddr("::1"): 1}, `{"::1": int 1}`},
		{"array", [2]bool{true, false}, "[True, False]"},
		{"any holds what it holds", []any{1, int32(2), "x", nil, []any{}, map[string]any{"k": uint8(1)}}, `[int 1, int 2, str "x", None, [], {"k": int 1}]`},
		{"json.Number", json.Number("12345678901234567890"), "int 12345678901234567890"},
		{"json.Number float", json.Number("1.0"), "float 3ff0000000000000"},
		{"json.RawMessage", json.RawMessage(`{"b": 1, "a": [1.0]}`), `{"b": int 1, "a": [float 3ff0000000000000]}`},
		{"json.Marshaler on the pointer", onPtr{"x"}, `{"on": str "x"}`},
		{"json.Marshaler in a slice", []onPtr{{"x"}}, `[{"on": str "x"}]`},
		{"encoding.TextMarshaler", netip.MustParseAddr("10.0.0.1"), `str "10.0.0.1"`},
		{
			"Values",
			[]Value{Date{2024, 1, 2}, Decimal("1e5"), UUID{15: 1}, Set{"a"}, ObjectOf(Member{"k", 1})},
			`[date 2024-01-02, Decimal 1E+5, UUID 00000000-0000-0000-0000-000000000001, set ['str "a"'], {"k": int 1}]`,
		},
		{"struct", goThing{base: base{"deep", "n"}, ID: 1, Dash: "d", Skipped: "s"}, `{"ID": str "deep", "Name": str "n", "id": int 1, "-": str "d", "nil": [], "map": {}, "ptr": None}`},
		{
			"embedded pointer",
			goThing{Extra: &Extra{true}, Ptr: &five, Empty: []int{1}, Zero: at},
			`{"ID": str "", "Name": str "", "More": True, "id": int 0, "-": str "", "empty": [int 1], "zero": datetime 2024-01-02T03:04:05.000006+01:00, "nil": [], "map": {}, "ptr": int 5}`,
		},
		{"fields that clash hide each other", clash{}, "{}"},
		{"reserved keys with a third", map[string]int{"__type__": 1, "__value__": 2, "x": 3}, `{"__type__": int 1, "__value__": int 2, "x": int 3}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := FromGo(tt.in)
			if err != nil || describeValue(got) != tt.want {
				t.Errorf("FromGo = %s (%v), want %s", describeValue(got), err, tt.want)
			}
		})
	}
}

func TestFromGoRefuses(t *testing.T) {
	t.Parallel()
	loop := &node{}
	loop.Next = loop
	list := []any{nil}
	list[0] = list
	for _, tt := range []struct {
		name string
		in   any
		want string // in the error
	}{
		{"an error", errors.New("x"), "is not a value"},
		{"an error inside", map[string]any{"a": []any{errors.New("x")}}, ".a[0]: an error"},
		{"big.Float", big.NewFloat(1), "no exact form"},
		{"big.Rat", *big.NewRat(1, 2), "no exact form"},
		{"a channel", struct{ C chan int }{make(chan int)}, ".C: Object of type chan int is not JSON serializable"},
		{"a function", func() {}, "not JSON serializable"},
		{"complex", 1i, "not JSON serializable"},
		{"what contains itself", loop, "over the limit"},
		{"a list in itself", list, "over the limit"},
		{"reserved map", map[string]any{"__type__": "bytes", "__value__": "x"}, "reserved"},
		{"reserved struct inside", []typed1{{}}, "[0]: a dict of just"},
		{"reserved Object", ObjectOf(Member{"__value__", 1}, Member{"__type__", 1}), "reserved"},
		{"the string option", quoted{}, `"string" is not supported`},
		{"a failing marshaler", badMarshaler{}, "no"},
		{"json.Number that is none", json.Number("x"), "not a number"},
		{"a bad decimal", Decimal("1,5"), "badly formed decimal"},
		{"float keys", map[float64]int{1: 1}, "keys must be str"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := FromGo(tt.in)
			if _, ok := errors.AsType[*EncodeError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want an EncodeError with %q", err, tt.want)
			}
		})
	}
}

func TestFromGoSharesNothing(t *testing.T) {
	t.Parallel()
	bytes, list := []byte("ab"), []any{[]byte("cd")}
	v, err := FromGo([]any{bytes, list})
	if err != nil {
		t.Fatal(err)
	}
	bytes[0], list[0] = 'x', nil
	if got, want := describeValue(v), "[bytes 6162, [bytes 6364]]"; got != want {
		t.Errorf("after changing the source the value is %s, want %s", got, want)
	}
}
