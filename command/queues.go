package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/transports"
)

// routeSettings are what canvas.ParseRoutes reads.
var routeSettings = []string{
	"task_queues", "task_routes", "task_default_queue", "task_default_exchange", "task_default_exchange_type", "task_default_routing_key",
	"task_default_queue_type", "task_create_missing_queues", "task_create_missing_queue_type", "task_create_missing_queue_exchange_type",
	"task_queue_max_priority",
}

// routes are where tasks go, as the settings say.
func routes(s *settings) (*canvas.Routes, error) {
	values := map[string]any{}
	for _, name := range routeSettings {
		if v, ok := s.get(name); ok {
			values[name] = v
		}
	}
	return canvas.ParseRoutes(values)
}

// selected are the queues to consume: all that are declared, or those of -Q, without those of -X.
func selected(rt *canvas.Routes, only, except []string) ([]transports.Queue, error) {
	drop := map[string]bool{}
	for _, name := range except {
		drop[name] = true
	}
	var names []string
	for _, q := range rt.Queues() {
		names = append(names, q.Name)
	}
	if len(only) > 0 {
		names = only
	}
	var out []transports.Queue
	for _, name := range names {
		if name = strings.TrimSpace(name); name == "" || drop[name] {
			continue
		}
		drop[name] = true // once
		q, ok := rt.Queue(name)
		if !ok {
			return nil, fmt.Errorf("-Q: queue %q is not in task_queues, and task_create_missing_queues is false", name)
		}
		out = append(out, declared(q))
	}
	if len(out) == 0 {
		return nil, errors.New("-Q, -X: no queue is left to consume")
	}
	return out, nil
}

// nativeDelay reports whether what is to wait goes through RabbitMQ's delay exchanges: as in Celery, when any queue
// it knows is a quorum queue. On other brokers nothing follows from it.
func nativeDelay(queues []transports.Queue) bool {
	return slices.ContainsFunc(queues, func(q transports.Queue) bool {
		kind, _ := q.Arguments.Get("x-queue-type")
		return kind == "quorum"
	})
}

// declared is a queue of the settings as a transport creates it when it is missing.
func declared(q canvas.Queue) transports.Queue {
	args := q.Arguments.Clone()
	if _, set := args.Get("x-queue-type"); !set && q.Quorum {
		args.Set("x-queue-type", "quorum")
	}
	return transports.Queue{
		Name: q.Name, Exchange: q.Exchange, Type: q.ExchangeType, RoutingKey: q.RoutingKey, Create: true, Arguments: args,
		Transient: q.Transient, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive,
	}
}
