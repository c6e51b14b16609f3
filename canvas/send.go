package canvas

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// options takes named options out of a call, as Python's keyword arguments do.
type options struct {
	o    *protocol.Object // a private copy
	part string
	err  error
}

func (p *options) pop(key string) protocol.Value {
	v, ok := p.o.Get(key)
	if ok {
		p.o.Delete(key)
	}
	return v
}

func (p *options) bad(key string, v protocol.Value, want string) {
	if p.err == nil {
		p.err = &SignatureError{Part: p.part + ".options." + key, Err: fmt.Errorf("is %s, want %s", describe(v), want)}
	}
}

func (p *options) text(key string) string {
	v := p.pop(key)
	s, ok := v.(string)
	if v != nil && !ok {
		p.bad(key, v, "a text")
	}
	return s
}

// id is a text that becomes an id somewhere.
func (p *options) id(key string) string {
	s := p.text(key)
	if len(s) > protocol.MaxIDBytes {
		p.bad(key, s, "an id of at most 255 bytes")
	}
	return s
}

// seconds is a number of seconds; ok is false for null and missing.
func (p *options) seconds(key string, v protocol.Value) (d time.Duration, ok bool) {
	f, ok := number(v)
	switch {
	case v == nil:
		return 0, false
	case !ok || math.IsNaN(f) || math.Abs(f) > 9e9:
		p.bad(key, v, "a number of seconds")
		return 0, false
	}
	return time.Duration(math.Round(f*1e6)) * time.Microsecond, true
}

func (p *options) whole(key string) *int {
	v := p.pop(key)
	if v == nil {
		return nil
	}
	f, ok := number(v)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<31 {
		p.bad(key, v, "a whole number")
		return nil
	}
	n := int(f)
	return &n
}

func number(v protocol.Value) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	case bool:
		if n {
			return 1, true
		}
		return 0, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(n).Float64()
		return f, true
	case protocol.Decimal:
		f, err := strconv.ParseFloat(string(n), 64)
		return f, err == nil
	}
	return 0, false
}

// instant is a point of time as options hold it: a datetime, or its text.
func (p *options) instant(key string, v protocol.Value) time.Time {
	switch v := v.(type) {
	case nil:
	case protocol.DateTime:
		return v.Time
	case string:
		if t, err := protocol.ParseTimestamp(v); err == nil {
			return t
		}
		p.bad(key, v, "a date and time")
	default:
		p.bad(key, v, "a date and time")
	}
	return time.Time{}
}

// notNull drops null options: null means not given (Signature.apply_async).
func notNull(o *protocol.Object) *protocol.Object {
	c := &protocol.Object{}
	for _, m := range o.Members() {
		if m.Value != nil {
			c.Set(m.Key, m.Value)
		}
	}
	return c
}

// with is o overlaid by more; neither is changed.
func with(o *protocol.Object, more ...protocol.Member) *protocol.Object {
	c := o.Clone()
	for _, m := range more {
		c.Set(m.Key, m.Value)
	}
	return c
}

// applyTask is Signature.apply_async of what is one task.
func (r *run) applyTask(s *sig, args []protocol.Value, kwargs, call *protocol.Object) *result {
	call = notNull(call)
	if s.class == chunksClass {
		return r.applyChunks(s, args, kwargs, call)
	}
	route := s.task
	a, k, o := s.args, s.kwargs, s.options
	if s.class != taskClass { // map and starmap take nothing, and route by the task they call
		o = mergeOptions(s, call, true)
		inner, _ := s.kwargs.Get("task")
		it, _ := s.kwargs.Get("it")
		a, k = nil, protocol.ObjectOf(protocol.Member{Key: "task", Value: inner}, protocol.Member{Key: "it", Value: it})
		o = o.Clone()
		p := options{o: o, part: s.task}
		route = cmp.Or(p.text("route_name"), protocol.SignatureName(inner), s.task)
	} else if call.Delete("route_name"); len(args) > 0 || kwargs.Len() > 0 || call.Len() > 0 {
		a, k, o = merge(s, args, kwargs, call)
	}
	return r.sendTask(s.task, route, a, k, o)
}

// applyChunks is chunks.apply_async: a group of celery.starmap.
func (r *run) applyChunks(s *sig, args []protocol.Value, kwargs, call *protocol.Object) *result {
	inner, _ := s.kwargs.Get("task")
	it, _ := s.kwargs.Get("it")
	items, ok := it.([]protocol.Value)
	size, _ := s.kwargs.Get("n")
	n, isInt := size.(int64)
	if !ok || !isInt || n < 1 {
		r.fail(s.task, errors.New("chunks needs a list and a size"))
		return &result{group: true}
	}
	g := newGroup(listOf(nil), &protocol.Object{})
	l := g.list("tasks")
	for len(items) > 0 {
		part := items[:min(int64(len(items)), n)]
		items = items[len(part):]
		m := newSig(starmapClass, "celery.starmap", "", protocol.ObjectOf(
			protocol.Member{Key: "task", Value: inner}, protocol.Member{Key: "it", Value: part}), &protocol.Object{})
		m.immutable = true
		l.items = append(l.items, m)
		r.spend()
	}
	return r.applyGroup(g, args, kwargs, call)
}

// sendTask is Task.apply_async and Celery.send_task: the options become a message.
func (r *run) sendTask(name, route string, args []protocol.Value, kwargs, opts *protocol.Object) *result {
	known, isKnown := r.env.defaults(name)
	if isKnown {
		opts = known.under(opts)
	}
	p := &options{o: opts.Clone(), part: name}
	t := &protocol.Task{
		Name: name, Protocol: 2, Args: args, Kwargs: kwargs, Origin: r.env.Origin,
		ID: p.id("task_id"), Group: p.id("group_id"), RootID: p.id("root_id"), ParentID: p.id("parent_id"),
		ReplyTo: cmp.Or(p.text("reply_to"), r.env.ReplyTo), Shadow: p.text("shadow"),
	}
	if t.ID == "" {
		t.ID = r.env.NewID()
	}
	countdown, eta, expires := p.pop("countdown"), p.pop("eta"), p.pop("expires")
	if d, ok := p.seconds("countdown", countdown); ok && d != 0 {
		t.ETA = r.env.Now.Add(d)
	} else {
		t.ETA = p.instant("eta", eta)
	}
	if _, isNumber := number(expires); isNumber {
		if d, ok := p.seconds("expires", expires); ok {
			t.Expires = r.env.Now.Add(d)
		}
	} else {
		t.Expires = p.instant("expires", expires)
		t.ExpiresText, _ = expires.(string)
	}
	if d, ok := p.seconds("time_limit", p.pop("time_limit")); ok {
		t.HardLimit = d
	}
	if d, ok := p.seconds("soft_time_limit", p.pop("soft_time_limit")); ok {
		t.SoftLimit = d
	}
	if n := p.whole("retries"); n != nil {
		t.Retries = *n
	}
	if n := p.whole("replaced_task_nesting"); n != nil {
		t.Nesting = *n
	}
	if v := p.pop("group_index"); v != nil {
		if _, ok := number(v); !ok {
			p.bad("group_index", v, "a number")
		}
		t.GroupIndex = v
	}
	if v := p.pop("ignore_result"); v != nil {
		b := truthy(v)
		t.IgnoreResult = &b
	}
	if origin := p.text("origin"); origin != "" {
		t.Origin = origin
	}
	t.Callbacks, t.Errbacks = r.wireList(p.pop("link")), r.wireList(p.pop("link_error"))
	t.Chain, t.Chord = r.wireList(p.pop("chain")), r.wire(p.pop("chord"))
	addToParent, there := p.o.Get("add_to_parent")
	p.pop("add_to_parent")
	p.stamps(t)
	if h := p.pop("headers"); h != nil {
		if o, ok := h.(*protocol.Object); ok {
			t.Custom = o
		} else {
			p.bad("headers", h, "an object")
		}
	}

	dest, routed, err := r.env.Routes.route(route, p.o)
	if err != nil {
		r.fail(name, err)
	}
	p.o = routed
	if (t.RootID == "" || t.ParentID == "") && r.env.Parent != nil {
		parent := r.env.Parent
		t.RootID = cmp.Or(t.RootID, parent.RootID, parent.ID)
		t.ParentID = cmp.Or(t.ParentID, parent.ID)
		if _, set := p.o.Get("priority"); r.env.InheritPriority && !set {
			p.o.Set("priority", intValue(parent.Priority))
		}
	}
	t.RootID = cmp.Or(t.RootID, t.ID)
	if _, set := p.o.Get("priority"); !set {
		p.o.Set("priority", int64(0)) // Kombu's default; a null one stays away from the message
	}
	t.Priority = p.whole("priority")
	send := Send{Task: t, Serializer: p.text("serializer"), Compression: p.text("compression"), Queue: dest.Queue}
	send.DeliveryMode = deliveryMode(p.pop("delivery_mode"))
	t.Exchange, t.RoutingKey = dest.Exchange, dest.RoutingKey
	// Only what goes where its queue is bound: the delay exchanges lead nowhere else. (Celery sends the others to the
	// queue that the routes say, whatever address the call names.)
	if q := dest.Queue; r.env.NativeDelay && !t.ETA.IsZero() && q != nil && dest.kind != "direct" && dest.Exchange == q.Exchange && dest.RoutingKey == q.RoutingKey {
		send.Delay = max(t.ETA.Sub(r.env.Now), 0)
	}
	t.CorrelationID = t.ID
	if p.err != nil && r.err == nil {
		r.err = p.err
	}
	r.weigh(t)
	r.emit(send)
	res := &result{id: t.ID}
	if !there || truthy(addToParent) {
		r.record(res)
	}
	return res
}

// record adds what was sent to the children of the running task.
func (r *run) record(res *result) {
	if r.env.Parent != nil && r.err == nil {
		r.trail = append(r.trail, res)
	}
}

// stamps takes the declared stamps out of the options. A name without its stamp is left out, where Celery
// would fail the task.
func (p *options) stamps(t *protocol.Task) {
	v := p.pop("stamped_headers")
	names, ok := v.([]protocol.Value)
	if v != nil && !ok {
		p.bad("stamped_headers", v, "a list of names")
	}
	if names == nil {
		return
	}
	t.StampNames, t.Stamps = []string{}, &protocol.Object{}
	for _, n := range names {
		name, ok := n.(string)
		if !ok {
			p.bad("stamped_headers", n, "a name")
			return
		}
		stamp, there := p.o.Get(name)
		if !there {
			continue
		}
		t.StampNames = append(t.StampNames, name)
		t.Stamps.Set(name, stamp)
	}
	for _, name := range t.StampNames {
		p.o.Delete(name)
	}
}

// wireList is maybe_list and then wire: null stays null, one becomes a list of one.
func (r *run) wireList(v protocol.Value) []protocol.Value {
	switch v := v.(type) {
	case nil:
		return nil
	case []protocol.Value:
		return r.wireItems(v)
	case *list:
		return r.wireItems(v.items)
	}
	return []protocol.Value{r.wire(v)}
}

func deliveryMode(v protocol.Value) int {
	switch v {
	case int64(1), "transient":
		return 1
	case int64(2), "persistent":
		return 2
	}
	return 0
}

func intValue(n *int) protocol.Value {
	if n == nil {
		return nil
	}
	return int64(*n)
}

// under are the defaults below the call's own options. Those that are not set are null, as in Celery:
// that, and not their absence, is what keeps the priority away from a message with a queue of its own.
func (d TaskDefaults) under(opts *protocol.Object) *protocol.Object {
	orNull := func(s string) protocol.Value {
		if s == "" {
			return nil
		}
		return s
	}
	span := func(d time.Duration) protocol.Value {
		switch {
		case d == 0:
			return nil
		case d%time.Second == 0:
			return int64(d / time.Second)
		}
		return d.Seconds()
	}
	var mode protocol.Value
	if d.DeliveryMode != 0 {
		mode = int64(d.DeliveryMode)
	}
	o := protocol.ObjectOf(
		protocol.Member{Key: "queue", Value: orNull(d.Queue)},
		protocol.Member{Key: "routing_key", Value: orNull(d.RoutingKey)},
		protocol.Member{Key: "exchange", Value: orNull(d.Exchange)},
		protocol.Member{Key: "priority", Value: intValue(d.Priority)},
		protocol.Member{Key: "expires", Value: span(d.Expires)},
		protocol.Member{Key: "serializer", Value: orNull(d.Serializer)},
		protocol.Member{Key: "delivery_mode", Value: mode},
		protocol.Member{Key: "compression", Value: orNull(d.Compression)},
		protocol.Member{Key: "time_limit", Value: span(d.HardLimit)},
		protocol.Member{Key: "soft_time_limit", Value: span(d.SoftLimit)},
	)
	for _, m := range opts.Members() {
		o.Set(m.Key, m.Value)
	}
	if _, set := o.Get("ignore_result"); !set && d.IgnoreResult != nil {
		o.Set("ignore_result", *d.IgnoreResult)
	}
	return o
}

// weigh counts about how many bytes the message will have.
func (r *run) weigh(t *protocol.Task) {
	r.bytes += 512 + len(t.Name)
	for _, v := range []protocol.Value{t.Args, t.Kwargs, t.Callbacks, t.Errbacks, t.Chain, t.Chord, t.Custom, t.Stamps} {
		r.weighValue(v)
	}
}

func (r *run) weighValue(v protocol.Value) {
	if r.err != nil {
		return
	}
	r.bytes += 4
	switch v := v.(type) {
	case string:
		r.bytes += len(v)
	case []byte:
		r.bytes += 4 * len(v) / 3
	case []protocol.Value:
		for _, e := range v {
			r.weighValue(e)
		}
	case *protocol.Object:
		for _, m := range v.Members() {
			r.bytes += len(m.Key) + 4
			r.weighValue(m.Value)
		}
	}
	if r.bytes > maxBytes {
		r.fail("canvas", fmt.Errorf("%w: more than %d MiB of messages", ErrTooLarge, maxBytes>>20))
	}
}
