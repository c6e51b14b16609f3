package protocol_test

import (
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// FuzzDecodeGroup: a group's record is somebody's text; what is read can be written and says the same.
func FuzzDecodeGroup(f *testing.F) {
	for _, text := range []string{
		`{"result": [["g", null], [[["a", null], null]]], "date_done": "2026-11-21T00:00:00"}`, `[["g", null], []]`, `{}`, `{"result": 5}`, `{"result": [["g", ["p", null]], [[["a", null], [["b", null]]]]]}`, "[", `{"result": null}`,
	} {
		f.Add("json", []byte(text))
	}
	limits := protocol.Limits{Inflated: 1 << 20}
	f.Fuzz(func(t *testing.T, serializer string, data []byte) {
		v, err := protocol.DecodeGroup(serializer, data, limits)
		if err != nil {
			named(t, err)
			return
		}
		out, err := protocol.EncodeGroup(protocol.Encoding{}, v)
		if err != nil {
			return // yaml and msgpack hold what JSON cannot
		}
		if _, err := protocol.DecodeGroup("json", out, protocol.Limits{Depth: 500}); err != nil {
			t.Errorf("%s cannot be read again: %v", out, err)
		}
	})
}
