package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

type point struct {
	X, Y int
	Tag  *string `json:"tag"`
	base
}

func TestToGo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		json string
		into any // a new variable of this pointer's type
		want any
	}{
		{`5`, new(int8), int8(5)},
		{`18446744073709551615`, new(uint64), uint64(18446744073709551615)},
		{`5`, new(float64), 5.0},
		{`9007199254740992`, new(float64), 9007199254740992.0},
		{`1.5`, new(float32), float32(1.5)},
		{`16777216`, new(float32), float32(16777216)},
		{`true`, new(bool), true},
		{`"x"`, new(color), color("x")},
		{`null`, new(*int), (*int)(nil)},
		{`null`, new([]int), []int(nil)},
		{`null`, new(map[string]int), map[string]int(nil)},
		{`null`, new(any), nil},
		{`[1, 2]`, new([]int), []int{1, 2}},
		{`[1, 2]`, new([2]int), [2]int{1, 2}},
		{`[1, 2]`, new([]byte), []byte{1, 2}},
		{`{"__type__": "bytes", "__value__": "x"}`, new([]byte), []byte("x")},
		{`{"__type__": "bytes", "__value__": "xy"}`, new([2]byte), [2]byte{'x', 'y'}},
		{`{"a": 1}`, new(map[color]int), map[color]int{"a": 1}},
		{`{"-5": 1}`, new(map[int8]int), map[int8]int{-5: 1}},
		{`{"::1": 1}`, new(map[netip.Addr]int), map[netip.Addr]int{netip.MustParseAddr("::1"): 1}},
		{`{"X": 1, "x": 2, "Z": [], "Name": "n"}`, new(point), point{X: 1, base: base{Name: "n"}}},
		{`"2024-01-02T03:04:05Z"`, new(time.Time), time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)},
		{`{"__type__": "datetime", "__value__": "2024-01-02T03:04:05"}`, new(time.Time), time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)},
		{`{"__type__": "date", "__value__": "2024-01-02"}`, new(time.Time), time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)},
		{`{"__type__": "date", "__value__": "2024-01-02"}`, new(string), nil},
		{`1.5`, new(time.Duration), 1500 * time.Millisecond},
		{`90`, new(time.Duration), 90 * time.Second},
		{`{"a": NaN, "b": [1.0]}`, new(json.RawMessage), json.RawMessage(`{"a": NaN, "b": [1.0]}`)},
		{`12345678901234567890`, new(json.Number), json.Number("12345678901234567890")},
		{`1.0`, new(json.Number), json.Number("1.0")},
		{`"10.0.0.1"`, new(netip.Addr), netip.MustParseAddr("10.0.0.1")},
		{`"2024-01-02"`, new(Date), Date{2024, 1, 2}},
		{`"1.50"`, new(Decimal), Decimal("1.50")},
		{`15`, new(Decimal), Decimal("15")},
		{`{"__type__": "decimal", "__value__": "1.5"}`, new(Decimal), Decimal("1.5")},
		{`"00000000-0000-0000-0000-000000000007"`, new(UUID), UUID{15: 7}},
		{`[1, "x"]`, new([]Value), []Value{int64(1), "x"}},
		{`[1, "x"]`, new(any), []Value{int64(1), "x"}},
	} {
		v, err := ParseJSON([]byte(tt.json), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		into := reflect.New(reflect.TypeOf(tt.into).Elem())
		err = ToGo(v, into.Interface())
		if into.Type() == reflect.TypeFor[*string]() && tt.want == nil {
			if err == nil {
				t.Errorf("%s is stored in a string", tt.json)
			}
			continue
		}
		if got := into.Elem().Interface(); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s into %T: %#v (%v), want %#v", tt.json, tt.into, got, err, tt.want)
		}
	}
}

func TestToGoBigInt(t *testing.T) {
	t.Parallel()
	want, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	var x struct {
		A big.Int
		B *big.Int
		C *big.Int
	}
	if err := ToGo(ObjectOf(Member{"A", want}, Member{"B", int64(5)}, Member{"C", nil}), &x); err != nil {
		t.Fatal(err)
	}
	if x.A.Cmp(want) != 0 || x.B.Int64() != 5 || x.C != nil {
		t.Errorf("got %v %v %v", &x.A, x.B, x.C)
	}
}

func TestToGoErrorsNameThePlaceInPythonsWords(t *testing.T) {
	t.Parallel()
	type self *self
	var s self
	for _, tt := range []struct {
		json string
		into any
		want string
	}{
		{`3.0`, new(int), "protocol: want int, got float"},
		{`true`, new(int), "protocol: want int, got bool"},
		{`"1"`, new(int), "protocol: want int, got str"},
		{`null`, new(int), "protocol: want int, got NoneType"},
		{`300`, new(uint8), "protocol: int 300 is out of range of uint8"},
		{`-1`, new(uint), "protocol: int -1 is out of range of uint"},
		{`9223372036854775808`, new(int64), "protocol: an int of 64 bits is out of range of int64"},
		{`9007199254740993`, new(float64), "protocol: an int of 54 bits is no exact float64"},
		{`1e300`, new(float32), "protocol: float 1e+300 is out of range of float32"},
		{`5`, new(string), "protocol: want str, got int"},
		{`"x"`, new([]byte), "protocol: want bytes, got str"},
		{`{}`, new([]int), "protocol: want list, got dict"},
		{`[1]`, new([2]int), "protocol: want a list of 2, got 1"},
		{`[{"X": 1}, {"X": "a"}]`, new([]point), "protocol: [1].X: want int, got str"},
		{`{"a": {"b": [1, null]}}`, new(map[string]map[string][]int), "protocol: .a.b[1]: want int, got NoneType"},
		{`[]`, new(point), "protocol: want dict, got list"},
		{`{"300": 1}`, new(map[int8]int), "protocol: .300: int 300 is out of range of int8"},
		{`5`, new(time.Time), "protocol: want datetime, got int"},
		{`"x"`, new(time.Time), `protocol: not an ISO 8601 date: "x"`},
		{`NaN`, new(time.Duration), "protocol: NaN seconds are out of range"},
		{`9223372037`, new(time.Duration), "protocol: 9223372037 seconds are out of range"},
		{`1.5`, new(Decimal), "protocol: want Decimal, got float"},
		{`1`, new(quoted), ""},
		{`1`, new(fmt.Stringer), "protocol: want fmt.Stringer, got int"},
		{`1`, new(chan int), "protocol: nothing can be stored in a chan int"},
		{`1`, &s, "protocol: nested too deeply: over the limit"},
	} {
		v, err := ParseJSON([]byte(tt.json), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		err = ToGo(v, tt.into)
		if _, ok := errors.AsType[*DecodeError](err); !ok || tt.want != "" && err.Error() != tt.want {
			t.Errorf("%s into %T: %v, want %s", tt.json, tt.into, err, tt.want)
		}
	}
	for _, into := range []any{nil, 5, (*int)(nil)} {
		if err := ToGo(int64(1), into); err == nil {
			t.Errorf("ToGo into %#v succeeded", into)
		}
	}
}

func TestToGoSharesNothing(t *testing.T) {
	t.Parallel()
	v := []Value{[]byte("ab"), ObjectOf(Member{"k", []Value{int64(1)}})}
	var a any
	var l []Value
	if err := errors.Join(ToGo(v, &a), ToGo(v, &l)); err != nil {
		t.Fatal(err)
	}
	for _, got := range [][]Value{a.([]Value), l} {
		got[0].([]byte)[0] = 'x'
		got[1].(*Object).Set("k", nil)
		got[1].(*Object).Set("new", nil)
	}
	if got, want := describeValue(v), `[bytes 6162, {"k": [int 1]}]`; got != want {
		t.Errorf("after changing the copies the value is %s, want %s", got, want)
	}
}
