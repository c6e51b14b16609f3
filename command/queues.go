package command

import (
	"fmt"
	"strings"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// queueSet is what the settings say about queues, as celery/app/amqp.py Queues builds it.
type queueSet struct {
	defaults struct {
		name, exchange, kind, key string
	}
	missing     bool // task_create_missing_queues
	missingType string
	maxPriority int
	declared    []transports.Queue
}

func readQueues(s *settings) *queueSet {
	q := &queueSet{}
	q.defaults.name = s.text("task_default_queue", "celery")
	q.defaults.exchange = s.text("task_default_exchange", q.defaults.name)
	q.defaults.kind = s.text("task_default_exchange_type", "direct")
	q.defaults.key = s.text("task_default_routing_key", q.defaults.name)
	q.missing = s.flag("task_create_missing_queues", true)
	q.missingType = s.text("task_create_missing_queue_type", "classic")
	q.maxPriority = s.whole("task_queue_max_priority", 0)
	defaultType := s.text("task_default_queue_type", "classic")
	if v, ok := s.get("task_queues"); ok {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range sortedKeys(v) {
				m, ok := v[name].(map[string]any)
				if !ok && v[name] != nil {
					s.bad("task_queues", "a mapping for each queue; "+name+" is not", v[name])
					continue
				}
				q.declared = append(q.declared, q.queue(s, name, m))
			}
		case []any:
			for i, e := range v {
				switch e := e.(type) {
				case string:
					q.declared = append(q.declared, q.queue(s, e, nil))
				case map[string]any:
					name, _ := e["name"].(string)
					if name == "" {
						s.bad("task_queues", fmt.Sprintf("a name in its entry %d", i+1), e)
						continue
					}
					q.declared = append(q.declared, q.queue(s, name, e))
				default:
					s.bad("task_queues", "a list of names or mappings", e)
				}
			}
		default:
			s.bad("task_queues", "a mapping or a list", v)
		}
	}
	if q.declared == nil {
		d := transports.Queue{Name: q.defaults.name, Exchange: q.defaults.exchange, Type: q.defaults.kind, RoutingKey: q.defaults.key, Create: true}
		d.Arguments = q.arguments(nil, defaultType)
		q.declared = []transports.Queue{d}
	}
	return q
}

// queue is one entry of task_queues (kombu/entity.py Queue.from_dict).
func (q *queueSet) queue(s *settings, name string, m map[string]any) transports.Queue {
	text := func(keys ...string) string {
		for _, k := range keys {
			if v, ok := m[k].(string); ok {
				return v
			}
		}
		return ""
	}
	yes := func(key string, otherwise bool) bool {
		if b, ok := m[key].(bool); ok {
			return b
		}
		return otherwise
	}
	d := transports.Queue{
		Name: name, Exchange: text("exchange"), Type: text("exchange_type"), RoutingKey: text("routing_key", "binding_key"),
		Create: true, Transient: !yes("durable", true), AutoDelete: yes("auto_delete", false), Exclusive: yes("exclusive", false),
	}
	if d.Exchange == "" {
		d.Exchange, d.Type = q.defaults.exchange, q.defaults.kind
	}
	if d.Type == "" {
		d.Type = "direct"
	}
	if d.RoutingKey == "" {
		d.RoutingKey = q.defaults.key
	}
	args := map[string]any{}
	if given, ok := m["queue_arguments"].(map[string]any); ok {
		for k, v := range given {
			args[k] = v
		}
	}
	// kombu/transport/base.py to_rabbitmq_queue_arguments: seconds become milliseconds.
	for key, arg := range map[string]string{"expires": "x-expires", "message_ttl": "x-message-ttl"} {
		switch v := m[key].(type) {
		case int:
			args[arg] = v * 1000
		case float64:
			args[arg] = int(v * 1000)
		}
	}
	for key, arg := range map[string]string{"max_length": "x-max-length", "max_length_bytes": "x-max-length-bytes", "max_priority": "x-max-priority"} {
		if v, ok := m[key].(int); ok {
			args[arg] = v
		}
	}
	d.Arguments = q.arguments(args, "classic")
	for k, v := range args {
		if _, err := protocol.FromGo(v); err != nil {
			s.bad("task_queues", "a queue argument "+k+" that can be sent", v)
		}
	}
	return d
}

// arguments adds what the settings add to every queue.
func (q *queueSet) arguments(args map[string]any, queueType string) *protocol.Object {
	o := &protocol.Object{}
	for _, k := range sortedKeys(args) {
		if v, err := protocol.FromGo(args[k]); err == nil {
			o.Set(k, v)
		}
	}
	if _, set := o.Get("x-max-priority"); !set && q.maxPriority > 0 {
		o.Set("x-max-priority", int64(q.maxPriority))
	}
	if _, set := o.Get("x-queue-type"); !set && queueType == "quorum" {
		o.Set("x-queue-type", "quorum")
	}
	return o
}

// selected are the queues to consume: all that are declared, or those of -Q, without those of -X.
func (q *queueSet) selected(only, except []string) ([]transports.Queue, error) {
	drop := map[string]bool{}
	for _, name := range except {
		drop[name] = true
	}
	byName := map[string]transports.Queue{}
	var names []string
	for _, d := range q.declared {
		byName[d.Name] = d
		names = append(names, d.Name)
	}
	if len(only) > 0 {
		names = only
	}
	var out []transports.Queue
	seen := map[string]bool{}
	for _, name := range names {
		if name = strings.TrimSpace(name); name == "" || drop[name] || seen[name] {
			continue
		}
		seen[name] = true
		d, ok := byName[name]
		if !ok {
			if !q.missing {
				return nil, fmt.Errorf("-Q: queue %q is not in task_queues, and task_create_missing_queues is false", name)
			}
			d = transports.Queue{Name: name, Exchange: name, Type: "direct", RoutingKey: name, Create: true, Arguments: q.arguments(nil, q.missingType)}
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-Q, -X: no queue is left to consume")
	}
	return out, nil
}
