package rabbitmq

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
)

// Reading and writing of what goes past the driver: arguments of methods, properties, field tables. The forms are those
// of the driver: see table.go for the types of headers.

// A reading takes values off bytes. After one that is not there bad is set, and all others are zero.
type reading struct {
	rest []byte
	bad  bool
}

func (r *reading) take(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad, r.rest = true, nil
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reading) octet() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reading) word() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reading) long() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reading) short() []byte { return r.take(int(r.octet())) }

// A textReading is a reading of a string, so that what is read shares its memory. The rest of a bad one is empty.
type textReading struct {
	rest string
	bad  bool
}

func (r *textReading) take(n int) string {
	if r.bad || n < 0 || len(r.rest) < n {
		r.bad, r.rest = true, ""
		return ""
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

// uint is a number of n octets, at most 8.
func (r *textReading) uint(n int) (v uint64) {
	for _, b := range []byte(r.take(n)) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (r *textReading) short() string { return r.take(int(r.uint(1))) }

func (r *textReading) long() string {
	n := r.uint(4)
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, ""
		return ""
	}
	return r.take(int(n))
}

// A parcel is what a content header holds. Its texts share one piece of memory.
type parcel struct {
	properties protocol.Properties
	table      string // of the headers, without its length
	hasTable   bool
	bad        bool // it ends too early
}

// parcelOf reads the payload of a content header.
func parcelOf(header string) (p parcel) {
	if len(header) < contentHead {
		p.bad = true
		return p
	}
	r := textReading{rest: header[contentHead-2:]}
	flags := r.uint(2)
	text := func(flag uint64, into *string) {
		if flags&flag != 0 {
			*into = r.short()
		}
	}
	text(flagType, &p.properties.ContentType)
	text(flagEncoding, &p.properties.ContentEncoding)
	if flags&flagHeaders != 0 {
		p.table, p.hasTable = r.long(), true
	}
	if flags&flagMode != 0 {
		p.properties.DeliveryMode = uint8(r.uint(1))
	}
	if flags&flagPriority != 0 {
		p.properties.Priority = new(int(r.uint(1)))
	}
	text(flagCorrelation, &p.properties.CorrelationID)
	text(flagReplyTo, &p.properties.ReplyTo)
	text(flagExpiration, &p.properties.Expiration)
	text(flagMessageID, &p.properties.MessageID)
	if flags&flagTimestamp != 0 {
		p.properties.Timestamp = time.Unix(int64(r.uint(8)), 0)
	}
	text(flagKind, &p.properties.Type)
	text(flagUserID, &p.properties.UserID)
	text(flagAppID, &p.properties.AppID)
	p.bad = r.bad
	return p
}

// object reads a table that walkTable has passed.
func (r *textReading) object() *protocol.Object {
	o := &protocol.Object{}
	for len(r.rest) > 0 {
		key := r.short()
		if v := r.field(); !r.bad {
			o.Set(key, v)
		}
	}
	return o
}

// field reads a value, as valueOf has it.
func (r *textReading) field() protocol.Value {
	switch typ := r.uint(1); typ {
	case 't':
		return r.uint(1) != 0
	case 'b':
		return int64(int8(r.uint(1)))
	case 'B':
		return int64(r.uint(1))
	case 's', 'U':
		return int64(int16(r.uint(2)))
	case 'u':
		return int64(r.uint(2))
	case 'I':
		return int64(int32(r.uint(4)))
	case 'i':
		return int64(r.uint(4))
	case 'l', 'L':
		return int64(r.uint(8))
	case 'f':
		return float64(math.Float32frombits(uint32(r.uint(4))))
	case 'd':
		return math.Float64frombits(r.uint(8))
	case 'D':
		scale := uint8(r.uint(1))
		return decimalText(amqp.Decimal{Scale: scale, Value: int32(r.uint(4))})
	case 'T':
		return timeOf(time.Unix(int64(r.uint(8)), 0))
	case 'S':
		if text := r.long(); isText(text) {
			return text
		} else {
			return []byte(text)
		}
	case 'x':
		return []byte(r.long())
	case 'F':
		nested := textReading{rest: r.long()}
		return nested.object()
	case 'A':
		nested, list := textReading{rest: r.long()}, []protocol.Value{}
		for len(nested.rest) > 0 {
			list = append(list, nested.field())
		}
		return list
	}
	return nil // V
}

// table reads a table that walkTable has passed as the driver does.
func (r *textReading) table() amqp.Table {
	t := amqp.Table{}
	for len(r.rest) > 0 {
		key := r.short()
		if v := r.driverField(); !r.bad {
			t[key] = v
		}
	}
	return t
}

func (r *textReading) driverField() any {
	switch typ := r.uint(1); typ {
	case 't':
		return r.uint(1) != 0
	case 'b':
		return int8(r.uint(1))
	case 'B':
		return byte(r.uint(1))
	case 's', 'U':
		return int16(r.uint(2))
	case 'u':
		return uint16(r.uint(2))
	case 'I':
		return int32(r.uint(4))
	case 'i':
		return uint32(r.uint(4))
	case 'l', 'L':
		return int64(r.uint(8))
	case 'f':
		return math.Float32frombits(uint32(r.uint(4)))
	case 'd':
		return math.Float64frombits(r.uint(8))
	case 'D':
		scale := uint8(r.uint(1))
		return amqp.Decimal{Scale: scale, Value: int32(r.uint(4))}
	case 'T':
		return time.Unix(int64(r.uint(8)), 0)
	case 'S':
		return r.long()
	case 'x':
		return []byte(r.long())
	case 'F':
		nested := textReading{rest: r.long()}
		return nested.table()
	case 'A':
		nested, list := textReading{rest: r.long()}, []any{}
		for len(nested.rest) > 0 {
			list = append(list, nested.driverField())
		}
		return list
	}
	return nil // V
}

func replyText(code uint16, text []byte) string { return fmt.Sprintf("%d %s", code, text) }

func appendShort(out []byte, s string) []byte {
	return append(append(out, byte(len(s))), s...) // at most maxShort: checked by short
}

// The flags of the properties, in the order of their values.
const (
	flagCorrelation = 1 << 10
	flagReplyTo     = 1 << 9
	flagExpiration  = 1 << 8
	flagMessageID   = 1 << 7
	flagTimestamp   = 1 << 6
	flagKind        = 1 << 5
	flagUserID      = 1 << 4
	flagAppID       = 1 << 3
)

// appendProperties writes flags and properties. As with the driver, a priority of 0 and empty headers are left out.
func appendProperties(out []byte, p *amqp.Publishing) []byte {
	at, flags := len(out), uint16(0)
	out = append(out, 0, 0)
	text := func(flag uint16, s string) {
		if s != "" {
			flags |= flag
			out = appendShort(out, s)
		}
	}
	text(flagType, p.ContentType)
	text(flagEncoding, p.ContentEncoding)
	if len(p.Headers) > 0 {
		flags |= flagHeaders
		out = appendTable(out, p.Headers)
	}
	if p.DeliveryMode > 0 {
		flags |= flagMode
		out = append(out, p.DeliveryMode)
	}
	if p.Priority > 0 {
		flags |= flagPriority
		out = append(out, p.Priority)
	}
	text(flagCorrelation, p.CorrelationId)
	text(flagReplyTo, p.ReplyTo)
	text(flagExpiration, p.Expiration)
	text(flagMessageID, p.MessageId)
	if !p.Timestamp.IsZero() {
		flags |= flagTimestamp
		out = binary.BigEndian.AppendUint64(out, uint64(p.Timestamp.Unix()))
	}
	text(flagKind, p.Type)
	text(flagUserID, p.UserId)
	text(flagAppID, p.AppId)
	binary.BigEndian.PutUint16(out[at:], flags)
	return out
}

// appendTable writes a table, its length in front.
func appendTable(out []byte, t amqp.Table) []byte {
	at := len(out)
	out = append(out, 0, 0, 0, 0)
	for k, v := range t {
		out = appendField(appendShort(out, k), v)
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out
}

// appendField writes a field of the types that tables hold here. A negative int64 goes out as L, as Python itself
// writes it: py-amqp before 5.4 takes l for unsigned.
func appendField(out []byte, v any) []byte {
	u32, u64 := binary.BigEndian.AppendUint32, binary.BigEndian.AppendUint64
	switch v := v.(type) {
	case bool:
		if v {
			return append(out, 't', 1)
		}
		return append(out, 't', 0)
	case byte:
		return append(out, 'B', v)
	case int8:
		return append(out, 'b', byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(append(out, 's'), uint16(v))
	case uint16:
		return binary.BigEndian.AppendUint16(append(out, 'u'), v)
	case int32:
		return u32(append(out, 'I'), uint32(v))
	case uint32:
		return u32(append(out, 'i'), v)
	case int64:
		if v < 0 {
			return u64(append(out, 'L'), uint64(v))
		}
		return u64(append(out, 'l'), uint64(v))
	case float32:
		return u32(append(out, 'f'), math.Float32bits(v))
	case float64:
		return u64(append(out, 'd'), math.Float64bits(v))
	case amqp.Decimal:
		return u32(append(out, 'D', v.Scale), uint32(v.Value))
	case string:
		return append(u32(append(out, 'S'), uint32(len(v))), v...)
	case []byte:
		return append(u32(append(out, 'x'), uint32(len(v))), v...)
	case time.Time:
		return u64(append(out, 'T'), uint64(v.Unix()))
	case amqp.Table:
		return appendTable(append(out, 'F'), v)
	case []any:
		at := len(out) + 1
		out = append(out, 'A', 0, 0, 0, 0)
		for _, e := range v {
			out = appendField(out, e)
		}
		binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
		return out
	}
	return append(out, 'V') // nil; the driver and tableOf make nothing else
}
