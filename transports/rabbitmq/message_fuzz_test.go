package rabbitmq

import (
	"encoding/binary"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
)

// FuzzDelivery: whatever properties and header values come, they become a message that can be moved, and published where its
// headers can be carried.
func FuzzDelivery(f *testing.F) {
	f.Add("application/json", "utf-8", "id", "60000", uint8(1), []byte("x"), []byte{0, 1, 2, 3})
	f.Add("", "", "\xff", "-1", uint8(255), []byte{}, []byte{9, 9, 9, 4, 7, 7})
	f.Fuzz(func(t *testing.T, content, encoding, key, expiration string, priority uint8, body, shape []byte) {
		headers, depth := amqp.Table{}, headers(key, shape)
		headers[key] = depth
		headers[deliveryCount] = int64(priority) - 3
		d := amqp.Delivery{
			Headers: headers, ContentType: content, ContentEncoding: encoding, CorrelationId: key, Expiration: expiration, Priority: priority, Body: body,
			Timestamp: time.Unix(int64(len(shape))<<40, 0), Redelivered: priority%2 == 0,
		}
		out := deliveryOf(&d)
		if out.Count < 0 || out.Count > 1<<31 {
			t.Errorf("Count = %d", out.Count)
		}
		if string(out.Message.Body) != string(body) {
			t.Error("another body")
		}
		_ = republishing(&d)
		if _, err := publishingOf(out.Message); err != nil {
			return // what AMQP cannot carry is refused before it is sent
		}
		_, _ = protocol.DecodeTask(out.Message, protocol.DecodeOptions{Limits: protocol.Limits{Inflated: 1 << 20}})
	})
}

// headers makes a value of a table from bytes.
func headers(key string, shape []byte) any {
	if len(shape) == 0 {
		return nil
	}
	rest := shape[1:]
	switch shape[0] % 12 {
	case 0:
		return key
	case 1:
		return amqp.Table{key: headers(key, rest)}
	case 2:
		return []any{headers(key, rest), headers(key, rest[:len(rest)/2])}
	case 3:
		return []byte(key)
	case 4:
		return amqp.Decimal{Scale: shape[0], Value: int32(len(rest))}
	case 5:
		return time.Unix(int64(len(rest))<<36, 0)
	case 6:
		return float32(len(rest))
	case 7:
		if len(rest) >= 8 {
			return int64(binary.BigEndian.Uint64(rest))
		}
		return int8(len(rest))
	case 8:
		return uint32(len(rest))
	case 9:
		return true
	case 10:
		return int16(len(rest))
	}
	return uint16(len(rest))
}
