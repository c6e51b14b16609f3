package protocol

import "time"

// A Message is what a broker carries, decoded as far as a broker's client does it: Body is still
// compressed and serialized.
type Message struct {
	Headers    *Object // application headers; nil means none
	Properties Properties
	Body       []byte
	Exchange   string // where it was published: delivery_info
	RoutingKey string
}

// Properties are AMQP's basic properties, or the "properties" of a Redis envelope. An empty text means absent.
type Properties struct {
	ContentType     string
	ContentEncoding string
	CorrelationID   string
	ReplyTo         string
	DeliveryMode    uint8 // 2 persistent, 1 transient; 0 absent
	Priority        *int  // nil: absent
	Expiration      string
	MessageID       string
	Timestamp       time.Time // zero: absent
	Type            string
	UserID          string
	AppID           string
	Extra           *Object // what else an envelope held there; nil means nothing
}

// Limits bound what reading one message may cost. A zero field means its default.
type Limits struct {
	Inflated int // bytes of a body, after decompression; 0: 128 MiB
	Depth    int // nesting of values; 0: 400, what a Celery worker survives
	Values   int // values in one document, a list or an object counting four; 0: 5,000,000

	// Seal is what signed content is checked with: no limit, but known wherever something is read. nil: nothing
	// signed is read.
	Seal Seal
}

// The defaults of Limits.
const (
	DefaultInflated = 128 << 20
	DefaultDepth    = 400
	DefaultValues   = 5_000_000 // about half a gigabyte at the worst: a few kilobytes of gzip can hold a billion
)
