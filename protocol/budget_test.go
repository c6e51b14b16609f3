package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// TestValuesAreBounded: a small compressed message can hold a document that would fill the memory.
func TestValuesAreBounded(t *testing.T) {
	l := Limits{Values: 100}
	ints := func(n int) []byte { return append(append([]byte("[0"), bytes.Repeat([]byte(",0"), n-1)...), ']') }
	pack := func(n int) []byte { return append([]byte{0xdd, 0, 0, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	for _, tt := range []struct {
		name, serializer string
		data             []byte
		ok               bool
	}{
		{"json within", "json", ints(96), true},
		{"json over", "json", ints(97), false},
		{"objects cost more", "json", append(append([]byte("[{}"), bytes.Repeat([]byte(",{}"), 24)...), ']'), false},
		{"msgpack within", "msgpack", pack(96), true},
		{"msgpack over", "msgpack", pack(97), false},
		{"yaml within", "yaml", ints(20), true},
		{"yaml over", "yaml", ints(30), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Deserialize(tt.serializer, tt.data, l)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("error = %v", err)
			}
		})
	}
	body, codec, err := Compress("gzip", []byte(fmt.Sprintf("[%s,{},{}]", ints(DefaultValues+1))))
	if err != nil {
		t.Fatal(err)
	}
	m := Message{
		Headers: ObjectOf(Member{"task", "x"}, Member{"id", "a"}, Member{"compression", codec}), Body: body,
		Properties: Properties{ContentType: "application/json"},
	}
	task, err := DecodeTask(m, DecodeOptions{})
	if !errors.Is(err, ErrTooLarge) || task == nil || task.ID != "a" {
		t.Errorf("DecodeTask of %d bytes = %v, %v", len(body), task, err)
	}
}
