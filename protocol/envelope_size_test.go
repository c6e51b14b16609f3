package protocol

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// A text that is larger than any body within the limits is told from its size: nothing of that size is made of it.
func TestAnEnvelopeThatIsTooLargeIsNotParsed(t *testing.T) {
	const properties = `"properties": {"priority": 3, "delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "q", "redelivered": true}}`
	const headers = `"headers": {"id": "a", "task": "body", "body": "not this one"}`
	large := strings.Repeat(`a\"b\\`+strings.Repeat("x", 200), 17<<20/206)
	for _, tt := range []struct {
		name, raw string
		told      bool
	}{
		{"the body comes first, as in Kombu's", `{"body": "` + large + `", ` + headers + `, ` + properties + `}`, true},
		{"the body comes last", `{` + headers + `, ` + properties + ` , "body" : "` + large + `"}`, true},
		{"the size is that of something else", `{"body": "", "other": "` + large + `", ` + headers + `, ` + properties + `}`, false},
		{"the body is no text", `{"body": ["` + large + `"], ` + headers + `, ` + properties + `}`, false},
		{"the body does not end", `{` + headers + `, ` + properties + `, "body": "` + large, false},
		{"what is left is no envelope", `{"body": "` + large + `", ` + headers + `}`, false},
		{"no object at all", `"` + large + `"`, false},
		{"a list of a body", `[["body": "` + large + `"]]`, false},
		{"a key that ends the text", strings.Repeat(" ", 17<<20) + `{"body"`, false},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, again, err := DecodeEnvelopeText(tt.raw, Limits{Inflated: 1 << 10})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) || m.Body != nil {
			t.Errorf("%s: %v, %d bytes of body; want ErrTooLarge and none", tt.name, err, len(m.Body))
		}
		if made := after.TotalAlloc - before.TotalAlloc; made > 1<<20 {
			t.Errorf("%s: %d bytes were made of %d", tt.name, made, len(tt.raw))
		}
		id, _ := m.Headers.Get("id")
		if told := id == "a" && m.RoutingKey == "q" && *m.Properties.Priority == 3 && again; told != tt.told {
			t.Errorf("%s: the headers are %v, redelivered is %v; they can be read: %v", tt.name, m.Headers, again, tt.told)
		}
	}
	if m, _, err := DecodeEnvelope([]byte(`{"body": "`+strings.Repeat("a", 15<<20)+`", `+headers+`, `+properties+`}`), Limits{Inflated: 1 << 10}); err != nil || len(m.Body) != 15<<20 {
		t.Errorf("what is within the limit: %v, %d bytes", err, len(m.Body))
	}
}
