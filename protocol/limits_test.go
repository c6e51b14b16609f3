package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func TestDepthIsBounded(t *testing.T) {
	t.Parallel()
	nest := func(open, end string, n int) []byte {
		return []byte(strings.Repeat(open, n) + "1" + strings.Repeat(end, n))
	}
	for _, tt := range []struct {
		name  string
		parse func([]byte, Limits) (Value, error)
		data  func(n int) []byte
	}{
		{"json lists", ParseJSON, func(n int) []byte { return nest("[", "]", n) }},
		{"json dicts", ParseJSON, func(n int) []byte { return nest(`{"a":`, "}", n) }},
		{"yaml", parseYAML, func(n int) []byte { return nest("[", "]", n) }},
		{"msgpack", parseMsgpack, func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 1) }},
	} {
		v, err := tt.parse(tt.data(DefaultDepth), Limits{})
		if err != nil {
			t.Errorf("%s: %d levels are refused: %v", tt.name, DefaultDepth, err)
		}
		for name, write := range map[string]func([]byte, Value) ([]byte, error){"json": AppendJSON, "msgpack": appendMsgpack, "yaml": appendYAML} {
			if _, err := write(nil, v); err != nil {
				t.Errorf("%s: %d levels are not written as %s: %v", tt.name, DefaultDepth, name, err)
			}
			if _, err := write(nil, []Value{v}); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: one level more is written as %s: %v", tt.name, name, err)
			}
		}
		for _, n := range []int{DefaultDepth + 1, 100_000} {
			if _, err := tt.parse(tt.data(n), Limits{}); err == nil || n == DefaultDepth+1 && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %d levels: %v, want ErrTooLarge", tt.name, n, err)
			}
		}
		if _, err := tt.parse(tt.data(3), Limits{Depth: 2}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: three levels of two: %v, want ErrTooLarge", tt.name, err)
		}
	}
}

func TestAliasBombIsBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	for i := 1; i < 10; i++ {
		prev := "*a" + string(rune('0'+i-1))
		b.WriteString("a" + string(rune('0'+i)) + ": &a" + string(rune('0'+i)) + " [" + strings.Repeat(prev+", ", 8) + prev + "]\n")
	}
	merge := "a0: &a0 {x0: 1, y0: 2}\n"
	for i := 1; i < 25; i++ {
		p, n := string(rune('a'+i-1)), string(rune('a'+i))
		if i == 1 {
			p = "a0"
		}
		merge += n + ": &" + n + " {<<: [*" + p + ", *" + p + "]}\n"
	}
	for _, doc := range []string{b.String(), merge, "&x [*x, *x]", "&x {<<: *x}"} {
		// A bound that does not hold shows by the time or memory that the test binary runs out of.
		if _, err := parseYAML([]byte(doc), Limits{}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%.60q: %v, want ErrTooLarge", doc, err)
		}
	}
}

func TestBombsInflateToTheLimitOnly(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	for _, c := range compressions {
		exact, _, err := Compress(c.contentType, make([]byte, limit))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := Decompress(c.contentType, exact, Limits{Inflated: limit}); err != nil || len(out) != limit {
			t.Errorf("%s: the limit itself gives %d bytes (%v)", c.contentType, len(out), err)
		}
		over, _, err := Compress(c.contentType, make([]byte, limit+1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decompress(c.contentType, over, Limits{Inflated: limit}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: one byte more gives %v, want ErrTooLarge", c.contentType, err)
		}
	}
	if _, err := Decompress("rot13", nil, Limits{}); err == nil {
		t.Error("an unknown codec is taken")
	}
}

func TestZstdFramesNameTheirSize(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 255, 256, 70000, 9 << 20} {
		out, _, err := Compress("zstd", make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		var h zstd.Header
		if err := h.Decode(out); err != nil || !h.HasFCS || h.FrameContentSize != uint64(n) {
			t.Errorf("%d bytes: header has size %v %d (%v)", n, h.HasFCS, h.FrameContentSize, err)
		}
	}
}

// A block header of xz may claim a dictionary of 4 GiB: nothing of it may be allocated.
func TestXZDictionaryClaimIsNotBelieved(t *testing.T) {
	t.Parallel()
	xz := func(dict byte, blocks int) []byte {
		b := append([]byte("\xfd7zXZ\x00\x00\x00"), 0, 0, 0, 0)
		binary.LittleEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[6:8]))
		for range blocks {
			h := []byte{2, 0, 0x21, 1, dict, 0, 0, 0}
			b = append(b, binary.LittleEndian.AppendUint32(h, crc32.ChecksumIEEE(h))...)
			b = append(b, 1, 0, 0, 'x', 0, 0, 0, 0) // an uncompressed chunk of one byte, the end, padding
		}
		return b
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Decompress("xz", xz(40, 1), Limits{})
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("4 GiB: %v, want ErrTooLarge", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<30 {
		t.Errorf("%d bytes were allocated", got)
	}
	if _, err := Decompress("xz", xz(28, 20), Limits{}); !errors.Is(err, ErrTooLarge) { // 64 MiB each
		t.Errorf("many blocks: %v, want ErrTooLarge", err)
	}
	if _, err := Decompress("xz", xz(0, 1), Limits{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a small one without an index: %v, want unexpected EOF", err)
	}
}

func TestEncodersRefuseWhatPythonRefuses(t *testing.T) {
	t.Parallel()
	huge := new(big.Int).Exp(big.NewInt(10), big.NewInt(4300), nil)
	for _, tt := range []struct {
		serializer string
		value      Value
		want       string
	}{
		{"json", Set{}, "protocol: Object of type set is not JSON serializable"},
		{"json", []Value{ObjectOf(Member{"a", 5})}, "protocol: [0].a: Object of type int is not JSON serializable"},
		{"json", "\xff", "protocol: text is not valid UTF-8"},
		{"json", []Value{"ok", "\xed\xa0"}, "protocol: [1]: text is not valid UTF-8"},
		{"json", huge, "protocol: Exceeds the limit (4300 digits) for integer string conversion"},
		{"json", new(big.Int).Neg(huge), "protocol: Exceeds the limit (4300 digits) for integer string conversion"},
		{"json", ObjectOf(Member{"__type__", "x"}, Member{"__value__", nil}), `protocol: a dict of just "__type__" and "__value__" is reserved: no reader would take it`},
		{"json", Date{2024, 2, 30}, "protocol: date 2024-2-30 is out of range"},
		{"json", DateTime{}, ""},
		{"msgpack", Date{2024, 1, 2}, "protocol: can not serialize 'date' object"},
		{"msgpack", huge, "protocol: Integer value out of range"},
		{"yaml", Decimal("1"), "protocol: ('cannot represent an object', Decimal('1'))"},
		{"yaml", Set{[]Value{}}, "protocol: [0]: unhashable type: 'list'"},
		{"pickle", nil, `protocol: serializer "pickle" is not written, choose json: content type is not accepted`},
		{"nope", nil, `protocol: no encoder for serializer "nope": content type is not accepted`},
	} {
		_, _, _, err := Serialize(tt.serializer, tt.value)
		if tt.want == "" && err == nil {
			continue
		}
		if _, ok := errors.AsType[*EncodeError](err); !ok || err.Error() != tt.want {
			t.Errorf("%s of %v: %v, want %s", tt.serializer, tt.value, err, tt.want)
		}
	}
	nines := new(big.Int).Sub(huge, big.NewInt(1))
	for _, n := range []*big.Int{nines, new(big.Int).Neg(nines)} {
		if _, err := AppendJSON(nil, n); err != nil {
			t.Errorf("4300 digits are refused: %v", err)
		}
	}
}

func TestContentTypesAreComparedExactly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		contentType string
		refused     bool
	}{
		{"application/json", false},
		{"json", false},
		{"application/x-msgpack", false},
		{"application/x-yaml", false},
		{"application/json; charset=utf-8", true},
		{"Application/JSON", true},
		{"application/x-python-serialize", true},
		{"pickle", true},
		{"text/plain", true},
	} {
		_, err := Deserialize(tt.contentType, []byte{'1'}, Limits{})
		if got := errors.Is(err, ErrRefusedContent); got != tt.refused {
			t.Errorf("%q: %v", tt.contentType, err)
		}
	}
	if v, err := Deserialize("application/data", []byte("x"), Limits{}); err != nil || describeValue(v) != "bytes 78" {
		t.Errorf("application/data is %v (%v), want its bytes", v, err)
	}
	if v, err := Deserialize("json", nil, Limits{}); err != nil || describeValue(v) != "bytes " {
		t.Errorf("nothing is %v (%v), want nothing", v, err)
	}
}

func TestFormatTimestamp(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("CET", 3600)
	for _, tt := range []struct {
		at   time.Time
		zone *time.Location
		want string
	}{
		{time.Date(2026, 11, 21, 6, 51, 42, 429996999, time.UTC), nil, "2026-11-21T06:51:42.429996+00:00"},
		{time.Date(2026, 11, 21, 6, 51, 42, 0, time.UTC), nil, "2026-11-21T06:51:42+00:00"},
		{time.Date(2026, 11, 21, 6, 51, 42, 500, time.UTC), nil, "2026-11-21T06:51:42+00:00"},
		{time.Date(2026, 11, 21, 6, 51, 42, 1000, time.UTC), berlin, "2026-11-21T07:51:42.000001+01:00"},
		{time.Date(26, 1, 2, 6, 1, 2, 0, time.UTC), time.FixedZone("", -34200), "0026-01-01T20:31:02-09:30"},
	} {
		if got := FormatTimestamp(tt.at, tt.zone); got != tt.want {
			t.Errorf("FormatTimestamp(%v) = %s, want %s", tt.at, got, tt.want)
		}
	}
}
