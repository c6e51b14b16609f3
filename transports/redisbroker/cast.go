package redisbroker

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/stalkworker/stalk/transports"
)

// This file serves queues of a fanout exchange (Celery's Broadcast). Their messages come by the channel;
// what a client that did not know the exchange pushed to the list of the queue's name is taken like any
// other message.

// listen makes the subscriptions of the wanted queues and ends those of the others.
func (k *consumer) listen(ctx context.Context, queues []transports.Queue) error {
	t := k.c.t
	for _, q := range queues {
		t.mu.Lock()
		have := k.casts[q.Name] != nil
		t.mu.Unlock()
		if have || q.Type != "fanout" {
			continue
		}
		s, err := k.c.subscribe(ctx, transports.Fanout{Exchange: q.Exchange, Type: "fanout", RoutingKey: q.RoutingKey})
		if err != nil {
			return err
		}
		t.mu.Lock()
		k.casts[q.Name] = s
		t.mu.Unlock()
		if err := k.c.start(func() { k.relay(s, q.Name) }); err != nil {
			return err
		}
	}
	var drop []*subscription
	t.mu.Lock()
	for name, s := range k.casts {
		if !slices.ContainsFunc(queues, func(q transports.Queue) bool { return q.Name == name && q.Type == "fanout" }) {
			drop = append(drop, s)
			delete(k.casts, name)
		}
	}
	t.mu.Unlock()
	for _, s := range drop {
		_ = s.Close()
	}
	return nil
}

// relay hands broadcasts to Receive. They are not stashed: nobody could restore them to anywhere.
func (k *consumer) relay(s *subscription, queue string) {
	for {
		h, err := s.next(context.Background())
		if err != nil {
			return
		}
		l := &lease{t: k.c.t, queue: queue, raw: string(h.raw), free: true, owner: k.c, consumer: k}
		d := &transports.Delivery{Message: h.m, Queue: queue, Receipt: l}
		k.c.t.mu.Lock()
		over := k.over() != nil
		room := k.buffer.len() < broadcastBuffer
		if !over && room {
			k.buffer.push(delivery{d, l})
		}
		k.c.t.mu.Unlock()
		switch {
		case over:
			return
		case !room:
			k.c.t.warning("broadcast dropped: too many are waiting", "exchange", s.name, "waiting", broadcastBuffer)
		default:
			signal(k.ready)
		}
	}
}

// tagOf is the delivery tag of an envelope.
func tagOf(raw []byte) string {
	var e struct {
		Properties struct {
			Tag string `json:"delivery_tag"`
		} `json:"properties"`
	}
	_ = json.Unmarshal(raw, &e) // it decoded a moment ago; without a tag nothing is a duplicate of it
	return e.Properties.Tag
}
