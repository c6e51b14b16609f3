package protocol_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

func TestDecodeResultTolerance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, doc string
		check     func(protocol.Result) bool
	}{
		{"compact and in any order", `{"task_id":"i","result":1.0,"status":"SUCCESS"}`, func(r protocol.Result) bool { return r.TaskID == "i" && r.Value == 1.0 && r.NoContext }},
		{"naive date (5.3)", `{"status": "SUCCESS", "result": 1, "date_done": "2026-01-02T03:04:05"}`, func(r protocol.Result) bool { return r.DateDone.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) }},
		{"nine digits and Z", `{"status": "SUCCESS", "result": 1, "date_done": "2026-01-02T03:04:05.123456789Z"}`, func(r protocol.Result) bool { return r.DateDone.Year() == 2026 }},
		{"date is a number", `{"status": "SUCCESS", "result": 1, "date_done": 5}`, func(r protocol.Result) bool { return r.DateDone.IsZero() }},
		{"message is a text", `{"status": "FAILURE", "result": {"exc_type": "V", "exc_message": "boom"}}`, func(r protocol.Result) bool { return r.Exception.Repr() == "V('boom')" && r.Exception.Module == "" }},
		{"message is null", `{"status": "FAILURE", "result": {"exc_type": "V", "exc_message": null, "exc_module": "m"}}`, func(r protocol.Result) bool { return r.Exception.Repr() == "V(None)" && r.Exception.Module == "m" }},
		{"message is missing", `{"status": "FAILURE", "result": {"exc_type": "V"}}`, func(r protocol.Result) bool { return r.Exception.Repr() == "V('')" }},
		{"failure without a result", `{"status": "FAILURE", "result": null}`, func(r protocol.Result) bool { return r.Exception == nil && r.Value == nil }},
		{"failure is a text", `{"status": "FAILURE", "result": "x"}`, func(r protocol.Result) bool { return r.Exception == nil && r.Value == "x" }},
		{"retry without a cause", `{"status": "RETRY", "result": null, "traceback": "T"}`, func(r protocol.Result) bool { return r.Exception == nil && r.Traceback == "T" }},
		{"success that looks like an exception", `{"status": "SUCCESS", "result": {"exc_type": "V"}}`, func(r protocol.Result) bool { return r.Exception == nil && r.Value != nil }},
		{"not a number, huge", `{"status": "SUCCESS", "result": [NaN, 123456789012345678901234567890]}`, func(r protocol.Result) bool { return r.Value != nil }},
		{"unknown task, extended", `{"status": "FAILURE", "result": null, "name": null, "args": null, "kwargs": null, "worker": null, "retries": null, "queue": null}`, func(r protocol.Result) bool { return r.Extended.Unknown }},
		{"unknown keys", `{"status": "X", "result": 1, "new": []}`, func(r protocol.Result) bool { return r.Status == "X" }},
	} {
		r, err := protocol.DecodeResult("json", []byte(tt.doc), protocol.Limits{})
		if err != nil || !tt.check(r) {
			t.Errorf("%s: %+v, %v", tt.name, r, err)
		}
	}
}

func TestDecodeResultRefuses(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		``, `null`, `[]`, `{}`, `{"status": "SUCCESS"}`, `{"result": 1}`, `{"status": 5, "result": 1}`, `{"status": "SUCCESS", "result": 1`,
		"\x00celery-compressed\x00", "\x00celery-compressed\x00application/x-gzip\x00junk", "\x00celery-compressed\x00nope\x00x",
		`{"status": "SUCCESS", "result": {"__type__": "nope", "__value__": 1}}`,
	} {
		r, err := protocol.DecodeResult("json", []byte(doc), protocol.Limits{})
		if part := (*protocol.DecodeError)(nil); !errors.As(err, &part) || !strings.HasPrefix(part.Part, "result") {
			t.Errorf("%q: %+v, %v", doc, r, err)
		}
	}
	if _, err := protocol.DecodeResult("pickle", []byte("\x80\x04N."), protocol.Limits{}); err == nil {
		t.Error("a pickle was read")
	}
}

func TestResultCannotBeEncoded(t *testing.T) {
	t.Parallel()
	for _, serializer := range []string{"json", "msgpack"} {
		_, err := protocol.Result{Status: protocol.Success, Value: protocol.Set{int64(1)}}.Encode(protocol.Encoding{Serializer: serializer})
		if e := (*protocol.EncodeError)(nil); !errors.As(err, &e) {
			t.Errorf("%s: a set gives %v, want an EncodeError", serializer, err)
		}
	}
	if _, err := (protocol.Result{Status: protocol.Success}).Encode(protocol.Encoding{Serializer: "pickle"}); err == nil {
		t.Error("a pickle was written")
	}
}

// Stamps cannot take the place of a field that readers need.
func TestResultStampsAreGuarded(t *testing.T) {
	t.Parallel()
	r := protocol.Result{TaskID: "i", Status: protocol.Success, Value: int64(1), Extended: &protocol.Extended{
		Name: "t", StampNames: []string{"status", "result", "mine"}, Stamps: object("status", "FAILURE", "result", nil, "mine", int64(2)),
	}}
	doc, err := r.Encode(protocol.Encoding{})
	if err != nil {
		t.Fatal(err)
	}
	back, err := protocol.DecodeResult("json", doc, protocol.Limits{})
	if err != nil || back.Status != protocol.Success || back.Value != int64(1) || kombu(t, back.Extended.Stamps) != `{"mine": 2}` {
		t.Errorf("%s reads as %+v, %v", doc, back, err)
	}
}

func TestUnknownTaskExtended(t *testing.T) {
	t.Parallel()
	r := protocol.Result{TaskID: "i", Status: protocol.Failure, Exception: protocol.NotRegistered("x"), Extended: &protocol.Extended{Unknown: true}}
	doc, err := r.Encode(protocol.Encoding{})
	const want = `"date_done": null, "name": null, "args": null, "kwargs": null, "worker": null, "retries": null, "queue": null, "task_id": "i"}`
	if err != nil || !strings.HasSuffix(string(doc), want) {
		t.Errorf("%s, %v", doc, err)
	}
}

// Whatever a Go program puts into its texts, its failure can be stored.
func TestFailuresCanAlwaysBeStored(t *testing.T) {
	t.Parallel()
	e := &protocol.Exception{
		Module: "m\xff", Type: "T\xff", Traceback: "File \xff",
		Args: []protocol.Value{"\xff", []byte("\xff"), protocol.Set{"x"}, struct{}{}, object("k", "\xff")},
	}
	for _, serializer := range []string{"json", "msgpack", "yaml"} {
		r := protocol.Result{TaskID: "i", Status: protocol.Failure, Exception: e, Extended: &protocol.Extended{Worker: "w\xff", Queue: "q\xff"}}
		doc, err := r.Encode(protocol.Encoding{Serializer: serializer})
		if err != nil {
			t.Errorf("%s: %v", serializer, err)
			continue
		}
		back, err := protocol.DecodeResult(serializer, doc, protocol.Limits{})
		if err != nil || back.Exception == nil || len(back.Exception.Args) != 5 {
			t.Errorf("%s: %q reads as %+v, %v", serializer, doc, back, err)
		}
	}
}
