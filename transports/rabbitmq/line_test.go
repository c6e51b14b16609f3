package rabbitmq

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
)

// delivered are the frames of a delivery on channel 1.
func delivered(tag uint64, again bool, o outgoing, most int) []byte {
	args := appendShort(nil, "consumer")
	args = binary.BigEndian.AppendUint64(args, tag)
	bits := byte(0)
	if again {
		bits = 1
	}
	args = appendShort(appendShort(append(args, bits), o.exchange), o.key)
	return append(driverMethod(1, basicDeliver, args...), contentOf(o, most)...)
}

// contentOf are the frames after the method.
func contentOf(o outgoing, most int) []byte {
	frames := appendPublish(nil, 1, &o, most)
	_, total, _ := frameAt(frames)
	return frames[total:]
}

// tap gives in to a reader with a line on channel 1 in pieces of that size, and returns what the driver gets.
func tap(t testing.TB, in []byte, size int) (driver []byte, b *bin, l *line) {
	t.Helper()
	b = &bin{}
	s := &socket{wake: make(chan struct{}, 1), lines: map[uint16]*line{}}
	l = &line{s: s, id: 1, open: true, sink: b}
	s.lines[1] = l
	r := &frameReader{r: &piecewise{in, size}, tap: s, told: time.Now()}
	driver, err := io.ReadAll(r)
	if err != nil && err != errMalformed {
		t.Fatal(err)
	}
	return driver, b, l
}

func TestDeliveriesPassTheDriverBy(t *testing.T) {
	headers := amqp.Table{
		"id": "a", "n": int32(5), "big": int64(-1 << 40), "list": []any{nil, true, int16(-3), 2.5},
		"deep": amqp.Table{"bytes": []byte{0xff}, "price": amqp.Decimal{Scale: 2, Value: 110}, "at": time.Unix(1e9, 0)},
	}
	first := outgoing{exchange: "x", key: "q", message: amqp.Publishing{
		Headers: headers, ContentType: "application/json", ContentEncoding: "utf-8", DeliveryMode: 2, Priority: 7, CorrelationId: "c", ReplyTo: "r",
		Expiration: "1000", MessageId: "m", Timestamp: time.Unix(1e9, 0), Type: "t", UserId: "u", AppId: "a", Body: bytes.Repeat([]byte("body"), 5000),
	}}
	second := outgoing{key: "q", message: amqp.Publishing{Body: []byte{}}}
	in := bytes.Join([][]byte{
		frame(typeLast, nil), driverMethod(1, 60<<16|21), delivered(1, false, first, 4096), driverMethod(2, basicDeliver, 0),
		delivered(2, true, second, 4096), driverMethod(1, basicAck, append(make([]byte, 7), 9, 0)...), driverMethod(1, 60<<16|31),
	}, nil)
	want := bytes.Join([][]byte{
		frame(typeLast, nil), driverMethod(1, 60<<16|21), driverMethod(2, basicDeliver, 0), driverMethod(1, 60<<16|31),
	}, nil)
	for _, size := range []int{1, 7, 255} {
		driver, b, l := tap(t, in, size)
		if len(b.got) != 2 || len(l.tags) != 2 {
			t.Fatalf("%d deliveries, %d tags", len(b.got), len(l.tags))
		}
		if !bytes.Equal(driver, want) {
			t.Errorf("in pieces of %d the driver gets %q", size, driver)
		}
		d, returns := received(&b.got[0], b.again[0])
		if returns != 0 || d.Malformed != nil || d.Redelivered {
			t.Errorf("%+v", d)
		}
		back, err := publishingOf(d.Message)
		if err != nil {
			t.Fatal(err)
		}
		if back.Headers["deep"].(amqp.Table)["bytes"] != "\xff" || back.Headers["n"] != int32(5) || back.UserId != "u" || back.Priority != 7 {
			t.Errorf("%+v", back)
		}
		// To be sent on it is as the driver would have it, each type kept.
		if diff := cmp.Diff(first.message, republishing(driverDelivery(&b.got[0], false))); diff != "" {
			t.Error(diff)
		}
		d, _ = received(&b.got[1], b.again[1])
		if !d.Redelivered || len(d.Message.Body) != 0 || d.Message.Headers != nil || d.Message.RoutingKey != "q" || d.Message.Exchange != "" {
			t.Errorf("%+v", d)
		}
	}
}

// What comes past the driver is decoded to what the driver's own would be.
func TestBothWaysDecodeAlike(t *testing.T) {
	for name, table := range map[string][]byte{
		"every type":      everyType('L'),
		"a count":         entry(deliveryCount, eight('l', 3)...),
		"a moved count":   entry(movedCount, 'I', 0, 0, 0, 3),
		"text and bytes":  append(entry("s", long('S', []byte("é"))...), entry("b", long('S', []byte{0xff})...)...),
		"a broken table":  entry("k", '?', 1),
		"a broken nested": entry("d", long('F', []byte("\x05ab"))...),
		"nothing":         nil,
		"a key twice":     append(entry("k", 'V'), entry("k", 't', 1)...),
	} {
		t.Run(name, func(t *testing.T) {
			in := append(driverMethod(1, basicDeliver, append(appendShort(nil, "c"), 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0)...), contentHeader(table, 0)...)
			_, b, _ := tap(t, in, 100)
			if len(b.got) != 1 {
				t.Fatalf("%d deliveries", len(b.got))
			}
			got, returns := received(&b.got[0], true)
			raw := driverDelivery(&b.got[0], true)
			want := deliveryOf(raw)
			if (got.Malformed != nil) != (want.Malformed != nil) || got.Count != want.Count || returns != returnsOf(raw) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			want.Message.Properties.Priority = got.Message.Properties.Priority // the driver needs a mark for 0
			if want.Message.Headers.Len() == 0 && got.Message.Headers.Len() == 0 {
				want.Message.Headers = got.Message.Headers
			}
			if diff := cmp.Diff(want.Message, got.Message, members); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfirms(t *testing.T) {
	s := newSocket(newWire(nil))
	defer s.Close()
	l := &line{s: s, id: 1, open: true}
	var ps []*posted
	for range 8 {
		p, err := l.publish(nil, &outgoing{}, frameMax)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	check := func(want string) {
		t.Helper()
		got := ""
		for _, p := range ps {
			select {
			case <-p.done:
				got += map[bool]string{true: "a", false: "n"}[p.acked]
			default:
				got += "."
			}
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	l.confirm(3, false, true)
	check("..a.....")
	l.confirm(3, false, false) // nobody confirms twice
	l.confirm(9, true, true)   // nothing of ours
	l.confirm(0, false, true)
	check("..a.....")
	l.confirm(2, true, true)
	check("aaa.....")
	l.confirm(5, false, false)
	check("aaa.n...")
	l.confirm(6, true, true)
	check("aaaana..")
	l.closed()
	check("aaaanann")
	if len(l.posted) != 0 {
		t.Errorf("%d are still waited for", len(l.posted))
	}
	if _, err := l.publish(nil, &outgoing{}, frameMax); err != errGone {
		t.Errorf("published on a closed channel: %v", err)
	}
}

// While everything passes the driver by it hears once a second that the broker lives: it sets the read deadline.
func TestTheDriverHearsThatTheBrokerLives(t *testing.T) {
	in := bytes.Repeat(delivered(1, false, outgoing{message: amqp.Publishing{Body: []byte("x")}}, frameMax), 50)
	s := &socket{lines: map[uint16]*line{}}
	s.lines[1] = &line{s: s, id: 1, open: true, sink: &bin{}}
	r := &frameReader{r: &piecewise{in, 100}, tap: s}
	driver, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(driver, heartbeatFrame) {
		t.Errorf("the driver got %q, %v", driver, err)
	}
}

// FuzzTap: whatever the broker sends on a channel of ours, in whatever pieces, nothing panics, and the pieces make no difference.
func FuzzTap(f *testing.F) {
	f.Add(delivered(1, false, outgoing{key: "q", message: amqp.Publishing{Body: []byte("body"), Headers: amqp.Table{"a": "b"}}}, 4096), 3)
	f.Add(append(driverMethod(1, basicReturn, append([]byte{1, 44}, 2, 'n', 'o', 0, 1, 'q')...), contentOf(outgoing{message: amqp.Publishing{Body: []byte("x")}}, 4096)...), 1)
	f.Add(append(driverMethod(1, basicAck, 0, 0, 0, 0, 0, 0, 0, 1, 1), driverMethod(1, channelClose, 0)...), 5)
	f.Add(driverMethod(1, basicDeliver, 0), 2)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = 1 + (size&0xff+0xff)%0xff
		once, a, _ := tap(t, bytes.Clone(in), size)
		again, b, _ := tap(t, bytes.Clone(in), 1<<20)
		if !bytes.Equal(once, again) || len(a.got) != len(b.got) {
			t.Fatalf("pieces make a difference: %q and %q, %d and %d", once, again, len(a.got), len(b.got))
		}
		for i := range a.got {
			if len(a.returns) > 0 {
				break
			}
			d, _ := received(&a.got[i], true)
			if _, err := publishingOf(d.Message); err == nil && d.Malformed == nil {
				_, _ = protocol.DecodeTask(d.Message, protocol.DecodeOptions{Limits: protocol.Limits{Inflated: 1 << 20}})
			}
			_ = republishing(driverDelivery(&a.got[i], true))
		}
	})
}
