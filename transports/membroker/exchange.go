package membroker

import (
	"strings"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// An exchange routes to queues and to subscriptions.
type exchange struct {
	kind     string // "direct", "topic", "fanout"
	bindings map[binding]struct{}
	subs     map[*subscription]string // the value is the pattern
}

// A binding ties a queue to an exchange under a key or pattern.
type binding struct{ key, queue string }

// declare makes q and its binding when the broker has no queue of that name. Called with mu held.
func (b *Broker) declare(d transports.Queue) *queue {
	if q := b.queues[d.Name]; q != nil {
		return q
	}
	q := &queue{name: d.Name}
	if n, ok := d.Arguments.Get("x-max-priority"); ok {
		if n, ok := n.(int64); ok {
			q.maxPriority = int(max(0, min(n, 255)))
		}
	}
	if x, ok := d.Arguments.Get("x-dead-letter-exchange"); ok {
		if x, ok := x.(string); ok {
			q.deadLetter = &x
		}
	}
	if k, ok := d.Arguments.Get("x-dead-letter-routing-key"); ok {
		q.deadKey, _ = k.(string)
	}
	b.queues[d.Name] = q
	if d.Exchange != "" && !d.Unbound {
		key := d.RoutingKey
		if key == "" {
			key = d.Name
		}
		b.exchange(d.Exchange, d.Type).bindings[binding{key, d.Name}] = struct{}{}
	}
	b.wake(d.Name)
	return q
}

// exchange finds the exchange or makes it. Called with mu held.
func (b *Broker) exchange(name, kind string) *exchange {
	x := b.exchanges[name]
	if x == nil {
		if kind == "" {
			kind = "direct"
		}
		x = &exchange{kind: kind, bindings: make(map[binding]struct{}), subs: make(map[*subscription]string)}
		b.exchanges[name] = x
	}
	return x
}

// route hands m, which is ours, to whatever is bound, a queue once at most, and returns how many took
// it. Called with mu held.
func (b *Broker) route(exchangeName, key string, m protocol.Message) int {
	m.Exchange, m.RoutingKey = exchangeName, key
	if exchangeName == "" {
		q := b.queues[key]
		if q == nil {
			return 0
		}
		b.enqueue(q, m)
		return 1
	}
	x := b.exchanges[exchangeName]
	if x == nil {
		// An exchange nobody made, named like a queue: what a client meant that relies on defaults.
		if q := b.queues[exchangeName]; q != nil && key == exchangeName {
			b.enqueue(q, m)
			return 1
		}
		return 0
	}
	taken := make(map[string]bool)
	for bound := range x.bindings {
		if !taken[bound.queue] && x.matches(bound.key, key) {
			taken[bound.queue] = true
			b.enqueue(b.queues[bound.queue], clone(m))
		}
	}
	n := len(taken)
	for s, pattern := range x.subs {
		if x.matches(pattern, key) {
			s.push(clone(m))
			n++
		}
	}
	return n
}

func (x *exchange) matches(pattern, key string) bool {
	switch x.kind {
	case "fanout":
		return true
	case "topic":
		return matchTopic(strings.Split(pattern, "."), strings.Split(key, "."))
	default:
		return pattern == key
	}
}

// matchTopic is AMQP's: * is one word, # is any number of words.
func matchTopic(pattern, words []string) bool {
	if len(pattern) == 0 {
		return len(words) == 0
	}
	if pattern[0] == "#" {
		return matchTopic(pattern[1:], words) || len(words) > 0 && matchTopic(pattern, words[1:])
	}
	return len(words) > 0 && (pattern[0] == "*" || pattern[0] == words[0]) && matchTopic(pattern[1:], words[1:])
}
