package rabbitmq

import (
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func tableBack(t *testing.T, o *protocol.Object) amqp.Table {
	t.Helper()
	table, err := tableOf(o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func one(v protocol.Value) *protocol.Object {
	return protocol.ObjectOf(protocol.Member{Key: "k", Value: v})
}

// Go types here are wire types: int32 I, int64 l (or L, see frames_test.go), string S, never int or int16.
func TestHeaderTypesWritten(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		in   protocol.Value
		want any
	}{
		{"None", nil, nil},
		{"bool", true, true},
		{"small int", int64(30), int32(30)},
		{"largest 32-bit int", int64(math.MaxInt32), int32(math.MaxInt32)},
		{"Python writes -2**31 as L", int64(math.MinInt32), int64(math.MinInt32)},
		{"int beyond 32 bits", int64(1 << 40), int64(1 << 40)},
		{"negative int beyond 32 bits", int64(-1 << 40), int64(-1 << 40)},
		{"big.Int that fits", big.NewInt(5), int32(5)},
		{"int beyond 64 bits", new(big.Int).Lsh(big.NewInt(1), 70), "1180591620717411303424"},
		{"float", 3.0, 3.0},
		{"str", "é", "é"},
		{"bytes", []byte{0xff}, "\xff"},
		{"timelimit", []protocol.Value{nil, int64(30)}, []any{nil, int32(30)}},
		{"stamps", one([]protocol.Value{}), amqp.Table{"k": []any{}}},
		{"datetime", protocol.DateTime{Time: noon}, noon},
		{"decimal", protocol.Decimal("-1.10"), amqp.Decimal{Scale: 2, Value: -110}},
		{"decimal with an exponent", protocol.Decimal("1E+5"), "1E+5"},
		{"decimal too large", protocol.Decimal("99999999999"), "99999999999"},
		{"negative zero", protocol.Decimal("-0.0"), "-0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(amqp.Table{"k": tt.want}, tableBack(t, one(tt.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHeadersThatCannotBeWritten(t *testing.T) {
	deep := protocol.Value("x")
	for range maxDepth + 2 {
		deep = []protocol.Value{deep}
	}
	for name, v := range map[string]protocol.Value{
		"set": protocol.Set{}, "date": protocol.Date{}, "uuid": protocol.UUID{}, "Go int": 5, "nesting": deep,
		"long key": protocol.ObjectOf(protocol.Member{Key: strings.Repeat("k", 256)}),
	} {
		_, err := tableOf(one(v))
		if _, ok := errors.AsType[*protocol.EncodeError](err); !ok {
			t.Errorf("%s: %v, want an EncodeError", name, err)
		}
	}
}

func TestHeaderTypesRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   any
		want protocol.Value
	}{
		{"int8", int8(-1), int64(-1)},
		{"uint8", byte(200), int64(200)},
		{"int16", int16(-5), int64(-5)},
		{"uint16", uint16(5), int64(5)},
		{"int32", int32(-5), int64(-5)},
		{"uint32", uint32(1 << 31), int64(1 << 31)},
		{"int64", int64(1 << 40), int64(1 << 40)},
		{"float32", float32(0.5), 0.5},
		{"text", "é", "é"},
		{"a lone surrogate is text", "a\xed\xa0\x80b", "a\xed\xa0\x80b"},
		{"what is no text is bytes", "a\xff", []byte("a\xff")},
		{"byte array", []byte{1}, []byte{1}},
		{"timestamp", time.Unix(0, 0), protocol.DateTime{Time: time.Unix(0, 0).UTC(), Naive: true}},
		{"timestamp outside of Python's calendar", time.Unix(math.MaxInt64>>8, 0), int64(math.MaxInt64 >> 8)},
		{"decimal", amqp.Decimal{Scale: 2, Value: 110}, protocol.Decimal("1.10")},
		{"small decimal", amqp.Decimal{Scale: 3, Value: -5}, protocol.Decimal("-0.005")},
		{"whole decimal", amqp.Decimal{Value: 7}, protocol.Decimal("7")},
		{"lowest decimal", amqp.Decimal{Scale: 1, Value: math.MinInt32}, protocol.Decimal("-214748364.8")},
		{"array", []any{nil, int32(1)}, []protocol.Value{nil, int64(1)}},
		{"nil array", []any(nil), []protocol.Value{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := objectOf(amqp.Table{"k": tt.in}).Get("k")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	keys := objectOf(amqp.Table{"b": nil, "a": amqp.Table{"y": nil, "x": nil}, "c": nil})
	nested, _ := keys.Get("a")
	for o, want := range map[*protocol.Object]string{keys: "a b c", nested.(*protocol.Object): "x y"} {
		var got []string
		for _, m := range o.Members() {
			got = append(got, m.Key)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("keys %q, want %q", got, want)
		}
	}
}

// A size that were too small would cost the connection.
func TestTableSize(t *testing.T) {
	table := amqp.Table{
		"a": nil, "b": true, "c": int8(1), "d": int16(1), "e": int32(1), "f": int64(1), "g": 1.5, "h": "text", "i": []byte{1, 2},
		"j": []any{nil, "x", amqp.Table{"k": int32(5)}}, "k": amqp.Table{"l": time.Now()}, "l": amqp.Decimal{Value: 1}, "m": float32(1),
	}
	// AMQPlainAuth is the only way to have the driver write a table for us: it writes strings.
	auth := &amqp.AMQPlainAuth{Username: "user", Password: "secret"}
	if got, want := tableSize(amqp.Table{"LOGIN": "user", "PASSWORD": "secret"}), 4+len(auth.Response()); got != want {
		t.Errorf("tableSize = %d, want %d", got, want)
	}
	const want = 4 + (2 + 1) + (2 + 2) + (2 + 2) + (2 + 3) + (2 + 5) + (2 + 9) + (2 + 9) + (2 + 5 + 4) + (2 + 5 + 2) +
		(2 + 5 + 1 + 6 + (1 + 4 + 2 + 5)) + (2 + 1 + 4 + 2 + 9) + (2 + 6) + (2 + 5)
	if got := tableSize(table); got != want {
		t.Errorf("tableSize = %d, want %d", got, want)
	}
}

func TestMessageRoundTrip(t *testing.T) {
	m := protocol.Message{
		Headers: protocol.ObjectOf(protocol.Member{Key: "id", Value: "x"}, protocol.Member{Key: deliveryCount, Value: int64(3)}),
		Properties: protocol.Properties{
			ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: "c", ReplyTo: "r", DeliveryMode: 2,
			Priority: new(7), Expiration: "60000", MessageID: "m", Timestamp: time.Unix(1e9, 0), Type: "t", UserID: "guest", AppID: "a",
		},
		Body: []byte("body"),
	}
	p, err := publishingOf(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, there := p.Headers[deliveryCount]; there {
		t.Error("x-delivery-count is sent on")
	}
	d := &amqp.Delivery{
		Headers: p.Headers, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo,
		DeliveryMode: p.DeliveryMode, Priority: p.Priority, Expiration: p.Expiration, MessageId: p.MessageId, Timestamp: p.Timestamp,
		Type: p.Type, UserId: p.UserId, AppId: p.AppId, Body: p.Body,
	}
	m.Headers.Delete(deliveryCount)
	if diff := cmp.Diff(m, messageOf(d), members); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(p, republishing(d), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("republished: %s", diff)
	}
}

// members lets cmp look into an Object.
// members compares objects without their order: the driver's tables have none.
var members = cmp.Transformer("members", func(o *protocol.Object) []protocol.Member {
	return slices.SortedFunc(slices.Values(o.Members()), func(a, b protocol.Member) int { return strings.Compare(a.Key, b.Key) })
})

func TestPriorityZeroAndNone(t *testing.T) {
	none := messageOf(&amqp.Delivery{Headers: amqp.Table{"a": nil}})
	if none.Properties.Priority != nil {
		t.Errorf("none: %d", *none.Properties.Priority)
	}
	zero := messageOf(&amqp.Delivery{Headers: amqp.Table{"a": nil, markPriority: nil}})
	if zero.Properties.Priority == nil || *zero.Properties.Priority != 0 || zero.Headers.Len() != 1 {
		t.Errorf("zero: %v, %d headers", zero.Properties.Priority, zero.Headers.Len())
	}
	moved := republishing(&amqp.Delivery{Headers: amqp.Table{"a": nil, markPriority: nil}})
	if len(moved.Headers) != 1 {
		t.Errorf("republished with %v", moved.Headers)
	}
	for in, want := range map[int]uint8{-1: 0, 0: 0, 9: 9, 255: 255, 300: 255} {
		if p, err := publishingOf(protocol.Message{Properties: protocol.Properties{Priority: &in}}); err != nil || p.Priority != want {
			t.Errorf("priority %d: %d, %v", in, p.Priority, err)
		}
	}
}

func TestDeliveryCount(t *testing.T) {
	for _, tt := range []struct {
		name        string
		header      any
		redelivered bool
		want        int
	}{
		{"not counted", nil, true, 0},
		{"second delivery", int64(1), true, 2},
		{"narrow integer", int32(4), true, 5},
		{"copied from another message", int64(4), false, 0},
		{"no number", "many", true, 0},
		{"absurd", int64(math.MaxInt64), true, 0},
		{"negative", int64(-3), true, 0},
	} {
		d := &amqp.Delivery{Redelivered: tt.redelivered, Headers: amqp.Table{}}
		if tt.header != nil {
			d.Headers[deliveryCount] = tt.header
		}
		if got := deliveryOf(d); got.Count != tt.want || got.Message.Headers.Len() != 0 {
			t.Errorf("%s: Count = %d, want %d; %d headers", tt.name, got.Count, tt.want, got.Message.Headers.Len())
		}
	}
}

func TestMalformedHeadersAreSaid(t *testing.T) {
	d := deliveryOf(&amqp.Delivery{Body: []byte("b"), Headers: amqp.Table{markMalformed: []byte("?")}})
	if d.Malformed == nil || d.Message.Headers != nil || string(d.Message.Body) != "b" {
		t.Errorf("%+v", d)
	}
}

// Each of these would otherwise close a channel or the connection, under other messages too.
func TestWhatAMQPCannotCarryIsRefused(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, m := range map[string]protocol.Message{
		"correlation_id":  {Properties: protocol.Properties{CorrelationID: long}},
		"reply_to":        {Properties: protocol.Properties{ReplyTo: long}},
		"content_type":    {Properties: protocol.Properties{ContentType: long}},
		"expiration":      {Properties: protocol.Properties{Expiration: "soon"}},
		"long expiration": {Properties: protocol.Properties{Expiration: "99999999999"}},
		"headers":         {Headers: one(strings.Repeat("x", frameMax))},
	} {
		if _, err := publishingOf(m); !errors.Is(err, transports.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	for _, q := range []transports.Queue{{}, {Name: long}, {Name: "q", RoutingKey: long}, {Name: "q", Exchange: long}, {Name: "q", Arguments: one(protocol.Set{})}} {
		if err := checkQueue(q); !errors.Is(err, transports.ErrRefused) {
			t.Errorf("queue %.20q: %v, want ErrRefused", q.Name, err)
		}
	}
}
