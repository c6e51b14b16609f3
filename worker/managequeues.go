package worker

import (
	"context"
	"fmt"
	"strings"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// addConsumer is `control add_consumer`: the answer comes at once, the declaration later. A queue of the settings has
// its own definition whatever the arguments say.
func addConsumer(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("queue")
	name, ok := asked.(string)
	if !ok || name == "" || len(name) > nameMax {
		return nil, protocol.NewException("ValueError", "queue is no name of a queue: "+protocol.PythonRepr(asked))
	}
	q, err := n.queueOf(name, args)
	if err != nil {
		return nil, err
	}
	if !n.queues.add(q) {
		return nil, protocol.NewException("MemoryError", fmt.Sprintf("more than %d queues", queuesMost))
	}
	return okCommand("add consumer " + name), nil
}

// nameMax is the longest name of AMQP.
const nameMax = 255

// queueOf is the queue that add_consumer describes, as kombu.Queue.from_dict reads its options. An exchange type that
// no broker could know is refused here: RabbitMQ closes the connection over it, with every task of ours.
func (n *Node) queueOf(name string, args *protocol.Object) (transports.Queue, error) {
	q := transports.Queue{Name: name, Create: true}
	for _, f := range []struct {
		name string
		to   *string
	}{{"exchange", &q.Exchange}, {"exchange_type", &q.Type}, {"routing_key", &q.RoutingKey}} {
		v, _ := args.Get(f.name)
		text, ok := v.(string)
		if !ok && v != nil || len(text) > nameMax {
			return q, protocol.NewException("TypeError", fmt.Sprintf("%s is no text that fits: %s", f.name, protocol.PythonRepr(v)))
		}
		*f.to = text
	}
	switch {
	case q.Type == "", q.Type == "direct", q.Type == "topic", q.Type == "fanout", q.Type == "headers", strings.HasPrefix(q.Type, "x-"):
	default:
		return q, protocol.NewException("ValueError", "no such exchange type: "+protocol.PythonRepr(q.Type))
	}
	if v, ok := args.Get("durable"); ok && v != nil {
		q.Transient = !protocol.Truthy(v)
	}
	autoDelete, _ := args.Get("auto_delete")
	exclusive, _ := args.Get("exclusive")
	q.AutoDelete, q.Exclusive = protocol.Truthy(autoDelete), protocol.Truthy(exclusive)
	q.Arguments = n.queueArguments(name, args)
	return q, nil
}

// queueArguments are the x- arguments: queue_arguments, Kombu's own names for some, and the priority that every queue
// of the settings has.
func (n *Node) queueArguments(name string, args *protocol.Object) *protocol.Object {
	out := &protocol.Object{}
	if v, _ := args.Get("queue_arguments"); v != nil {
		if o, ok := v.(*protocol.Object); ok {
			out = o.Clone()
		}
	}
	for _, f := range []struct {
		option, argument string
		scale            float64 // Kombu counts seconds, AMQP milliseconds
	}{
		{"expires", "x-expires", 1000},
		{"message_ttl", "x-message-ttl", 1000},
		{"max_length", "x-max-length", 1},
		{"max_length_bytes", "x-max-length-bytes", 1},
		{"max_priority", "x-max-priority", 1},
	} {
		v, _ := args.Get(f.option)
		if number, ok := pythonNumber(v); ok && number >= 0 && number < 1e12 {
			out.Set(f.argument, int64(number*f.scale))
		}
	}
	if n.cfg.Routes != nil {
		if other, ok := n.cfg.Routes.Queue(name); ok {
			if most, ok := other.Arguments.Get("x-max-priority"); ok {
				if _, own := out.Get("x-max-priority"); !own {
					out.Set("x-max-priority", most)
				}
			}
		}
	}
	if out.Len() == 0 {
		return nil
	}
	return out
}

// cancelConsumer is `control cancel_consumer`. The answer is the same for a queue nobody knows.
func cancelConsumer(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("queue")
	name := pythonText(asked)
	n.cfg.Logger.Info("Canceling queue " + printable(clip(name)))
	n.queues.cancel(name)
	return okCommand("no longer consuming from " + name), nil
}
