package isolate

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

func sampleValues() []protocol.Value {
	offset := 19800
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	deep := protocol.Value("end")
	for range 500 {
		deep = []protocol.Value{deep}
	}
	return []protocol.Value{
		nil, true, false, int64(0), int64(math.MinInt64), int64(math.MaxInt64), huge, 0.0, math.Copysign(0, -1), math.Inf(1), 1e-300, "", "text", "\xed\xa0\x80",
		[]byte{},
		[]byte("bytes"), protocol.Decimal("NaN"),
		[]protocol.Value{},
		[]protocol.Value{int64(1), "x", nil},
		protocol.Set{"a", 1.5},
		protocol.ObjectOf(), protocol.ObjectOf(protocol.Member{Key: "k", Value: protocol.ObjectOf(protocol.Member{Key: "", Value: nil})}),
		protocol.DateTime{Time: time.Date(2026, 7, 1, 12, 0, 0, 999999000, time.UTC), Naive: true},
		protocol.DateTime{Time: time.Date(1, 1, 1, 0, 0, 0, 0, time.FixedZone("", -5*3600))},
		protocol.Date{Year: 9999, Month: 12, Day: 31},
		protocol.TimeOfDay{Hour: 23, Minute: 59, Second: 59, Microsecond: 999999},
		protocol.TimeOfDay{Offset: &offset},
		protocol.UUID{15: 255},
		deep,
	}
}

func TestValuesKeepTheirTypes(t *testing.T) {
	for _, v := range sampleValues() {
		b, err := appendValue(nil, v, 0)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		got, err := readValue(b)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		if protocol.TypeName(got) != protocol.TypeName(v) || protocol.PythonRepr(got) != protocol.PythonRepr(v) {
			t.Errorf("%s became %s", protocol.PythonRepr(v), protocol.PythonRepr(got))
		}
		if again, err := appendValue(nil, got, 0); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s is written differently the second time", protocol.PythonRepr(v))
		}
	}
	if _, err := appendValue(nil, make(chan int), 0); err == nil {
		t.Error("a channel was written")
	}
}

// FuzzValue: what comes out of a pipe never panics, and what it reads it writes the same way.
func FuzzValue(f *testing.F) {
	for _, v := range sampleValues() {
		b, _ := appendValue(nil, v, 0)
		f.Add(b)
	}
	f.Add([]byte{tagList, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := readValue(data)
		if err != nil {
			return
		}
		b, err := appendValue(nil, v, 0)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		again, err := readValue(b)
		if err != nil || protocol.PythonRepr(again) != protocol.PythonRepr(v) {
			t.Errorf("%q became %q (%v)", protocol.PythonRepr(v), protocol.PythonRepr(again), err)
		}
	})
}

func TestDamagedFrames(t *testing.T) {
	var b bytes.Buffer
	w := wire{w: &b}
	if err := w.send(frameCall, protocol.ObjectOf(protocol.Member{Key: "run", Value: int64(3)})); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	if f, err := receive(bufio.NewReader(bytes.NewReader(whole))); err != nil || f.kind != frameCall || number(f.body, "run") != 3 {
		t.Errorf("frame = %+v, %v", f, err)
	}
	for i := range whole {
		_, err := receive(bufio.NewReader(bytes.NewReader(whole[:i])))
		if err == nil || (err == io.EOF) != (i == 0) {
			t.Errorf("%d bytes of a frame: %v", i, err)
		}
	}
	if _, err := receive(bufio.NewReader(bytes.NewReader([]byte{255, 255, 255, 255, 1}))); err != errFrameSize {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
	if _, err := receive(bufio.NewReader(bytes.NewReader([]byte{0, 0, 0, 1, 1, tagNone}))); err != errDamaged {
		t.Errorf("a frame that is no object: %v", err)
	}
}
