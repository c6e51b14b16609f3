package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// goldenEnvelopes are those that Celery wrote.
func goldenEnvelopes(tb testing.TB) [][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/golden/celery-*.json")
	if err != nil || len(files) == 0 {
		tb.Fatal("no golden files", err)
	}
	var all [][]byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		var golden struct{ Tasks, Refused, Retries []struct{ Envelope string } }
		if err := json.Unmarshal(data, &golden); err != nil {
			tb.Fatal(err)
		}
		for _, list := range [][]struct{ Envelope string }{golden.Tasks, golden.Refused, golden.Retries} {
			for _, entry := range list {
				all = append(all, []byte(entry.Envelope))
			}
		}
	}
	return all
}

// sameReadings compares what is read in the short way with what is read in the general one, and reports whether the
// envelope, and its body, were read in the short way at all.
func sameReadings(t *testing.T, raw []byte, l Limits) (envelope, body bool) {
	t.Helper()
	short, again, envelope := usualEnvelope(string(raw), l)
	m, redelivered, err := anyEnvelope(raw, l)
	switch {
	case err != nil && envelope:
		t.Fatalf("%s: read in the short way; in general: %v", raw, err)
	case err != nil:
		return false, false
	case bytes.Contains(raw, []byte("NaN")): // is never equal to itself
	case envelope && (redelivered != again || !reflect.DeepEqual(short, m)):
		t.Fatalf("%s:\nin the short way %+v\nin general       %+v", raw, short, m)
	}
	var quick, slow Task
	body = quick.usual(m.Body, l)
	v, err := Deserialize(jsonContent, m.Body, l)
	if err == nil {
		err = slow.fill(v)
	}
	_, hybrid := v.(*Object)
	switch {
	case !body && !reflect.DeepEqual(quick, Task{}):
		t.Fatalf("%q: changed the task, although it was not read: %+v", m.Body, quick)
	case body && (err != nil || hybrid):
		t.Fatalf("%q: read in the short way; in general: %v", m.Body, err)
	case body && !bytes.Contains(m.Body, []byte("NaN")) && !reflect.DeepEqual(quick, slow):
		t.Fatalf("%q:\nin the short way %+v\nin general       %+v", m.Body, quick, slow)
	}

	return envelope, body
}

func TestUsualReadings(t *testing.T) {
	all := goldenEnvelopes(t)
	envelopes, bodies := 0, 0
	for _, raw := range all {
		envelope, body := sameReadings(t, raw, Limits{})
		if envelope {
			envelopes++
		}
		if body {
			bodies++
		}
		for i := 1; i < 70; i += 3 { // each limit is met in the same place
			sameReadings(t, raw, Limits{Values: i})
		}
		for i := 1; i < 6; i++ {
			sameReadings(t, raw, Limits{Depth: i})
		}
	}
	if envelopes < len(all)*3/4 || bodies < len(all)/2 {
		t.Errorf("of %d recorded messages %d envelopes and %d bodies were read in the short way, want most", len(all), envelopes, bodies)
	}
}

// TestUnusualEnvelopes are each close to the usual one, and must be read as in general.
func TestUnusualEnvelopes(t *testing.T) {
	const head, tail = `{"body": "e30=", "headers": {"id": "1"}, "properties": {`, `"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "q"}, "body_encoding": "base64"}}`
	if envelope, _ := sameReadings(t, []byte(head+tail), Limits{}); !envelope {
		t.Fatal("the usual envelope was not read in the short way")
	}
	for _, raw := range []string{
		head + `"priority": null, ` + tail,
		head + `"priority": 1, "priority": null, ` + tail,
		head + `"priority": 1, "priority": "x", ` + tail,
		head + `"priority": "x", "priority": 1, ` + tail,
		head + `"priority": 3.0, "delivery_mode": 300, ` + tail,
		head + `"delivery_mode": null, ` + tail,
		head + `"reply_to": 5, ` + tail,
		head + `"reply_to": "a", "reply_to": null, ` + tail,
		head + `"x": 1, "y": [], "x": 2, ` + tail,
		head + `"timestamp": {"__type__": "datetime", "__value__": "2024-01-02T03:04:05"}, ` + tail,
		head + `"timestamp": 17, ` + tail,
		head + `"delivery_info": null, ` + tail,
		head + `"delivery_info": {"exchange": "", "routing_key": "other"}, ` + tail,
		head + `"delivery_tag": null, ` + tail,
		head + tail[:len(tail)-1] + `, "properties": {}}`,
		head + tail[:len(tail)-1] + `, "properties": {` + tail,
		head + tail[:len(tail)-1] + `, "headers": null}`,
		head + tail[:len(tail)-1] + `, "headers": {"__type__": "bytes", "__value__": ""}}`,
		head + tail[:len(tail)-1] + `, "body": "W10="}`,
		head + tail[:len(tail)-1] + `, "content-type": 7}`,
		head + tail[:len(tail)-1] + `,}`,
		head + tail + ` x`,
		head + tail + "\n",
		" " + head + tail,
		`{"body": "e3` + "\n" + `0=", "properties": {` + tail,
		`{"body": "e3\n0=", "properties": {` + tail,
		`{"body": "e3 0=", "properties": {` + tail,
		`{"body": "", "properties": {` + tail,
		`{"body": "e30=", "properties": {"body_encoding": "utf-8", ` + tail,
		`{"body": "e30=", "properties": {` + tail[:len(tail)-len(`, "body_encoding": "base64"}}`)] + `}}`,
		`{"body": "e30=", "properties": {"x": "` + "\xff" + `", ` + tail,
		`{"body": "` + "\xff" + `e30=", "properties": {` + tail,
		`{"properties": {` + tail[:len(tail)-1] + `, "body": "e30="}`,
	} {
		sameReadings(t, []byte(raw), Limits{})
	}
}

func FuzzUsualReadings(f *testing.F) {
	for _, raw := range goldenEnvelopes(f) {
		f.Add(raw, 0, 0)
	}
	f.Fuzz(func(t *testing.T, raw []byte, depth, values int) {
		sameReadings(t, raw, Limits{Depth: depth, Values: values})
	})
}

// TestUsualResults compares what is written in one go with what the tree of values gives.
func TestUsualResults(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 4567000, time.UTC)
	deep := Value(nil)
	for range DefaultDepth - 1 { // with the document just as deep as can be written
		deep = []Value{deep}
	}
	values := []Value{
		nil, int64(5), 2.5, "text", "\u00e4\n\"", "\xff",
		[]byte{1, 0xff},
		[]Value{},
		[]Value{int64(1), nil},
		&Object{},
		ObjectOf(Member{"a", "b"}), ObjectOf(Member{typeKey, "x"}, Member{valueKey, "y"}), ObjectOf(Member{"\xff", nil}),
		DateTime{Time: at},
		UUID{1},
		Decimal("1.10"),
		Set{int64(1)},
		17, deep,
		[]Value{deep},
		strings.Repeat("long ", 100),
	}
	results := []Result{
		{TaskID: "id", Status: Success, DateDone: at},
		{TaskID: "id", Status: Success},
		{TaskID: "i\xffd", Status: "OWN\n", DateDone: at},
		{TaskID: "id", Status: Success, DateDone: at, Children: []Value{[]Value{[]Value{"c", nil}, nil}}},
		{TaskID: "id", Status: Success, DateDone: at, Children: []Value{}},
		{TaskID: "id", Status: Success, DateDone: at, Children: []Value{}, NoContext: true},
		{TaskID: "id", Status: Success, DateDone: at, Children: []Value{deep}},
		{TaskID: "id", Status: Started, NoContext: true},
		{TaskID: "id", Status: Success, GroupID: "g", ParentID: "p\u00fc", DateDone: at.Add(time.Hour)},
		{TaskID: "id", Status: Success, Traceback: "lines\n\xff \xed\xa0\x80"},
		{TaskID: "id", Status: Retry, Exception: NewException("ValueError", "x")},
		{TaskID: "id", Status: Success, Extended: &Extended{Name: "n"}},
	}
	encodings := []Encoding{{}, {Serializer: "json", Zone: time.FixedZone("", -5400)}, {Serializer: "msgpack"}, {Compression: "zlib"}}
	usual := 0
	for _, r := range results {
		for _, v := range values {
			for _, e := range encodings {
				r.Value = v
				got, err := r.Encode(e)
				want, wantErr := e.stored(r.document(e))
				if !bytes.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Errorf("%+v in %+v:\ngot  %s, %v\nwant %s, %v", r, e, got, err, want, wantErr)
				}
				if _, ok := r.usual(e); ok {
					usual++
				}
			}
		}
	}
	if usual == 0 {
		t.Error("no result was written in one go")
	}
}
