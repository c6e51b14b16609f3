// Package rpcresult sends each result as a message to the client that sent the task, as Celery's rpc
// backend does (rpc://): to the queue named by the task's reply_to, with the task's correlation id.
// Nothing is stored, so nothing can be read back, expire, or be protected from a later state: a client
// sees every document in the order sent and ends at the first ready one.
//
// It works over any Transport (on Redis the message becomes an element of the list named by reply_to)
// and never declares the reply queue: that is the client's. When the client has gone the reply vanishes,
// which is not an error.
package rpcresult

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// The sizes of a message that brokers are known to refuse: RabbitMQ takes none beyond 512 MiB however it
// is configured, and beyond 16 MiB (its smallest default) a refusal is taken for the size's.
const (
	maxBody     = 512 << 20
	suspectBody = 16 << 20
)

// A Config says through which broker. Transport is required.
type Config struct {
	Transport  transports.Transport // connections of our own are made through it
	Persistent bool                 // result_persistent: replies survive a restart of the broker
	// Encoding: result_serializer and the zone of date_done. Its Compression is not looked at: Celery never
	// compresses a reply.
	Encoding protocol.Encoding
}

// A Backend sends results. It is safe for concurrent use; New makes one.
type Backend struct {
	transport                    transports.Transport
	encoding                     protocol.Encoding
	contentType, contentEncoding string
	mode                         uint8

	dialling chan struct{}      // capacity 1: held by who dials or closes; conn is replaced under it
	life     context.Context    // ends at Close
	end      context.CancelFunc // ends life

	mu   sync.Mutex
	conn transports.Conn // guarded by mu; nil before the first Store and after Close
}

var _ resultbackend.Backend = (*Backend)(nil)

// New checks cfg and returns a Backend, which connects at the first Store.
func New(cfg Config) (*Backend, error) {
	if cfg.Transport == nil {
		return nil, errors.New("rpcresult: Config.Transport is required")
	}
	cfg.Encoding.Compression = ""
	serializer := cfg.Encoding.Serializer
	if serializer == "" {
		serializer = "json"
	}
	_, contentType, contentEncoding, err := protocol.Serialize(serializer, nil)
	if err != nil {
		return nil, fmt.Errorf("rpcresult: Config.Encoding: %w", err)
	}
	b := &Backend{
		transport:       cfg.Transport,
		encoding:        cfg.Encoding,
		contentType:     contentType,
		contentEncoding: contentEncoding,
		mode:            1,
		dialling:        make(chan struct{}, 1),
	}
	if cfg.Persistent {
		b.mode = 2
	}
	b.life, b.end = context.WithCancel(context.Background())
	return b, nil
}

// String is "rpc://", as Celery prints it.
func (b *Backend) String() string { return "rpc://" }

// Store sends the record to r.ReplyTo; without a queue there it does nothing. Over is not looked at, for
// there is no record to compare with. A broken connection is dialled again, once for each Store.
func (b *Backend) Store(ctx context.Context, r resultbackend.Record) error {
	if err := b.over(ctx); err != nil {
		return err
	}
	if r.ReplyTo.Queue == "" {
		return nil
	}
	body, err := r.Result.Encode(b.encoding)
	if err != nil {
		return err
	}
	if len(body) > maxBody {
		return fmt.Errorf("rpcresult: reply of %d bytes: %w", len(body), resultbackend.ErrTooLarge)
	}
	conn, err := b.connected(ctx)
	if err != nil {
		return err
	}
	err = conn.Publish(ctx, transports.Publishing{RoutingKey: r.ReplyTo.Queue, Message: b.reply(r, body)})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, transports.ErrRefused) && len(body) > suspectBody:
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

// connected returns the living connection, or dials one. Of many callers one dials, the others wait.
func (b *Backend) connected(ctx context.Context) (transports.Conn, error) {
	if conn := b.living(); conn != nil {
		return conn, nil
	}
	select {
	case b.dialling <- struct{}{}:
		defer func() { <-b.dialling }()
	case <-ctx.Done():
		return nil, b.over(ctx)
	case <-b.life.Done():
		return nil, b.over(ctx)
	}
	if err := b.over(ctx); err != nil {
		return nil, err
	}
	if conn := b.living(); conn != nil { // somebody else dialled meanwhile
		return conn, nil
	}
	if old := b.swap(nil); old != nil {
		_ = old.Close() // it is broken: only its goroutines are waited for
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	conn, err := b.transport.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("rpcresult: %w: %w", resultbackend.ErrUnavailable, err)
	}
	b.swap(conn)
	return conn, nil
}

// living is the connection unless it is broken.
func (b *Backend) living() transports.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil {
		return nil
	}
	select {
	case <-b.conn.Done():
		return nil
	default:
		return b.conn
	}
}

func (b *Backend) swap(conn transports.Conn) (old transports.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, b.conn = b.conn, conn
	return old
}

// over is not nil when the caller's time or the Backend has ended.
func (b *Backend) over(ctx context.Context) error {
	if b.life.Err() != nil {
		return fmt.Errorf("rpcresult: closed: %w", resultbackend.ErrUnavailable)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("rpcresult: %w: %w", resultbackend.ErrUnavailable, err)
	}
	return nil
}

// Close ends the connection and waits for it. Stores after it, and those on their way, are ErrUnavailable.
func (b *Backend) Close() error {
	b.end()
	b.dialling <- struct{}{} // whoever dials gives up now
	defer func() { <-b.dialling }()
	conn := b.swap(nil)
	if conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
		return fmt.Errorf("rpcresult: %w", err)
	}
	return nil
}
