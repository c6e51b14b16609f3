package rabbitmq

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// deliveryCount is the header by which a quorum queue counts: 1 at the first redelivery. It says
// something about one queue only, so it is shown as Delivery.Count and never sent on.
const deliveryCount = "x-delivery-count"

// acquiredCount is a second count of RabbitMQ 4.3: of all deliveries, also of those that were given back with
// basic.nack and are not held against a message there. Nothing follows from it here; it is not sent on either.
const acquiredCount = "x-acquired-count"

// movedCount is the count of a message that was moved, of the queue it came from. It must not keep the broker's own
// name: a quorum queue of the target would show its own count under it.
const movedCount = "x-stalk-delivery-count"

// errMalformedHeaders is Delivery.Malformed of a message whose header table is no table.
var errMalformedHeaders = errors.New("rabbitmq: the message's header table cannot be read")

// deliveryOf decodes d. Receipt and Queue are the caller's.
//
// Count comes from a header that is there from the second delivery on; a message sent on by somebody who
// copied it shows it at its first delivery too, where it means nothing.
func deliveryOf(d *amqp.Delivery) *transports.Delivery {
	out := &transports.Delivery{Message: messageOf(d), Redelivered: d.Redelivered}
	if _, bad := d.Headers[markMalformed]; bad {
		out.Malformed = errMalformedHeaders
		out.Message.Headers = nil
	}
	if n := returnsOf(d); n > 0 {
		out.Count = n + 1
	}
	return out
}

// received decodes what came past the driver. Receipt and Queue are the caller's. returns is returnsOf.
func received(d *content, redelivered bool) (out *transports.Delivery, returns int) {
	p := parcelOf(d.header)
	out = &transports.Delivery{
		Message:     protocol.Message{Properties: p.properties, Body: d.body, Exchange: d.exchange, RoutingKey: d.key},
		Redelivered: redelivered,
	}
	if p.bad || d.malformed {
		out.Malformed = errMalformedHeaders
		return out, 0
	}
	if !p.hasTable {
		return out, 0
	}
	r := textReading{rest: p.table}
	headers := &protocol.Object{}
	for len(r.rest) > 0 {
		key := r.short()
		v := r.field()
		switch {
		case r.bad:
		case key == deliveryCount:
			returns = returnsIn(v, redelivered)
		case key == acquiredCount, key == movedCount:
		default:
			headers.Set(key, v)
		}
	}
	out.Message.Headers = headers
	if returns > 0 {
		out.Count = returns + 1
	}
	return out, returns
}

// driverDelivery is d as the driver would have given it, for those who send it on.
func driverDelivery(d *content, redelivered bool) *amqp.Delivery {
	p := parcelOf(d.header)
	q := p.properties
	out := &amqp.Delivery{
		ContentType: q.ContentType, ContentEncoding: q.ContentEncoding, CorrelationId: q.CorrelationID, ReplyTo: q.ReplyTo,
		DeliveryMode: q.DeliveryMode, Expiration: q.Expiration, MessageId: q.MessageID, Timestamp: q.Timestamp, Type: q.Type,
		UserId: q.UserID, AppId: q.AppID, Redelivered: redelivered, Exchange: d.exchange, RoutingKey: d.key, Body: d.body,
	}
	if q.Priority != nil {
		out.Priority = uint8(*q.Priority)
	}
	switch {
	case d.malformed:
		out.Headers = amqp.Table{markMalformed: []byte(p.table)}
	case p.hasTable:
		r := textReading{rest: p.table}
		out.Headers = r.table()
	}
	return out
}

// returnsOf is how often a quorum queue says that the message came back to it; 0 also where nobody counts.
func returnsOf(d *amqp.Delivery) int {
	return returnsIn(valueOf(d.Headers[deliveryCount]), d.Redelivered)
}

func returnsIn(count protocol.Value, redelivered bool) int {
	if n, ok := count.(int64); ok && redelivered && n > 0 && n < 1<<31 {
		return int(n)
	}
	return 0
}

func messageOf(d *amqp.Delivery) protocol.Message {
	m := protocol.Message{
		Properties: protocol.Properties{
			ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, CorrelationID: d.CorrelationId,
			ReplyTo: d.ReplyTo, DeliveryMode: d.DeliveryMode, Expiration: d.Expiration, MessageID: d.MessageId,
			Timestamp: d.Timestamp, Type: d.Type, UserID: d.UserId, AppID: d.AppId,
		},
		Body: d.Body, Exchange: d.Exchange, RoutingKey: d.RoutingKey,
	}
	_, zero := d.Headers[markPriority]
	if d.Priority > 0 || zero {
		m.Properties.Priority = new(int(d.Priority))
	}
	if d.Headers != nil {
		m.Headers = objectOf(d.Headers)
		m.Headers.Delete(markPriority)
		for _, name := range []string{deliveryCount, acquiredCount, movedCount} {
			m.Headers.Delete(name)
		}
	}
	return m
}

// publishingOf encodes m. What AMQP cannot carry is an error, as sending it would cost the connection.
func publishingOf(m protocol.Message) (amqp.Publishing, error) {
	headers, err := tableOf(m.Headers)
	if err != nil {
		return amqp.Publishing{}, fmt.Errorf("rabbitmq: headers: %w", err)
	}
	delete(headers, deliveryCount)
	delete(headers, acquiredCount)
	p := m.Properties
	out := amqp.Publishing{
		Headers: headers, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, CorrelationId: p.CorrelationID,
		ReplyTo: p.ReplyTo, DeliveryMode: p.DeliveryMode, Expiration: p.Expiration, MessageId: p.MessageID,
		Timestamp: p.Timestamp, Type: p.Type, UserId: p.UserID, AppId: p.AppID, Body: m.Body,
	}
	if p.Priority != nil {
		out.Priority = uint8(max(0, min(*p.Priority, 255))) // 0 is left out by the driver; the broker makes no difference
	}
	return out, checkPublishing(out)
}

// republishing is d again, to be published: every property and header as it came, but for what its queue counted, and
// for the other queues that it was copied to: they have theirs.
func republishing(d *amqp.Delivery) amqp.Publishing {
	headers := maps.Clone(d.Headers)
	for _, name := range []string{markPriority, markMalformed, deliveryCount, acquiredCount, "CC", "BCC"} {
		delete(headers, name)
	}
	return amqp.Publishing{
		Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, CorrelationId: d.CorrelationId,
		ReplyTo: d.ReplyTo, DeliveryMode: d.DeliveryMode, Priority: d.Priority, Expiration: d.Expiration, MessageId: d.MessageId,
		Timestamp: d.Timestamp, Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
	}
}

func checkPublishing(p amqp.Publishing) error {
	for _, s := range []struct{ what, text string }{
		{"content_type", p.ContentType},
		{"content_encoding", p.ContentEncoding},
		{"correlation_id", p.CorrelationId},
		{"reply_to", p.ReplyTo},
		{"expiration", p.Expiration},
		{"message_id", p.MessageId},
		{"type", p.Type},
		{"user_id", p.UserId},
		{"app_id", p.AppId},
	} {
		if err := short(s.what, s.text); err != nil {
			return err
		}
	}
	if p.Expiration != "" && (len(p.Expiration) > 10 || strings.Trim(p.Expiration, "0123456789") != "") {
		return fmt.Errorf("rabbitmq: expiration %q, want milliseconds: %w", p.Expiration, transports.ErrRefused)
	}
	return fits(p, frameMax)
}

// fits checks that headers and properties take no more than a frame of the broker.
func fits(p amqp.Publishing, frame int) error {
	size := contentHead + tableSize(p.Headers) + 2 + 8 // mode, priority, timestamp
	for _, s := range []string{p.ContentType, p.ContentEncoding, p.CorrelationId, p.ReplyTo, p.Expiration, p.MessageId, p.Type, p.UserId, p.AppId} {
		size += 1 + len(s)
	}
	if size > frame-frameExtra {
		return fmt.Errorf("rabbitmq: headers and properties take %d bytes, a frame has %d: %w", size, frame-frameExtra, transports.ErrRefused)
	}
	return nil
}

// short checks what becomes an AMQP short string; the driver would drop the connection over a long one.
func short(what, text string) error {
	if len(text) > maxShort {
		return fmt.Errorf("rabbitmq: %s of %d bytes, AMQP has room for %d: %w", what, len(text), maxShort, transports.ErrRefused)
	}
	return nil
}
