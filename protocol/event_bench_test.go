package protocol_test

import (
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// BenchmarkEncodeEvents is one message as a busy worker sends it: 24 task events, a third of each kind. A call is
// per event, so ns/op and allocs/op are those of one event.
func BenchmarkEncodeEvents(b *testing.B) {
	event := func(kind string, more ...protocol.Member) protocol.Event {
		fields := append([]protocol.Member{
			{Key: "hostname", Value: "celery@host"},
			{Key: "utcoffset", Value: 0.0},
			{Key: "pid", Value: int64(4711)},
			{Key: "clock", Value: int64(123456)},
			{Key: "uuid", Value: "5f9c8f0e-3c1a-4b43-a8b5-6d2f0f0c9b55"},
		}, more...)
		return protocol.Event{Type: kind, Fields: protocol.ObjectOf(append(fields, protocol.Member{Key: "timestamp", Value: 1760000000.123456})...)}
	}
	var events []protocol.Event
	for range 8 {
		events = append(events,
			event("task-received", []protocol.Member{
				{Key: "name", Value: "demo.add"},
				{Key: "args", Value: "(1, 2)"},
				{Key: "kwargs", Value: "{}"},
				{Key: "root_id", Value: "5f9c8f0e-3c1a-4b43-a8b5-6d2f0f0c9b55"},
				{Key: "parent_id", Value: nil},
				{Key: "retries", Value: int64(0)},
				{Key: "eta", Value: nil},
				{Key: "expires", Value: nil},
				{Key: "queue", Value: "celery"},
			}...),
			event("task-started"),
			event("task-succeeded", protocol.Member{Key: "result", Value: "3"}, protocol.Member{Key: "runtime", Value: 0.000123}))
	}
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(events) {
		m, _, err := protocol.EncodeEvents(protocol.Encoding{}, events...)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := protocol.EncodeEnvelope(m, "5f9c8f0e-3c1a-4b43-a8b5-6d2f0f0c9b55"); err != nil {
			b.Fatal(err)
		}
	}
}
