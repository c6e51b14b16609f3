package protocol

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// goldenValues is testdata/golden/values.json: what Python reads and writes (pyfixtures/values.py).
type goldenValues struct {
	JSON []struct {
		In    []byte
		Out   *string // as describeValue puts it; nil when Python refuses
		Dumps *string // what json.dumps makes of it
		Error string
	}
	Floats     [][2]string
	Decimals   []goldenText
	Timestamps []goldenText
	YAML       []goldenText
	Written    []goldenText `json:"yaml_written"`
	Msgpack    []struct {
		Data    []byte // zlib
		Out     *string
		CRC     *uint32 // of Out, where it is long
		Written bool    // Python wrote it
	}
	Refused []struct{ Value, Error string } `json:"msgpack_refused"`

	Compression []struct {
		Alias       string
		ContentType string `json:"content_type"`
		Data        []byte
		CRC         uint32
		Len         int
		Error       string
	}
	Reprs []struct {
		JSON, YAML, Repr string
		Args             string
	}
}

type goldenText struct {
	In  string
	Out *string
}

func readValues(t testing.TB) (g goldenValues) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden/values.json")
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// describeValue is describe of pyfixtures/values.py.
func describeValue(v Value) string {
	text := func(s string) string {
		b, err := appendJSONString(nil, s)
		if err != nil {
			return fmt.Sprintf("INVALID %q", s)
		}
		return string(b)
	}
	list := func(l []Value) []string {
		out := make([]string, len(l))
		for i, e := range l {
			out[i] = describeValue(e)
		}
		return out
	}
	switch v := v.(type) {
	case nil, bool:
		return scalarOrNone(v)
	case int64, *big.Int:
		return fmt.Sprint("int ", v)
	case float64:
		if v != v {
			return "float nan"
		}
		return "float " + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, math.Float64bits(v)))
	case string:
		return "str " + text(v)
	case []byte:
		return "bytes " + hex.EncodeToString(v)
	case []Value:
		return "[" + strings.Join(list(v), ", ") + "]"
	case *Object:
		var members []string
		for _, m := range v.Members() {
			members = append(members, text(m.Key)+": "+describeValue(m.Value))
		}
		return "{" + strings.Join(members, ", ") + "}"
	case Set:
		l := list(v)
		slices.Sort(l)
		for i := range l {
			l[i] = "'" + l[i] + "'"
		}
		return "set [" + strings.Join(l, ", ") + "]"
	case DateTime:
		return "datetime " + string(appendISO(nil, v, 'T'))
	case Date:
		return "date " + string(appendISODate(nil, v))
	case TimeOfDay:
		return "time " + string(appendISOTime(nil, v))
	case Decimal:
		return "Decimal " + string(v)
	case UUID:
		return "UUID " + v.String()
	}
	return fmt.Sprintf("NO VALUE %T", v)
}

func scalarOrNone(v Value) string {
	if v == nil {
		return "None"
	}
	return scalarRepr(v)
}

// checkGolden compares a reading with Python's; want nil means Python refuses.
func checkGolden(t *testing.T, in string, want *string, got Value, err error) {
	t.Helper()
	switch {
	case want == nil && err == nil:
		t.Errorf("%.200q is read as %.200s, Python refuses it", in, describeValue(got))
	case want != nil && err != nil:
		t.Errorf("%.200q is refused: %v; Python reads %.200s", in, err, *want)
	case err == nil && describeValue(got) != *want:
		t.Errorf("%.200q is read as\n%.300s, Python reads\n%.300s", in, describeValue(got), *want)
	case err != nil:
		if _, ok := errors.AsType[*DecodeError](err); !ok {
			t.Errorf("%.200q: error %v is a %T, want *DecodeError", in, err, err)
		}
	}
}

// widerJSON are texts that some Python, but not the recorded one, reads.
var widerJSON = map[string]bool{
	`{"__type__": "datetime", "__value__": "2024-01-02T03:04:05+01:02:03"}`: true,
}

func TestJSONIsReadAndWrittenAsByPython(t *testing.T) {
	t.Parallel()
	for _, c := range readValues(t).JSON {
		v, err := ParseJSON(c.In, Limits{})
		if !widerJSON[string(c.In)] {
			checkGolden(t, string(c.In), c.Out, v, err)
		}
		if err != nil || c.Dumps == nil {
			continue
		}
		if got, err := AppendJSON(nil, v); err != nil || string(got) != *c.Dumps {
			t.Errorf("%.200q is written as\n%.200s (%v), Python writes\n%.200s", c.In, got, err, *c.Dumps)
		}
	}
}

func TestFloatsArePrintedAsByPython(t *testing.T) {
	t.Parallel()
	for _, c := range readValues(t).Floats {
		b, _ := hex.DecodeString(c[0])
		f := math.Float64frombits(binary.BigEndian.Uint64(b))
		if got := floatRepr(f); got != c[1] {
			t.Errorf("repr(%x) = %s, Python prints %s", b, got, c[1])
		}
	}
}

func TestDecimalsAreReadAsByPython(t *testing.T) {
	t.Parallel()
	for _, c := range readValues(t).Decimals {
		got, err := ParseDecimal(c.In)
		if (err != nil) != (c.Out == nil) || err == nil && string(got) != *c.Out {
			t.Errorf("Decimal(%q) = %q (%v), Python %v", c.In, got, err, text(c.Out))
		}
	}
}

func text(s *string) string {
	if s == nil {
		return "refuses"
	}
	return *s
}

func TestTimestampsAreReadAsByCelery(t *testing.T) {
	t.Parallel()
	for _, c := range readValues(t).Timestamps {
		got, err := ParseTimestamp(c.In)
		if c.Out == nil {
			if err == nil && !widerTimestamp[c.In] {
				t.Errorf("%q is read as %v, Celery refuses it", c.In, got)
			}
			continue
		}
		if narrowerTimestamp[c.In] {
			if err == nil {
				t.Errorf("%q is read as %v now; take it from the list", c.In, got)
			}
			continue
		}
		want, perr := time.Parse(time.RFC3339Nano, *c.Out)
		if perr != nil {
			t.Fatal(perr)
		}
		if err != nil || !got.Equal(want) {
			t.Errorf("%q is read as %v (%v), Celery reads %v", c.In, got, err, *c.Out)
		}
		if s := string(appendISO(nil, DateTime{Time: got}, 'T')); s != *c.Out {
			t.Errorf("%q is written as %s, Python writes %s", c.In, s, *c.Out)
		}
	}
}

// widerTimestamp is read here and by no Python, narrower by accident of dateutil's and not here.
var (
	widerTimestamp    = map[string]bool{"2020-01T10:00": true, "2020T10": true}
	narrowerTimestamp = map[string]bool{"2020-01-01T00:0": true, "2020-01-01T000": true, "2020-01-01T00:00:00+05:3": true}
)

func TestYAMLIsReadAsByPython(t *testing.T) {
	t.Parallel()
	g := readValues(t)
	for _, c := range g.YAML {
		if c.In == "" {
			continue // Kombu does not decode nothing
		}
		v, err := parseYAML([]byte(c.In), Limits{})
		if c.In == `"\ude00"` && err != nil {
			continue // a lone surrogate, which the parser refuses
		}
		checkGolden(t, c.In, c.Out, v, err)
	}
	for _, c := range g.Written {
		v, err := parseYAML([]byte(c.In), Limits{})
		checkGolden(t, c.In, c.Out, v, err)
		if got, err := appendYAML(nil, v); err != nil || string(got) != c.In+"\n" {
			t.Errorf("%.300s\nis written as\n%.300s (%v)", c.In, got, err)
		}
	}
}

func TestMsgpackIsReadAndWrittenAsByPython(t *testing.T) {
	t.Parallel()
	g := readValues(t)
	for _, c := range g.Msgpack {
		r, err := zlib.NewReader(bytes.NewReader(c.Data))
		if err != nil {
			t.Fatal(err)
		}
		packed, _ := io.ReadAll(r)
		v, err := parseMsgpack(packed, Limits{})
		if c.CRC != nil {
			if err != nil || crc32.ChecksumIEEE([]byte(describeValue(v))) != *c.CRC {
				t.Errorf("%.20x: something else is read (%v)", packed, err)
			}
		} else if unknown := hex.EncodeToString(packed) == "d60100000000"; len(packed) > 0 && !(unknown && err != nil) { // ExtType has no Value
			checkGolden(t, hex.EncodeToString(packed), c.Out, v, err)
		}
		if !c.Written {
			continue
		}
		if got, err := appendMsgpack(nil, v); err != nil || !bytes.Equal(got, packed) {
			t.Errorf("%.20x is written as %.20x (%v)", packed, got, err)
		}
	}
	for _, c := range g.Refused {
		v, err := ParseJSON([]byte(c.Value), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = appendMsgpack(nil, v)
		if _, ok := errors.AsType[*EncodeError](err); !ok {
			t.Errorf("%s is written (%v), Python: %s", c.Value, err, c.Error)
		}
	}
}

func TestCompressionsAreReadAsByPython(t *testing.T) {
	t.Parallel()
	for _, c := range readValues(t).Compression {
		out, err := Decompress(c.Alias, c.Data, Limits{})
		switch {
		case (err != nil) != (c.Error != ""):
			t.Errorf("%s %.20x: %v, Python: %q", c.Alias, c.Data, err, c.Error)
		case err == nil && (len(out) != c.Len || crc32.ChecksumIEEE(out) != c.CRC):
			t.Errorf("%s %.20x: %d other bytes, want %d", c.Alias, c.Data, len(out), c.Len)
		}
		if err != nil {
			continue
		}
		again, contentType, err := Compress(c.Alias, out)
		if err != nil || contentType != c.ContentType {
			t.Errorf("Compress(%s) = %s (%v), want %s", c.Alias, contentType, err, c.ContentType)
		}
		if back, err := Decompress(contentType, again, Limits{}); err != nil || !bytes.Equal(back, out) {
			t.Errorf("%s: what Compress wrote is read as %d bytes (%v)", c.Alias, len(back), err)
		}
	}
}

func TestReprIsSaferepr(t *testing.T) {
	t.Parallel()
	for _, c := range readValues(t).Reprs {
		var v Value
		var err error
		if c.YAML != "" {
			v, err = parseYAML([]byte(c.YAML), Limits{})
		} else {
			v, err = ParseJSON([]byte(c.JSON), Limits{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := Repr(v); got != c.Repr {
			t.Errorf("Repr(%.100s)\n%s\nPython\n%s", c.JSON, got, c.Repr)
		}
		if l, ok := v.([]Value); ok && c.Args != "" {
			if got := ReprArgs(l); got != c.Args {
				t.Errorf("ReprArgs(%.100s)\n%s\nPython\n%s", c.JSON, got, c.Args)
			}
		}
	}
}
