// Package rabbitmq is the transport for RabbitMQ over AMQP 0-9-1. It is a client of a broker that
// Celery workers use too: it attaches to queues with passive declares, creates them only when told to,
// and writes headers that every py-amqp reads.
//
// One Conn is two TCP connections, because RabbitMQ stops reading a connection that publishes during a
// memory or disk alarm: acknowledgements go out on the consuming one. Each queue has a channel of its
// own, so a channel error costs the deliveries of one queue only; prefetch is per consumer, never
// global, because quorum queues close the connection for global.
//
// Deliveries, acknowledgements, publishes and confirms go past the driver, through the same socket (see socket.go): it
// takes tens of microseconds for each. What is written while a write is under way goes out with the next one, and
// acknowledgements of neighbors in one frame. The driver keeps the connection, the channels and what is declared.
//
// What "the broker has done it" means here: a publish has been confirmed; an Ack or Reject has been
// written to a channel that was alive, as AMQP gives no reply to them. If the connection is lost at that
// moment the message may come again.
//
// The amqp091-go driver is imported here and nowhere else. Callers need only New; anyone else's broker
// is a package of its own that passes transporttest.
package rabbitmq
