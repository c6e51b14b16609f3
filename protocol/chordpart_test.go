package protocol_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// Bytes that Celery 5.7 was seen to write.
func TestPartBytes(t *testing.T) {
	boom := &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"bad", int64(42)}, Traceback: "TB"}
	for _, tt := range []struct {
		name, serializer string
		r                protocol.Result
		want             string
	}{
		{"a number", "", protocol.Result{TaskID: "T1", Status: protocol.Success, Value: int64(2)}, `[1, "T1", "SUCCESS", 2]`},
		{"a float", "json", protocol.Result{TaskID: "T1", Status: protocol.Success, Value: 1e16}, `[1, "T1", "SUCCESS", 1e+16]`},
		{"no number", "json", protocol.Result{TaskID: "T1", Status: protocol.Success, Value: math.NaN()}, `[1, "T1", "SUCCESS", NaN]`},
		{"text", "json", protocol.Result{TaskID: "T\u00e9", Status: protocol.Success, Value: "\U0001F600<"}, `[1, "T\u00e9", "SUCCESS", "\ud83d\ude00<"]`},
		{"a failure", "json", protocol.Result{TaskID: "T2", Status: protocol.Failure, Exception: boom}, `[1, "T2", "FAILURE", {"exc_type": "ValueError", "exc_message": ["bad", 42], "exc_module": "builtins"}]`},
		{
			"what json cannot write in an exception", "json",
			protocol.Result{TaskID: "T2", Status: protocol.Failure, Exception: &protocol.Exception{Module: "builtins", Type: "KeyError", Args: []protocol.Value{protocol.Set{int64(1)}}}},
			`[1, "T2", "FAILURE", {"exc_type": "KeyError", "exc_message": ["{1}"], "exc_module": "builtins"}]`,
		},
		{"revoked", "json", protocol.Result{TaskID: "T2", Status: protocol.Revoked, Exception: protocol.TaskRevoked("expired")}, `[1, "T2", "REVOKED", {"exc_type": "TaskRevokedError", "exc_message": ["expired"], "exc_module": "celery.exceptions"}]`},
		{"msgpack", "msgpack", protocol.Result{TaskID: "T1", Status: protocol.Success, Value: 1.5}, "\x94\x01\xa2T1\xa7SUCCESS\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.r.EncodePart(protocol.Encoding{Serializer: tt.serializer})
			if err != nil || string(got) != tt.want {
				t.Fatalf("EncodePart = %q, %v; want %q", got, err, tt.want)
			}
			prefixes, err := protocol.PartPrefixes(tt.serializer, tt.r.TaskID)
			if err != nil || len(prefixes) != 1 || !strings.HasPrefix(tt.want, prefixes[0]) {
				t.Errorf("PartPrefixes = %q, %v", prefixes, err)
			}
			packed, err := tt.r.EncodePart(protocol.Encoding{Serializer: tt.serializer, Compression: "zlib"})
			if err != nil {
				t.Fatal(err)
			}
			for _, data := range [][]byte{got, packed} {
				r, err := protocol.DecodePart(tt.serializer, data, protocol.Limits{})
				if err != nil {
					t.Fatalf("DecodePart(%q): %v", data, err)
				}
				if again, err := r.EncodePart(protocol.Encoding{Serializer: tt.serializer}); err != nil || !bytes.Equal(again, got) {
					t.Errorf("read and written again it is %q, %v", again, err)
				}
			}
		})
	}
	if _, err := protocol.PartPrefixes("pickle", "t"); err == nil {
		t.Error("a part in pickle has a prefix")
	}
}

func TestGroupRecord(t *testing.T) {
	tuple := []protocol.Value{[]protocol.Value{"G", nil}, []protocol.Value{[]protocol.Value{[]protocol.Value{"T1", nil}, nil}}}
	for _, e := range []protocol.Encoding{{}, {Compression: "gzip"}, {Serializer: "msgpack"}, {Serializer: "yaml"}} {
		data, err := protocol.EncodeGroup(e, tuple)
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"result": [["G", null], [[["T1", null], null]]]}`; e == (protocol.Encoding{}) && string(data) != want {
			t.Errorf("EncodeGroup = %s, want %s", data, want)
		}
		got, err := protocol.DecodeGroup(e.Serializer, data, protocol.Limits{})
		if diff := cmp.Diff(protocol.Value(tuple), got); diff != "" || err != nil {
			t.Errorf("DecodeGroup: %v (-want +got):\n%s", err, diff)
		}
	}
}

func FuzzDecodePart(f *testing.F) {
	for _, part := range []string{
		`[1, "T1", "SUCCESS", 2]`, `[1, "T2", "FAILURE", {"exc_type": "ValueError", "exc_message": ["bad", 42], "exc_module": "builtins"}]`,
		"\x94\x01\xa2T1\xa7SUCCESS\x05", "- 1\n- T1\n- SUCCESS\n- 5\n", "\x00celery-compressed\x00application/x-gzip\x00", `{"result": [["G", null], []]}`,
	} {
		for serializer := range uint8(3) {
			f.Add(serializer, []byte(part))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		serializer := []string{"json", "msgpack", "yaml"}[which%3]
		if _, err := protocol.DecodeGroup(serializer, data, protocol.Limits{}); err != nil {
			named(t, err)
		}
		r, err := protocol.DecodePart(serializer, data, protocol.Limits{})
		if err != nil {
			named(t, err)
			return
		}
		out, err := r.EncodePart(protocol.Encoding{Serializer: serializer})
		if err != nil {
			return // what is read is not always written
		}
		prefixes, err := protocol.PartPrefixes(serializer, r.TaskID)
		if err != nil || !bytes.HasPrefix(out, []byte(prefixes[0])) {
			t.Errorf("%q does not begin with any of %q, %v", out, prefixes, err)
		}
		again, err := protocol.DecodePart(serializer, out, protocol.Limits{})
		if err != nil {
			t.Fatalf("%q written again as %q: %v", data, out, err)
		}
		if second, err := again.EncodePart(protocol.Encoding{Serializer: serializer}); err != nil || !bytes.Equal(out, second) {
			t.Errorf("%q becomes %q, %v", out, second, err)
		}
	})
}
