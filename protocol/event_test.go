package protocol_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// goldenEvents is what pyfixtures/events.py recorded from the real dispatcher.
type goldenEvents struct {
	Events []struct {
		Name       string   `json:"name"`
		Types      []string `json:"types"`
		RoutingKey string   `json:"routing_key"`
		Envelope   string   `json:"envelope"`
	} `json:"events"`
}

func readGoldenEvents(t testing.TB) goldenEvents {
	t.Helper()
	data, err := os.ReadFile("testdata/golden/events-5.7.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenEvents
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Events) < 15 {
		t.Fatalf("%d golden events", len(g.Events))
	}
	return g
}

// TestEventsOfCeleryAreReadAndWrittenAlike: what Celery's dispatcher sends is understood, and written again
// gives the same bytes under the same key.
func TestEventsOfCeleryAreReadAndWrittenAlike(t *testing.T) {
	t.Parallel()
	for _, g := range readGoldenEvents(t).Events {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			m := decodeEnvelope(t, g.Envelope)
			events, err := protocol.DecodeEvents(m, protocol.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var types []string
			for _, e := range events {
				types = append(types, e.Type)
				if e.Text("hostname") != "w1@web1" || e.Clock() == 0 {
					t.Errorf("read as %+v", e)
				}
			}
			if diff := cmp.Diff(g.Types, types); diff != "" {
				t.Error(diff)
			}
			again, key, err := protocol.EncodeEvents(protocol.Encoding{}, events...)
			if err != nil {
				t.Fatal(err)
			}
			if key != g.RoutingKey {
				t.Errorf("key %q, Celery %q", key, g.RoutingKey)
			}
			again.Exchange, again.RoutingKey = "celeryev", key
			if diff := cmp.Diff(g.Envelope, seal(t, again, g.Envelope)); diff != "" {
				t.Errorf("written again (-celery +ours):\n%s", diff)
			}
		})
	}
}

func eventOf(kind string, more ...protocol.Member) protocol.Event {
	f := protocol.ObjectOf(
		protocol.Member{Key: "hostname", Value: "w1@web1"}, protocol.Member{Key: "utcoffset", Value: -5.5},
		protocol.Member{Key: "pid", Value: int64(7)}, protocol.Member{Key: "clock", Value: int64(3)},
		protocol.Member{Key: "timestamp", Value: 1795243310.5},
	)
	for _, m := range more {
		f.Set(m.Key, m.Value)
	}
	return protocol.Event{Type: kind, Fields: f}
}

// TestEventsThatBreakReadersAreNotWritten: each row is one that ends a Python worker, or breaks Flower or
// celery-exporter, when it arrives.
func TestEventsThatBreakReadersAreNotWritten(t *testing.T) {
	t.Parallel()
	type member = protocol.Member
	id := member{"uuid", "id"}
	call := []member{id, {"name", "n"}, {"args", ""}, {"kwargs", ""}}
	heart := eventOf("worker-heartbeat", member{"freq", 2.0})
	for _, tt := range []struct {
		name   string
		events []protocol.Event
		part   string
	}{
		{"none", nil, ""},
		{"no type", []protocol.Event{eventOf("")}, "type"},
		{"no group", []protocol.Event{eventOf("heartbeat")}, "type"},
		{"a type with dots", []protocol.Event{eventOf("worker-a.b")}, "type"},
		{"a single event under the key of several", []protocol.Event{eventOf("task-multi", id)}, "type"},
		{"no hostname", []protocol.Event{eventOf("worker-x", member{"hostname", nil})}, "hostname"},
		{"empty hostname", []protocol.Event{eventOf("worker-x", member{"hostname", ""})}, "hostname"},
		{"a clock that is a text", []protocol.Event{eventOf("worker-x", member{"clock", "1"})}, "clock"},
		{"a clock that is a float", []protocol.Event{eventOf("worker-x", member{"clock", 1.5})}, "clock"},
		{"a clock below zero", []protocol.Event{eventOf("worker-x", member{"clock", int64(-1)})}, "clock"},
		{"no clock", []protocol.Event{eventOf("worker-x", member{"clock", nil})}, "clock"},
		{"a huge clock", []protocol.Event{eventOf("worker-x", member{"clock", new(big.Int).Lsh(big.NewInt(1), 80)})}, "clock"},
		{"a timestamp that is a text", []protocol.Event{eventOf("worker-x", member{"timestamp", "now"})}, "timestamp"},
		{"a timestamp that is an int", []protocol.Event{eventOf("worker-x", member{"timestamp", int64(1)})}, "timestamp"},
		{"a timestamp that is no number", []protocol.Event{eventOf("worker-x", member{"timestamp", math.NaN()})}, "timestamp"},
		{"no utcoffset", []protocol.Event{eventOf("worker-x", member{"utcoffset", nil})}, "utcoffset"},
		{"no pid", []protocol.Event{eventOf("worker-x", member{"pid", nil})}, "pid"},
		{"no freq", []protocol.Event{eventOf("worker-heartbeat")}, "freq"},
		{"freq null", []protocol.Event{eventOf("worker-online", member{"freq", nil})}, "freq"},
		{"freq a text", []protocol.Event{eventOf("worker-offline", member{"freq", "2"})}, "freq"},
		{"a load that is no number", []protocol.Event{eventOf("worker-heartbeat", member{"freq", 2.0}, member{"loadavg", []protocol.Value{math.Inf(1)}})}, "loadavg"},
		{"worker events together", []protocol.Event{heart, heart}, "type"},
		{"a worker event among tasks", []protocol.Event{eventOf("task-started", id), heart}, "type"},
		{"no uuid", []protocol.Event{eventOf("task-started")}, "uuid"},
		{"received without args", []protocol.Event{eventOf("task-received", call[0], call[1], call[3])}, "args"},
		{"received without kwargs", []protocol.Event{eventOf("task-received", call[:3]...)}, "kwargs"},
		{"received without name", []protocol.Event{eventOf("task-received", call[0], call[2], call[3])}, "name"},
		{"succeeded without runtime", []protocol.Event{eventOf("task-succeeded", id, member{"result", "1"})}, "runtime"},
		{"succeeded with runtime null", []protocol.Event{eventOf("task-succeeded", id, member{"result", "1"}, member{"runtime", nil})}, "runtime"},
		{"failed without exception", []protocol.Event{eventOf("task-failed", id)}, "exception"},
		{"a bad one among good ones", []protocol.Event{eventOf("task-started", id), eventOf("task-failed", id)}, "exception"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, key, err := protocol.EncodeEvents(protocol.Encoding{}, tt.events...)
			wrong, ok := errors.AsType[*protocol.EncodeError](err)
			if !ok || wrong.Part != tt.part {
				t.Fatalf("error %v, want one of part %q", err, tt.part)
			}
			if m.Body != nil || key != "" {
				t.Errorf("written all the same: %s", m.Body)
			}
		})
	}
}

// TestForeignEventsAreReadLeniently: what other producers send is read as far as it goes.
func TestForeignEventsAreReadLeniently(t *testing.T) {
	t.Parallel()
	read := func(body string) ([]protocol.Event, error) {
		return protocol.DecodeEvents(protocol.Message{
			Headers:    protocol.ObjectOf(protocol.Member{Key: "hostname", Value: "h@x"}),
			Properties: protocol.Properties{ContentType: "application/json"}, Body: []byte(body),
		}, protocol.DecodeOptions{})
	}
	for _, tt := range []struct {
		name, body string
		want       int // events
		part       string
	}{
		{name: "an empty list, of Celery 5.6", body: `[]`},
		{name: "a heartbeat without clock", body: `{"type": "worker-heartbeat"}`, want: 1},
		{name: "a clock that is a text", body: `{"type": "worker-heartbeat", "clock": "x", "timestamp": "y", "freq": null}`, want: 1},
		{name: "a clock of 9e18", body: `{"type": "worker-heartbeat", "clock": 9000000000000000000}`, want: 1},
		{name: "a clock beyond 64 bits", body: `{"type": "worker-heartbeat", "clock": 90000000000000000000000}`, want: 1},
		{name: "infinity", body: `{"type": "worker-heartbeat", "freq": Infinity}`, want: 1},
		{name: "no type", body: `{"hostname": "x"}`, part: "body.type"},
		{name: "a type that is a number", body: `{"type": 1}`, part: "body.type"},
		{name: "a text", body: `"worker-online"`, part: "body"},
		{name: "not JSON", body: `{`, part: "body.json"},
		{name: "an entry that is none", body: `[{"type": "task-started"}, 1, {"type": "task-failed"}]`, want: 2, part: "body[1]"},
		{name: "nested too deep", body: strings.Repeat("[", 500) + strings.Repeat("]", 500), part: "body.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			events, err := read(tt.body)
			part := ""
			if wrong, ok := errors.AsType[*protocol.DecodeError](err); ok {
				part = wrong.Part
			}
			if len(events) != tt.want || part != tt.part {
				t.Fatalf("%d events, %v; want %d and part %q", len(events), err, tt.want, tt.part)
			}
			for _, e := range events {
				if e.Text("hostname") != "h@x" || e.Clock() < 0 || e.Clock()+1 < 0 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
	if _, ok := (protocol.Event{Fields: protocol.ObjectOf(protocol.Member{Key: "freq", Value: math.NaN()})}).Number("freq"); ok {
		t.Error("NaN is a number")
	}
	if _, err := protocol.DecodeEvents(protocol.Message{
		Properties: protocol.Properties{ContentType: "application/json"}, Body: []byte(`["` + strings.Repeat("x", 17<<20) + `"]`),
	}, protocol.DecodeOptions{}); !errors.Is(err, protocol.ErrTooLarge) {
		t.Errorf("seventeen megabytes: %v", err)
	}
}

// TestControlRepliesOfKombuAreRead: what a Python node answers.
func TestControlRepliesOfKombuAreRead(t *testing.T) {
	t.Parallel()
	for _, g := range readGoldenControl(t).Replies {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			r, err := protocol.DecodeControlReply(decodeEnvelope(t, g.Envelope), protocol.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want, err := protocol.ParseJSON([]byte(g.Value), protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			got, ok := r.Nodes.Get("w1@web1")
			if !ok || kombu(t, got) != kombu(t, want) || r.Nodes.Len() != 1 {
				t.Errorf("read %v, want %v", got, want)
			}
			if s, _ := r.Ticket.(string); s == "" || r.Clock == 0 || r.Expires != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func FuzzDecodeControlReply(f *testing.F) {
	for _, g := range readGoldenControl(f).Replies {
		f.Add("application/json", decodeEnvelope(f, g.Envelope).Body)
	}
	f.Fuzz(func(t *testing.T, content string, body []byte) {
		r, err := protocol.DecodeControlReply(protocol.Message{Properties: protocol.Properties{ContentType: content}, Body: body}, protocol.DecodeOptions{})
		named(t, err)
		if err == nil && r.Nodes == nil {
			t.Error("no nodes and no error")
		}
	})
}

func FuzzDecodeEvents(f *testing.F) {
	for _, g := range readGoldenEvents(f).Events {
		f.Add("application/json", decodeEnvelope(f, g.Envelope).Body)
	}
	f.Add("application/json", []byte(`[{"type":"task-x","clock":1e400},[],{"type":""}]`))
	f.Fuzz(func(t *testing.T, content string, body []byte) {
		events, err := protocol.DecodeEvents(protocol.Message{Properties: protocol.Properties{ContentType: content}, Body: body}, protocol.DecodeOptions{})
		named(t, err)
		if len(events) == 0 {
			return
		}
		m, _, failed := protocol.EncodeEvents(protocol.Encoding{}, events...)
		if failed != nil {
			if _, ok := errors.AsType[*protocol.EncodeError](failed); !ok {
				t.Fatalf("%T: %v", failed, failed)
			}
			return // what we read is not always what we would send
		}
		again, err := protocol.DecodeEvents(m, protocol.DecodeOptions{})
		if err != nil || len(again) != len(events) {
			t.Fatalf("%s: %d events, %v; want %d", m.Body, len(again), err, len(events))
		}
		for i := range again {
			if again[i].Type != events[i].Type || again[i].Clock() != events[i].Clock() || again[i].Fields.Len() != events[i].Fields.Len() {
				t.Errorf("%+v became %+v", events[i], again[i])
			}
		}
	})
}
