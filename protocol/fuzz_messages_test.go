package protocol_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// named fails the test unless err, if there is one, says which part could not be read.
func named(t *testing.T, err error) {
	t.Helper()
	if part := (*protocol.DecodeError)(nil); err != nil && (!errors.As(err, &part) || part.Part == "") {
		t.Errorf("%v names no part", err)
	}
}

func FuzzDecodeEnvelope(f *testing.F) {
	for _, task := range newestGolden(f).Tasks {
		f.Add([]byte(task.Envelope))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, _, err := protocol.DecodeEnvelope(raw, protocol.Limits{})
		if err != nil {
			named(t, err)
			return
		}
		out, err := protocol.EncodeEnvelope(m, "tag")
		if err != nil {
			return // what JSON reads it does not always write: huge integers, say
		}
		again, redelivered, err := protocol.DecodeEnvelope(out, protocol.Limits{})
		if err != nil || redelivered {
			t.Fatalf("written again as %s: %v", out, err)
		}
		if second, err := protocol.EncodeEnvelope(again, "tag"); err != nil || !bytes.Equal(out, second) {
			t.Errorf("%s\nbecomes\n%s, %v", out, second, err)
		}
	})
}

func FuzzMarkRedelivered(f *testing.F) {
	for _, task := range newestGolden(f).Tasks {
		f.Add([]byte(task.Envelope))
	}
	f.Add([]byte(`{"headers": null, "properties":{"delivery_tag":"x", "delivery_info":{"exchange":null, "routing_key":"}"}, "n":1E400}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		marked, err := protocol.MarkRedelivered(raw)
		before, _, readable := protocol.DecodeEnvelope(raw, protocol.Limits{})
		if err != nil {
			named(t, err)
			if readable == nil {
				t.Fatalf("%q is an envelope, but could not be marked: %v", raw, err)
			}
			return
		}
		if twice, err := protocol.MarkRedelivered(marked); err != nil || !bytes.Equal(twice, marked) {
			t.Fatalf("marked twice: %q, %v, want %q", twice, err, marked)
		}
		if readable != nil {
			return
		}
		after, redelivered, err := protocol.DecodeEnvelope(marked, protocol.Limits{})
		if err != nil || !redelivered {
			t.Fatalf("%q is redelivered %v, %v", marked, redelivered, err)
		}
		if flag, _ := after.Headers.Get("redelivered"); flag != true {
			t.Fatalf("%q: the header is %v", marked, flag)
		}
		// But for the header nothing has changed.
		after.Headers.Delete("redelivered")
		if before.Headers != nil {
			before.Headers = before.Headers.Clone()
			before.Headers.Delete("redelivered")
		}
		x, errX := protocol.EncodeEnvelope(before, "tag")
		y, errY := protocol.EncodeEnvelope(after, "tag")
		if (errX == nil) != (errY == nil) || !bytes.Equal(x, y) {
			t.Errorf("%s\nbecame\n%s", x, y)
		}
	})
}

func FuzzDecodeTask(f *testing.F) {
	g := newestGolden(f)
	envelopes := []string{}
	for _, task := range g.Tasks {
		envelopes = append(envelopes, task.Envelope)
	}
	for _, r := range g.Refused {
		envelopes = append(envelopes, r.Envelope)
	}
	for _, envelope := range envelopes {
		m := decodeEnvelope(f, envelope)
		f.Add(kombu(f, m.Headers.Clone()), m.Properties.ContentType, m.Body)
	}
	limits := protocol.Limits{Inflated: 1 << 20}
	f.Fuzz(func(t *testing.T, headers, content string, body []byte) {
		v, err := protocol.ParseJSON([]byte(headers), limits)
		h, ok := v.(*protocol.Object)
		if err != nil || !ok {
			return
		}
		m := protocol.Message{Headers: h, Body: body, Properties: protocol.Properties{ContentType: content}}
		task, err := protocol.DecodeTask(m, protocol.DecodeOptions{Accept: all.Accept, Limits: limits})
		if err != nil {
			named(t, err)
			if task != nil && task.ID == "" {
				t.Error("a Task without an id beside the error")
			}
			return
		}
		if task == nil || task.ID == "" || task.Name == "" || task.Args == nil || task.Kwargs == nil {
			t.Fatalf("decoded without an error: %+v", task)
		}
		_ = task.Display()
		// What decodes can be retried, and the retry says the same.
		next := task.Retried(time.Unix(1700000000, 0), true)
		sent, err := next.Encode(protocol.Encoding{}, time.Unix(1600000000, 0))
		if err != nil {
			return // yaml and msgpack hold what JSON cannot
		}
		back, err := protocol.DecodeTask(sent, protocol.DecodeOptions{Limits: protocol.Limits{Inflated: 1 << 20, Depth: 500}})
		if err != nil {
			t.Fatalf("the retry cannot be read: %v\n%s", err, sent.Body)
		}
		if back.ID != task.ID || back.Name != task.Name || back.Retries != next.Retries || back.Group != task.Group || len(back.Args) != len(task.Args) {
			t.Errorf("retried %+v, read back %+v", next, back)
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	for _, r := range newestGolden(f).Results {
		f.Add(r.Serializer, r.Data)
	}
	limits := protocol.Limits{Inflated: 1 << 20}
	f.Fuzz(func(t *testing.T, serializer string, data []byte) {
		r, err := protocol.DecodeResult(serializer, data, limits)
		if err != nil {
			named(t, err)
			return
		}
		if r.Exception != nil {
			_, _ = r.Exception.Error(), r.Exception.Repr()
		}
		out, err := r.Encode(protocol.Encoding{})
		if err != nil {
			return // yaml and msgpack hold what JSON cannot
		}
		again, err := protocol.DecodeResult("json", out, protocol.Limits{Depth: 500})
		if err != nil || again.Status != r.Status || again.TaskID != r.TaskID || (again.Exception == nil) != (r.Exception == nil) {
			t.Errorf("%s reads as %+v, %v, want %+v", out, again, err, r)
		}
	})
}
