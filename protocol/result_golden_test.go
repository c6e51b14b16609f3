package protocol_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

func TestGoldenResultsReadAndWrittenAgain(t *testing.T) {
	t.Parallel()
	goldens(t, func(t *testing.T, version string, g golden) {
		for _, want := range g.Results {
			r, err := protocol.DecodeResult(want.Serializer, want.Data, protocol.Limits{})
			if err != nil {
				t.Errorf("%s: %v", want.Name, err)
				continue
			}
			if string(r.Status) != want.State || r.Traceback != want.Traceback {
				t.Errorf("%s: state %q traceback %q, want %q %q", want.Name, r.Status, r.Traceback, want.State, want.Traceback)
			}
			switch {
			case want.Exception != nil:
				sameException(t, want, r.Exception)
			case want.Value != nil && want.Serializer == "json":
				if got := kombu(t, r.Value); got != *want.Value {
					t.Errorf("%s: value is %s, want %s", want.Name, got, *want.Value)
				}
			}
			if got, done := r.DateDone, r.Status.Ready(); got.IsZero() == done || done && !got.Equal(g.Now) {
				t.Errorf("%s: done at %v, want %v", want.Name, got, g.Now)
			}

			zoneName, data := want.Zone, want.Data
			if version < "5.5" { // in UTC whatever the app's timezone, and in 5.3 without saying so
				zoneName = "UTC"
				naive := []byte(g.Now.UTC().Format("2006-01-02T15:04:05.000000"))
				if version < "5.4" {
					data = bytes.Replace(data, naive, append(naive, "+00:00"...), 1)
				}
			}
			again, err := r.Encode(protocol.Encoding{Serializer: want.Serializer, Compression: want.Compression, Zone: zone(t, zoneName)})
			if err != nil {
				t.Errorf("%s: Encode: %v", want.Name, err)
				continue
			}
			if want.Compression != "" { // other libraries, other bytes
				if back, err := protocol.DecodeResult(want.Serializer, again, protocol.Limits{}); err != nil || kombu(t, back.Value) != kombu(t, r.Value) {
					t.Errorf("%s: ours reads as %v, %v", want.Name, back.Value, err)
				}
				head := []byte(nil)
				if i := strings.Index(string(want.Data[1:]), "\x00application"); i > 0 {
					head = want.Data[:i+12]
				}
				if len(head) == 0 || !strings.HasPrefix(string(again), string(head)) {
					t.Errorf("%s: begins with %q, want %q", want.Name, again[:40], head)
				}
				continue
			}
			if version != newest {
				data = bytes.Replace(data, []byte(`"undeclared": 1, `), nil, 1)
			}
			if want.Serializer == "yaml" || want.Serializer == "msgpack" && version < "5.4" {
				// yaml is written in the flow form, which is JSON's; the naive date is shorter. What they say is the same.
				back, err := protocol.DecodeResult(want.Serializer, again, protocol.Limits{})
				if diff := cmp.Diff(r, back, cmp.AllowUnexported(protocol.Object{})); err != nil || diff != "" {
					t.Errorf("%s: ours reads differently: %v (-Celery +ours):\n%s", want.Name, err, diff)
				}
				continue
			}
			if diff := cmp.Diff(string(data), string(again)); diff != "" {
				t.Errorf("%s (-Celery +ours):\n%s", want.Name, diff)
			}
		}
	})
}

func sameException(t *testing.T, want goldenResult, got *protocol.Exception) {
	t.Helper()
	if got == nil {
		t.Errorf("%s: no exception", want.Name)
		return
	}
	w := want.Exception
	if got.Type != w.Type || got.Module != w.Module {
		t.Errorf("%s: %s.%s, want %s.%s", want.Name, got.Module, got.Type, w.Module, w.Type)
	}
	if w.Args == nil || want.Serializer != "json" || w.Type == "EncodeError" {
		return // args that came back as their repr
	}
	if a := kombu(t, got.Args); a != *w.Args {
		t.Errorf("%s: args %s, want %s", want.Name, a, *w.Args)
	}
	if w.Type != "NotRegistered" && got.Repr() != w.Repr { // its repr is a sentence; events carry the plain form
		t.Errorf("%s: Repr() is %s, want %s", want.Name, got.Repr(), w.Repr)
	}
	text := w.Type + ": " + w.Str
	switch {
	case w.Str == "":
		text = w.Type
	case strings.HasSuffix(w.Str, ": '/x'"): // the file name is no argument and does not travel
		text = strings.TrimSuffix(text, ": '/x'")
	}
	if got.Error() != text {
		t.Errorf("%s: Error() is %q, want %q", want.Name, got.Error(), text)
	}
}

// The documents the worker makes itself, against what Celery stored for the same.
func TestGoldenResultsMadeHere(t *testing.T) {
	t.Parallel()
	g := newestGolden(t)
	const traceback = "Traceback (most recent call last):\n  File \"/x.py\", line 1, in f\nValueError: boom\n"
	extended := &protocol.Extended{
		Name: "proj.add", Args: []protocol.Value{int64(1), "é"}, Kwargs: protocol.ObjectOf(protocol.Member{Key: "k", Value: 2.0}),
		Worker: "w1@vm", Retries: 2, Queue: "celery",
	}
	stamped := *extended
	stamped.StampNames = []string{"l", "foo"}
	stamped.Stamps = protocol.ObjectOf(protocol.Member{Key: "l", Value: []protocol.Value{int64(1), int64(2)}},
		protocol.Member{Key: "foo", Value: "bar"}, protocol.Member{Key: "undeclared", Value: int64(1)})
	failed := func(e *protocol.Exception) protocol.Result {
		return protocol.Result{Status: protocol.Failure, Exception: e, Traceback: traceback}
	}
	revoked := func(reason string) protocol.Result {
		return protocol.Result{Status: protocol.Revoked, Exception: protocol.TaskRevoked(reason)}
	}
	noContext := revoked("revoked")
	noContext.NoContext = true
	made := map[string]protocol.Result{
		"success":                  {Status: protocol.Success, Value: int64(3)},
		"in a group with a parent": {Status: protocol.Success, Value: int64(1), GroupID: "gid", ParentID: "pid"},
		"retry without a cause":    {Status: protocol.Retry, Traceback: "Traceback\n"},
		"progress": {Status: protocol.Progress, Value: protocol.ObjectOf(
			protocol.Member{Key: "done", Value: int64(1)}, protocol.Member{Key: "total", Value: int64(5)})},
		"without a request":                              noContext,
		"revoked":                                        revoked("revoked"),
		"expired":                                        revoked("expired"),
		"terminated":                                     revoked("terminated"),
		"failure ValueError('boom', 42)":                 failed(protocol.NewException("ValueError", "boom", 42)),
		"failure RuntimeError()":                         failed(protocol.NewException("RuntimeError")),
		"failure SoftTimeLimitExceeded()":                failed(protocol.SoftTimeLimitExceeded()),
		"failure TimeLimitExceeded(1)":                   failed(protocol.TimeLimitExceeded(int64(1))),
		"failure TimeLimitExceeded(2.5)":                 failed(protocol.TimeLimitExceeded(2.5)),
		"failure WorkerLostError('gone')":                failed(protocol.WorkerLost("gone")),
		"failure InvalidTaskError('bad')":                failed(protocol.InvalidTask("bad")),
		"failure reject requeue=False: no":               failed(protocol.Reject("no", false)),
		"failure reject requeue=True: None":              failed(protocol.Reject(nil, true)),
		"failure with a set":                             failed(&protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{protocol.Set{int64(1)}, "x"}}),
		"extended":                                       {Status: protocol.Success, Value: int64(6), Extended: extended},
		"extended and stamped":                           {Status: protocol.Success, Value: int64(6), Extended: &stamped},
		`failure MaxRetriesExceededError("Can't retry")`: failed(protocol.MaxRetriesExceeded("Can't retry")),
		"failure EncodeError(TypeError('Object of type set is not JSON serializable'))":     failed(encodeErr(t)),
		"failure Task of kind 'nosuch.h' never registered, please make sure it's imported.": failed(protocol.NotRegistered("nosuch.h")),
	}
	seen := 0
	for _, want := range g.Results {
		r, ok := made[want.Name]
		if !ok {
			continue
		}
		seen++
		r.TaskID = "7a2131ab-f5d6-4ad7-9e25-30b7ee104d56"
		if r.Status.Ready() {
			r.DateDone = g.Now
		}
		got, err := r.Encode(protocol.Encoding{})
		if err != nil {
			t.Errorf("%s: %v", want.Name, err)
		}
		if diff := cmp.Diff(string(want.Data), string(got)); diff != "" {
			t.Errorf("%s (-Celery +ours):\n%s", want.Name, diff)
		}
	}
	if seen != len(made) {
		t.Errorf("%d of %d documents are in the golden file", seen, len(made))
	}
}

// encodeErr is what a worker makes of a result that cannot be written.
func encodeErr(t *testing.T) *protocol.Exception {
	t.Helper()
	_, err := protocol.Result{TaskID: "x", Status: protocol.Success, Value: protocol.Set{}}.Encode(protocol.Encoding{})
	if err == nil {
		t.Fatal("a set was written as JSON")
	}
	return protocol.EncodeErr(err)
}
