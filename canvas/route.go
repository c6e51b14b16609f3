package canvas

import (
	"cmp"
	"fmt"

	"github.com/stalkworker/stalk/protocol"
)

// A Queue is a queue as the settings declare it, or as task_create_missing_queues makes it up.
type Queue struct {
	Name         string
	Exchange     string
	ExchangeType string // direct, topic, ...
	RoutingKey   string
	Quorum       bool // x-queue-type is quorum

	// For creating it: x-max-priority and the like (Quorum is added to them), and what AMQP means by these.
	Arguments                        *protocol.Object
	Transient, AutoDelete, Exclusive bool
}

// A Destination says where a message goes.
type Destination struct {
	Exchange   string // "": the default exchange; RoutingKey is then a queue's name
	RoutingKey string
	Queue      *Queue // to be declared before publishing; nil: none

	kind string // type of the exchange the message was meant for
}

// Routes is where tasks go: task_queues, task_routes and their defaults. It is immutable and safe for
// concurrent use. A nil *Routes is an app without settings.
type Routes struct {
	queues          map[string]*Queue // by name, and by alias
	order           []string          // their names as declared
	routers         []router
	defaultQueue    string
	defaultExchange string
	defaultType     string
	defaultKey      string
	createMissing   bool
	missingQuorum   bool
	missingType     string // exchange type of queues made up; "": direct
	maxPriority     int    // x-max-priority of queues without one; 0: none
}

// appDefaults are the routes of an app without settings.
var appDefaults = &Routes{
	queues:       map[string]*Queue{"celery": {Name: "celery", Exchange: "celery", ExchangeType: "direct", RoutingKey: "celery"}},
	order:        []string{"celery"},
	defaultQueue: "celery", defaultExchange: "celery", defaultType: "direct", defaultKey: "celery", createMissing: true,
}

// Route says where a task goes that is called with the options (queue, exchange, exchange_type and
// routing_key count; nil means none). The error says that a queue is not declared and may not be made up.
func (rt *Routes) Route(name string, options *protocol.Object) (Destination, error) {
	dest, _, err := rt.route(name, options.Clone())
	return dest, err
}

// Queue is the declaration of the queue of that name, if there is one or one may be made up.
func (rt *Routes) Queue(name string) (Queue, bool) {
	if rt == nil {
		rt = appDefaults
	}
	q, err := rt.queue(name)
	if err != nil {
		return Queue{}, false
	}
	return *q, true
}

// Queues are the declared queues, in their order: those a worker without -Q consumes.
func (rt *Routes) Queues() []Queue {
	if rt == nil {
		rt = appDefaults
	}
	out := make([]Queue, len(rt.order))
	for i, name := range rt.order {
		out[i] = *rt.queues[name]
	}
	return out
}

// Quorum reports whether a declared queue is a quorum queue (see Env.NativeDelay).
func (rt *Routes) Quorum() bool {
	if rt == nil {
		return false
	}
	for _, q := range rt.queues {
		if q.Quorum {
			return true
		}
	}
	return false
}

func (rt *Routes) queue(name string) (*Queue, error) {
	if q, ok := rt.queues[name]; ok {
		return q, nil
	}
	if !rt.createMissing {
		return nil, fmt.Errorf("queue %q is missing from task_queues", name)
	}
	return &Queue{
		Name: name, Exchange: name, ExchangeType: cmp.Or(rt.missingType, "direct"), RoutingKey: name, Quorum: rt.missingQuorum,
		Arguments: rt.arguments(nil),
	}, nil
}

// arguments are a queue's own and what the settings add to every queue; nil when there are none.
func (rt *Routes) arguments(own *protocol.Object) *protocol.Object {
	if _, set := own.Get("x-max-priority"); set || rt.maxPriority == 0 {
		return own
	}
	own = own.Clone()
	own.Set("x-max-priority", int64(rt.maxPriority))
	return own
}

// route is Router.route and the address rules of AMQP.send_task_message. It takes queue, exchange,
// exchange_type and routing_key out of o, which is the caller's to lose, and returns the options with what
// the matching route adds.
func (rt *Routes) route(name string, o *protocol.Object) (Destination, *protocol.Object, error) {
	if rt == nil {
		rt = appDefaults
	}
	q, err := rt.expand(o)
	if err != nil {
		return Destination{}, o, err
	}
	var base *protocol.Object
	if len(rt.routers) > 0 {
		base = rt.lookup(name)
	}
	switch {
	case base.Len() > 0:
		base = base.Clone()
		own, err := rt.expand(base)
		if err != nil {
			return Destination{}, o, fmt.Errorf("task_routes: %w", err)
		}
		if q == nil {
			q = own
		}
		o = overlay(base, o)
	case q == nil:
		if q, err = rt.queue(rt.defaultQueue); err != nil {
			return Destination{}, o, err
		}
		o = overlay(&protocol.Object{}, o)
	}
	exchange, err := popText(o, "exchange")
	key, err2 := popText(o, "routing_key")
	kind, err3 := popText(o, "exchange_type")
	if err = cmp.Or(err, err2, err3); err != nil {
		return Destination{}, o, err
	}
	if q == nil && exchange == "" {
		if q, err = rt.queue(rt.defaultQueue); err != nil {
			return Destination{}, o, err
		}
	}
	d := Destination{Queue: q, Exchange: exchange, RoutingKey: key, kind: kind}
	var inherited Queue
	if q != nil {
		inherited = *q
	}
	d.kind = cmp.Or(kind, inherited.ExchangeType, "direct")
	switch {
	case (exchange == "" || key == "") && d.kind == "direct" && q != nil:
		d.Exchange, d.RoutingKey = "", q.Name
	case exchange == "":
		d.Exchange = cmp.Or(inherited.Exchange, rt.defaultExchange)
		d.RoutingKey = cmp.Or(key, inherited.RoutingKey, rt.defaultKey)
	case key == "" && q == nil:
		// An exchange without key and queue: Celery publishes to no queue at all. The default key is the
		// least surprising one.
		d.RoutingKey = rt.defaultKey
	}
	return d, o, nil
}

// expand takes the queue out of the options and finds its declaration; nil: none is named.
func (rt *Routes) expand(o *protocol.Object) (*Queue, error) {
	name, err := popText(o, "queue")
	if err != nil || name == "" {
		return nil, err
	}
	return rt.queue(name)
}

// overlay is lpmerge: null does not replace what is there, and is not kept.
func overlay(base, o *protocol.Object) *protocol.Object {
	for _, m := range o.Members() {
		if m.Value != nil {
			base.Set(m.Key, m.Value)
		}
	}
	return base
}

func popText(o *protocol.Object, key string) (string, error) {
	v, there := o.Get(key)
	if !there {
		return "", nil
	}
	o.Delete(key)
	s, ok := v.(string)
	if v != nil && !ok {
		return "", fmt.Errorf("option %s is %s, want a text", key, describe(v))
	}
	return s, nil
}
