package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

func TestGoldenEnvelopesRoundTrip(t *testing.T) {
	t.Parallel()
	goldens(t, func(t *testing.T, version string, g golden) {
		for _, task := range g.Tasks {
			m := decodeEnvelope(t, task.Envelope)
			if !bytes.Equal(m.Body, task.Body) {
				t.Errorf("%s: body is %q, want %q", task.Name, m.Body, task.Body)
			}
			if diff := cmp.Diff(task.Envelope, seal(t, m, task.Envelope)); diff != "" {
				t.Errorf("%s: written again (-Celery +ours):\n%s", task.Name, diff)
			}
		}
	})
}

// The same call on AMQP and on Redis gives the same properties, but for the priority that the virtual
// transports make up.
func TestGoldenPropertiesAreThoseOfAMQP(t *testing.T) {
	t.Parallel()
	goldens(t, func(t *testing.T, version string, g golden) {
		for _, task := range g.Tasks {
			p := decodeEnvelope(t, task.Envelope).Properties
			got := map[string]any{
				"content_type": p.ContentType, "content_encoding": p.ContentEncoding, "correlation_id": p.CorrelationID,
				"reply_to": p.ReplyTo, "delivery_mode": float64(p.DeliveryMode), "expiration": p.Expiration,
			}
			if p.Priority != nil && task.AMQP.Properties["priority"] != nil {
				got["priority"] = float64(*p.Priority)
			}
			for key, v := range got {
				if v == "" || v == 0.0 && key == "delivery_mode" {
					delete(got, key)
				}
			}
			for key, v := range task.AMQP.Properties {
				if v == nil || key == "argsrepr" || key == "kwargsrepr" { // options Celery's publisher does not know
					delete(task.AMQP.Properties, key)
				}
			}
			if diff := cmp.Diff(task.AMQP.Properties, got); diff != "" {
				t.Errorf("%s: properties (-AMQP +Redis):\n%s", task.Name, diff)
			}
			if got := kombu(t, decodeEnvelope(t, task.Envelope).Headers); got != task.AMQP.Headers {
				t.Errorf("%s: headers are\n%s\nwant\n%s", task.Name, got, task.AMQP.Headers)
			}
		}
	})
}

func TestGoldenTasksReadAsCeleryReadsThem(t *testing.T) {
	t.Parallel()
	goldens(t, func(t *testing.T, version string, g golden) {
		for _, task := range g.Tasks {
			got, err := protocol.DecodeTask(decodeEnvelope(t, task.Envelope), all)
			if err != nil {
				t.Errorf("%s: %v", task.Name, err)
				continue
			}
			want := task.Reading
			// For the hybrid form Celery makes a custom header of a key no producer has written since 3.0.
			want.Custom = strings.Replace(strings.Replace(want.Custom, `"meth": null, `, "", 1), `"meth": null`, "", 1)
			switch task.Name {
			case "lone surrogate": // encoding/json, which reads the recording, cannot hold one
				want.ArgsRepr = got.ArgsRepr
			case "limits are no custom headers": // they were up to 5.6
				want.Custom = `{"mine": 1}`
			case "args is a text":
				chars := `["a", "\u00e9"]` // Python's *args
				want.Args = &chars
			case "stamp not declared":
				want.Stamps = `{"a": 1}` // what 5.7 copies on; it drops the rest later than we do
			}
			if diff := cmp.Diff(normal(want), readingOf(t, got, want)); diff != "" {
				t.Errorf("%s (-Celery +ours):\n%s", task.Name, diff)
			}
		}
	})
}

// normal is r with the many ways to say nothing made one.
func normal(r reading) reading {
	if string(r.StampNames) == "null" {
		r.StampNames = nil
	}
	for _, text := range []*string{&r.Callbacks, &r.Errbacks, &r.Chain, &r.Chord} {
		if *text == "[]" {
			*text = "null"
		}
	}
	r.DeliveryInfo.Redelivered = false // not a property of the Task
	for _, at := range []**time.Time{&r.ETA, &r.Expires} {
		if *at != nil {
			utc := (**at).UTC()
			*at = &utc
		}
	}
	return r
}

// readingOf is our understanding in the form of Celery's; want is asked only for what it leaves out.
func readingOf(t *testing.T, task *protocol.Task, want reading) reading {
	t.Helper()
	r := reading{
		Name: task.Name, Display: task.Display(), ID: task.ID, RootID: task.RootID, ParentID: task.ParentID,
		Group: task.Group, Retries: task.Retries, ExpiresText: task.ExpiresText,
		Hard: task.HardLimit.Seconds(), Soft: task.SoftLimit.Seconds(), IgnoreResult: task.IgnoreResult,
		Nesting: task.Nesting, Stamps: kombu(t, task.Stamps.Clone()), ArgsRepr: task.ArgsRepr, KwargsRepr: task.KwargsRepr,
		Origin: task.Origin, Custom: kombu(t, task.Custom), Callbacks: kombuList(t, task.Callbacks),
		Errbacks: kombuList(t, task.Errbacks), Chain: kombuList(t, task.Chain), Chord: kombu(t, task.Chord),
		CorrelationID: task.CorrelationID, ReplyTo: task.ReplyTo,
	}
	if want.Args != nil {
		args, kwargs := kombu(t, task.Args), kombu(t, task.Kwargs)
		r.Args, r.Kwargs = &args, &kwargs
	}
	if i, ok := task.GroupIndex.(int64); ok {
		r.GroupIndex = &i
	}
	if !task.ETA.IsZero() {
		at := task.ETA.UTC()
		r.ETA = &at
	}
	if !task.Expires.IsZero() {
		at := task.Expires.UTC()
		r.Expires = &at
	}
	if task.StampNames != nil {
		names, err := json.Marshal(task.StampNames)
		if err != nil {
			t.Fatal(err)
		}
		r.StampNames = names
		// The recording is indented.
		var a, b any
		if json.Unmarshal(names, &a) == nil && json.Unmarshal(want.StampNames, &b) == nil && cmp.Equal(a, b) {
			r.StampNames = want.StampNames
		}
	}
	r.DeliveryInfo.Exchange, r.DeliveryInfo.RoutingKey = task.Exchange, task.RoutingKey
	r.DeliveryInfo.Priority = task.Priority
	// v1 messages without args get their reprs made; ours are made when they are sent on.
	if task.Protocol == 1 && task.ArgsRepr == "" {
		r.ArgsRepr, r.KwargsRepr = want.ArgsRepr, want.KwargsRepr
	}
	return normal(r)
}

// What Celery sends, read and written again, is the same bytes.
func TestGoldenTasksWrittenAgain(t *testing.T) {
	t.Parallel()
	goldens(t, func(t *testing.T, version string, g golden) {
		written := 0
		for _, task := range g.Tasks {
			m := decodeEnvelope(t, task.Envelope)
			if lang, _ := m.Headers.Get("lang"); lang != "py" {
				continue // not written by Celery as protocol 2
			}
			decoded, err := protocol.DecodeTask(m, all)
			if err != nil {
				t.Errorf("%s: %v", task.Name, err)
				continue
			}
			want := task.Envelope
			switch task.Name {
			case "naive eta": // read as UTC, written as what it was read as
				want = strings.Replace(want, `"eta": "2026-11-21T13:00:00.000005"`, `"eta": "2026-11-21T13:00:00.000005+00:00"`, 1)
			case "own repr": // Celery's publisher leaks options it does not know into the properties
				want = strings.Replace(want, `"argsrepr": "(secret)", "kwargsrepr": "{secret}", "delivery_mode"`, `"delivery_mode"`, 1)
			case "nested headers table": // the table alone is the custom set
				want = strings.Replace(want, `"a": 1, "headers": {"sentry-trace": "x", "baggage": ""}`, `"sentry-trace": "x", "baggage": ""`, 1)
			case "limits are no custom headers":
				if strings.HasPrefix(version, "5.7") {
					want = strings.Replace(want, `"time_limit": 5, "soft_time_limit": 4, `, "", 1)
				} else {
					continue // custom in 5.6, an attribute of the request since 5.7
				}
			}
			again, err := decoded.Encode(protocol.Encoding{
				Serializer: task.Serializer, Compression: task.Compression, Zone: zone(t, task.Zone),
			}, g.Now)
			if err != nil {
				t.Errorf("%s: Encode: %v", task.Name, err)
				continue
			}
			if task.Serializer == "yaml" { // the flow form, which is JSON's: other bytes, the same meaning
				sameYAML(t, task.Name, task.Body, again.Body)
				want = withBody(t, want, again.Body)
			}
			if task.Compression != "" {
				// Other libraries, other bytes: what is inside must be the same.
				sameInside(t, task.Name, task.Compression, task.Body, again.Body)
				want = withBody(t, want, again.Body)
			}
			if diff := cmp.Diff(want, seal(t, again, task.Envelope)); diff != "" {
				t.Errorf("%s (-Celery +ours):\n%s", task.Name, diff)
			}
			written++
		}
		if written < 45 {
			t.Errorf("%d messages were written again, want at least 45", written)
		}
	})
}

func sameYAML(t *testing.T, name string, a, b []byte) {
	t.Helper()
	x, errA := protocol.Deserialize("yaml", a, protocol.Limits{})
	y, errB := protocol.Deserialize("yaml", b, protocol.Limits{})
	// yaml's dumper sorts the keys of a dict.
	sorted := cmp.Transformer("sorted", func(o *protocol.Object) map[string]protocol.Value {
		m := map[string]protocol.Value{}
		for _, member := range o.Members() {
			m[member.Key] = member.Value
		}
		return m
	})
	if diff := cmp.Diff(x, y, sorted); errA != nil || errB != nil || diff != "" {
		t.Errorf("%s: %v, %v (-Celery +ours):\n%s", name, errA, errB, diff)
	}
}

func sameInside(t *testing.T, name, codec string, a, b []byte) {
	t.Helper()
	x, err := protocol.Decompress(codec, a, protocol.Limits{})
	if err != nil {
		t.Errorf("%s: Celery's: %v", name, err)
	}
	y, err := protocol.Decompress(codec, b, protocol.Limits{})
	if err != nil {
		t.Errorf("%s: ours: %v", name, err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s: uncompressed body is %q, want %q", name, y, x)
	}
}

// Without a given text the reprs are made from the arguments, and look like Celery 5.7's.
func TestGoldenReprs(t *testing.T) {
	t.Parallel()
	g := newestGolden(t)
	for _, task := range g.Tasks {
		m := decodeEnvelope(t, task.Envelope)
		if lang, _ := m.Headers.Get("lang"); lang != "py" || task.Name == "own repr" || task.Serializer == "msgpack" {
			continue // msgpack and yaml read what a tuple was as a list, and keys in their own order
		}
		decoded, err := protocol.DecodeTask(m, all)
		if err != nil {
			t.Fatal(err)
		}
		if task.Serializer != "json" {
			continue
		}
		decoded.ArgsRepr, decoded.KwargsRepr = "", ""
		again, err := decoded.Encode(protocol.Encoding{}, g.Now)
		if err != nil {
			t.Fatal(err)
		}
		if task.Name == "lone surrogate" {
			continue // sent raw by Celery on Redis, refused on AMQP; ours is escaped
		}
		for key, want := range map[string]string{"argsrepr": task.Reading.ArgsRepr, "kwargsrepr": task.Reading.KwargsRepr} {
			if got, _ := again.Headers.Get(key); got != want {
				t.Errorf("%s: %s is\n%v, want\n%v", task.Name, key, got, want)
			}
		}
	}
}

func TestGoldenRetries(t *testing.T) {
	t.Parallel()
	goldens(t, func(t *testing.T, version string, g golden) {
		tasks := map[string]goldenTask{}
		for _, task := range g.Tasks {
			tasks[task.Name] = task
		}
		for _, retry := range g.Retries {
			task, err := protocol.DecodeTask(decodeEnvelope(t, tasks[retry.Of].Envelope), all)
			if err != nil {
				t.Errorf("%s: %v", retry.Name, err)
				continue
			}
			var eta time.Time
			if retry.ETA != nil {
				eta = *retry.ETA
			}
			ignore := strings.Contains(retry.Name, "ignores results")
			if task.IgnoreResult != nil {
				ignore = *task.IgnoreResult
			}
			m, err := task.Retried(eta, ignore).Encode(protocol.Encoding{}, g.Now)
			if err != nil {
				t.Errorf("%s: %v", retry.Name, err)
				continue
			}
			want := decodeEnvelope(t, retry.Envelope)
			if diff := cmp.Diff(retryText(t, want, version), retryText(t, m, version)); diff != "" {
				t.Errorf("%s (-Celery +ours):\n%s", retry.Name, diff)
			}
		}
	})
}

// retryText is a message as text, less what we do on purpose in another way than that version.
func retryText(t *testing.T, m protocol.Message, version string) string {
	t.Helper()
	m.Properties.Extra = nil // origin leaks into the properties of Celery's retries
	m.Headers = m.Headers.Clone()
	m.Headers.Delete("redelivered") // a word about the old message
	for _, never := range []string{"x-first-death-queue", "x-death"} {
		if version < "5.6.3" {
			m.Headers.Delete(never) // carried by old ones, into RabbitMQ's cycle detection
		}
	}
	if version != newest {
		// Reset to the task's own before 5.7; undeclared stamps copied; both limits custom.
		m.Headers.Set("ignore_result", nil)
		m.Headers.Delete("time_limit")
		m.Headers.Delete("soft_time_limit")
		for _, key := range []string{"argsrepr", "kwargsrepr"} {
			m.Headers.Delete(key)
		}
	}
	m.Headers.Delete("meth") // see the hybrid form
	if origin, _ := m.Headers.Get("origin"); origin == nil || origin == "gen4711@vm" {
		m.Headers.Set("origin", nil) // Celery names itself where the message named nobody
	}
	return seal(t, m, `"delivery_tag": "x"`)
}

func TestRefusedMessages(t *testing.T) {
	t.Parallel()
	g := newestGolden(t)
	want := map[string]error{
		"pickle":                               protocol.ErrRefusedContent,
		"content type with a parameter":        protocol.ErrRefusedContent,
		"neither header nor body names a task": protocol.ErrUnknownMessage,
		"a list without a task header":         protocol.ErrUnknownMessage,
		"not json":                             nil,
		"unknown typed value":                  nil,
		"byte order mark":                      nil,
		"unknown compression":                  nil,
		"not what the compression says":        nil,
	}
	noCaller := map[string]bool{
		"no id": true, "null id": true, "integer id": true, "neither header nor body names a task": true,
		"a list without a task header": true,
	}
	for _, r := range g.Refused {
		task, err := protocol.DecodeTask(decodeEnvelope(t, r.Envelope), all)
		if err == nil {
			t.Errorf("%s: decoded, want an error (Celery: %s)", r.Name, r.Celery)
			continue
		}
		part := (*protocol.DecodeError)(nil)
		if !errors.As(err, &part) || part.Part == "" {
			t.Errorf("%s: %v names no part", r.Name, err)
		}
		sentinel, special := want[r.Name]
		if !special {
			sentinel = protocol.ErrInvalidTask
		}
		for _, s := range []error{protocol.ErrInvalidTask, protocol.ErrRefusedContent, protocol.ErrUnknownMessage} {
			if errors.Is(err, s) != (s == sentinel) {
				t.Errorf("%s: %v, want it to wrap %v alone", r.Name, err, sentinel)
			}
		}
		switch {
		case noCaller[r.Name] && task != nil:
			t.Errorf("%s: a Task without an id", r.Name)
		case !noCaller[r.Name] && (task == nil || task.ID == ""):
			t.Errorf("%s: no Task to tell the caller with", r.Name)
		}
	}
}
