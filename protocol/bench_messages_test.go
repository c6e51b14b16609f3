package protocol_test

import (
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

func benchTask(b *testing.B) (goldenTask, protocol.Message) {
	b.Helper()
	for _, task := range newestGolden(b).Tasks {
		if task.Name == "keyword arguments" {
			return task, decodeEnvelope(b, task.Envelope)
		}
	}
	b.Fatal("no such golden task")
	return goldenTask{}, protocol.Message{}
}

func BenchmarkDecodeEnvelope(b *testing.B) {
	task, _ := benchTask(b)
	raw := task.Envelope
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, _, err := protocol.DecodeEnvelopeText(raw, protocol.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeTask(b *testing.B) {
	_, m := benchTask(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.DecodeTask(m, protocol.DecodeOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeTask(b *testing.B) {
	_, m := benchTask(b)
	task, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := task.Encode(protocol.Encoding{}, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeEnvelope(b *testing.B) {
	_, m := benchTask(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.EncodeEnvelope(m, "21a804eb-f593-44fa-85f9-15202a883e63"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeResult(b *testing.B) {
	r := protocol.Result{TaskID: "7a2131ab-f5d6-4ad7-9e25-30b7ee104d56", Status: protocol.Success, Value: int64(3), DateDone: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Encode(protocol.Encoding{}); err != nil {
			b.Fatal(err)
		}
	}
}
