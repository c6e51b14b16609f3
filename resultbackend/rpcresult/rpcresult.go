// Package rpcresult sends each result as a message to the client that sent the task, as Celery's rpc
// backend does (rpc://): to the queue named by the task's reply_to, with the task's correlation id.
// Nothing is stored, so nothing can be read back, expire, or be protected from a later state: a client
// sees every document in the order sent and ends at the first ready one.
//
// It works over any Transport (on Redis the message becomes an element of the list named by reply_to)
// and never declares the reply queue: that is the client's. When the client has gone the reply vanishes,
// which is not an error. Replies is such a client's side of it.
package rpcresult

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/internal/redial"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

const (
	defaultMost = 128 << 20 // Config.Most when it is not set; RabbitMQ takes nothing beyond 512 MiB however it is configured
	suspectBody = 16 << 20  // beyond its smallest default a refusal is taken for the size's
)

// DefaultExpires is Celery's result_expires when it is not set.
const DefaultExpires = 24 * time.Hour

// A Config says through which broker. Transport is required.
type Config struct {
	Transport  transports.Transport // connections of our own are made through it
	Persistent bool                 // result_persistent: replies survive a restart of the broker
	// Expires is when the reply queue of a client that has gone is deleted (result_expires); 0: DefaultExpires.
	Expires time.Duration
	// Encoding: result_serializer and the zone of date_done. Its Compression is not looked at: Celery never
	// compresses a reply.
	Encoding protocol.Encoding
	Most     int // bytes of a reply; more is ErrTooLarge; 0: 128 MiB
}

// A Backend sends results. It is safe for concurrent use; New makes one.
type Backend struct {
	encoding                     protocol.Encoding
	contentType, contentEncoding string
	mode                         uint8
	most                         int // bytes of a reply

	line    *redial.Line
	replies *replies
}

var (
	_ resultbackend.Backend = (*Backend)(nil)
	_ resultbackend.Replier = (*Backend)(nil)
)

// New checks cfg and returns a Backend, which connects at the first Store.
func New(cfg Config) (*Backend, error) {
	if cfg.Transport == nil {
		return nil, errors.New("rpcresult: Config.Transport is required")
	}
	cfg.Encoding.Compression = ""
	if cfg.Expires < 0 {
		return nil, fmt.Errorf("rpcresult: Config.Expires is %v, want 0 or more", cfg.Expires)
	}
	_, contentType, contentEncoding, err := cfg.Encoding.Serialize(nil)
	if err != nil {
		return nil, fmt.Errorf("rpcresult: Config.Encoding: %w", err)
	}
	b := &Backend{
		encoding:        cfg.Encoding,
		contentType:     contentType,
		contentEncoding: contentEncoding,
		mode:            1,
		most:            cmp.Or(cfg.Most, defaultMost),
		line:            redial.New(cfg.Transport),
		replies:         newReplies(cfg.Transport, cmp.Or(cfg.Expires, DefaultExpires), cfg.Encoding),
	}
	if cfg.Persistent {
		b.mode = 2
	}
	return b, nil
}

// String is "rpc://", as Celery prints it.
func (b *Backend) String() string { return "rpc://" }

// Store sends the record to r.ReplyTo; without a queue there it does nothing. Over is not looked at, for
// there is no record to compare with. A broken connection is dialled again, once for each Store.
func (b *Backend) Store(ctx context.Context, r resultbackend.Record) error {
	if err := b.line.Over(ctx); err != nil {
		return b.dialled(err)
	}
	if r.ReplyTo.Queue == "" {
		return nil
	}
	body, err := r.Result.Encode(b.encoding)
	if err != nil {
		return err
	}
	if len(body) > b.most {
		return fmt.Errorf("rpcresult: reply of %d bytes, at most %d are sent: %w", len(body), b.most, resultbackend.ErrTooLarge)
	}
	conn, err := b.line.Conn(ctx)
	if err != nil {
		return b.dialled(err)
	}
	err = conn.Publish(ctx, transports.Publishing{RoutingKey: r.ReplyTo.Queue, Message: b.reply(r, body)})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, transports.ErrRefused) && !errors.Is(err, transports.ErrBlocked) && len(body) > suspectBody:
		return fmt.Errorf("rpcresult: reply of %d bytes: %w: %v", len(body), resultbackend.ErrTooLarge, err)
	}
	return fmt.Errorf("rpcresult: %w: %w", resultbackend.ErrUnavailable, err)
}

// reply is the message as Celery sends it.
func (b *Backend) reply(r resultbackend.Record, body []byte) protocol.Message {
	id := r.ReplyTo.CorrelationID
	if id == "" {
		id = r.Result.TaskID
	}
	return protocol.Message{
		Headers: &protocol.Object{},
		Properties: protocol.Properties{
			ContentType:     b.contentType,
			ContentEncoding: b.contentEncoding,
			CorrelationID:   id,
			DeliveryMode:    b.mode,
			Priority:        new(0),
		},
		Body: body,
	}
}

// dialled is the error of a connection that could not be had.
func (b *Backend) dialled(err error) error {
	if errors.Is(err, redial.ErrClosed) {
		return fmt.Errorf("rpcresult: closed: %w", resultbackend.ErrUnavailable)
	}
	return fmt.Errorf("rpcresult: %w: %w", resultbackend.ErrUnavailable, err)
}

// Close ends the connection and waits for it. Stores after it, and those on their way, are ErrUnavailable.
func (b *Backend) Close() error {
	err := cmp.Or(b.line.Close(), b.replies.close())
	if err != nil && !errors.Is(err, transports.ErrDisconnected) {
		return fmt.Errorf("rpcresult: %w", err)
	}
	return nil
}
