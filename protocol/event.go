package protocol

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// An Event tells monitors what a worker or a task did (celery events, Flower). Celery's dispatcher writes it as
// one object:
//
//	hostname    text    the node
//	utcoffset   float   hours west of UTC
//	pid, clock  int
//	uuid        text    of task events: the task's id
//	...                 what the type has besides
//	timestamp   float   seconds since the epoch
//	type        text    "task-received": group, "-", what happened
//
// with a header hostname beside it, under the type with dots for dashes as routing key. Several task events may
// travel together, as a list, under task.multi.
type Event struct {
	Type   string
	Fields *Object // all fields but type, in their order
}

// Group is the type up to its first dash: "worker", "task".
func (e Event) Group() string {
	group, _, _ := strings.Cut(e.Type, "-")
	return group
}

// Text is a field that is a text, else "".
func (e Event) Text(key string) string {
	v, _ := e.Fields.Get(key)
	s, _ := v.(string)
	return s
}

// Number is a field that is a finite number, and whether it is.
func (e Event) Number(key string) (float64, bool) {
	v, _ := e.Fields.Get(key)
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	return 0, false
}

// Clock is the logical clock of the event, or 0 (see SaneClock).
func (e Event) Clock() int64 {
	v, _ := e.Fields.Get("clock")
	return SaneClock(v)
}

// SaneClock is a logical clock that another node tells, or 0 for one not to be believed: no integer, below 0, or
// beyond what nodes count in centuries. Each node that follows a huge one hands it on to all others for good.
func SaneClock(v Value) int64 {
	const most = 1 << 53
	if n, ok := v.(int64); ok && n > 0 && n <= most {
		return n
	}
	return 0
}

// EncodeEvents writes events by enc.Serializer, byte for byte as Celery's dispatcher does, and gives the routing
// key to publish them under: one event as an object, several, which must be task events, as a list.
//
// An event without what every reader counts on is an *EncodeError, and nothing is written: readers written in
// Python end, or stop seeing anybody, over one of them.
func EncodeEvents(enc Encoding, events ...Event) (m Message, routingKey string, err error) {
	if len(events) == 0 {
		return Message{}, "", &EncodeError{Err: errors.New("no events: an empty list is never sent")}
	}
	docs := make([]Value, len(events))
	for i, e := range events {
		if err := e.check(); err != nil {
			return Message{}, "", err
		}
		if len(events) > 1 && e.Group() != "task" {
			return Message{}, "", &EncodeError{Part: "type", Err: fmt.Errorf("%q travels alone: only task events may be sent together", clip(e.Type))}
		}
		docs[i] = e.doc()
	}
	body, routingKey := docs[0], strings.ReplaceAll(events[0].Type, "-", ".")
	if len(events) > 1 {
		body, routingKey = docs, "task.multi"
	}
	m, err = enc.control(body, ObjectOf(Member{"hostname", events[0].Text("hostname")}), 1)
	return m, routingKey, err
}

// doc is the event as it is written. It is never searched, so it does without Set and an index.
func (e Event) doc() *Object {
	members := make([]Member, 0, e.Fields.Len()+1)
	for _, m := range e.Fields.Members() {
		if m.Key != "type" {
			members = append(members, m)
		}
	}
	return &Object{members: append(members, Member{"type", e.Type})}
}

// An eventField is a field that readers use without looking whether it is there.
type eventField struct {
	key  string
	good func(v Value) bool
	want string
}

var (
	ofEveryEvent = []eventField{
		{"hostname", isText, "the node's name"},
		{"timestamp", isFloat, "a finite float"},
		{"clock", isClock, "an integer of 0 or more"},
		{"pid", isInt, "an integer"},
		{"utcoffset", isFloat, "a finite float"},
	}
	// perType lists what Flower, celery-exporter, celery events and the gossip of Python workers need besides.
	perType = map[string][]eventField{
		"worker-online":    {{"freq", isNumber, "a finite number"}},
		"worker-heartbeat": {{"freq", isNumber, "a finite number"}},
		"worker-offline":   {{"freq", isNumber, "a finite number"}},
		"task-sent":        {{"name", isText, "the task's name"}, {"args", isString, "a text"}, {"kwargs", isString, "a text"}},
		"task-received":    {{"name", isText, "the task's name"}, {"args", isString, "a text"}, {"kwargs", isString, "a text"}},
		"task-succeeded":   {{"result", isString, "a text"}, {"runtime", isNumber, "a finite number"}},
		"task-failed":      {{"exception", isString, "a text"}},
		"task-retried":     {{"exception", isString, "a text"}},
	}
)

// check finds what no reader should meet.
func (e Event) check() error {
	group, what, _ := strings.Cut(e.Type, "-")
	switch {
	case group == "" || what == "" || strings.ContainsAny(e.Type, ".*#"):
		return &EncodeError{Part: "type", Err: fmt.Errorf("is %q, want group-event", clip(e.Type))}
	case what == "multi":
		return &EncodeError{Part: "type", Err: fmt.Errorf("%q is the key of several events", clip(e.Type))}
	}
	for _, f := range ofEveryEvent {
		if err := e.need(f); err != nil {
			return err
		}
	}
	if group == "task" {
		if err := e.need(eventField{"uuid", isText, "the task's id"}); err != nil {
			return err
		}
	}
	for _, f := range perType[e.Type] {
		if err := e.need(f); err != nil {
			return err
		}
	}
	for _, m := range e.Fields.Members() {
		if !finite(m.Value, 8) {
			return &EncodeError{Part: m.Key, Err: errors.New("holds NaN or an infinity, which JSON readers refuse, or is too deep")}
		}
	}
	return nil
}

func (e Event) need(f eventField) error {
	if v, _ := e.Fields.Get(f.key); !f.good(v) {
		return &EncodeError{Part: f.key, Err: fmt.Errorf("of %s is %s, want %s", clip(e.Type), describe(v), f.want)}
	}
	return nil
}

func isString(v Value) bool { _, ok := v.(string); return ok }
func isInt(v Value) bool    { _, ok := v.(int64); return ok }
func isClock(v Value) bool  { n, ok := v.(int64); return ok && n >= 0 }
func isFloat(v Value) bool {
	f, ok := v.(float64)
	return ok && !math.IsNaN(f) && !math.IsInf(f, 0)
}
func isNumber(v Value) bool { return isInt(v) || isFloat(v) }

// finite reports whether v holds no float that JSON lacks, nothing deeper than left.
func finite(v Value, left int) bool {
	if left < 0 {
		return false
	}
	switch v := v.(type) {
	case float64:
		return isFloat(v)
	case []Value:
		for _, e := range v {
			if !finite(e, left-1) {
				return false
			}
		}
	case *Object:
		for _, m := range v.Members() {
			if !finite(m.Value, left-1) {
				return false
			}
		}
	}
	return true
}

// Bounds of one message of events where DecodeOptions says nothing: Celery sends 24 of some kilobytes.
const (
	eventsInflated = 16 << 20
	eventsValues   = 500_000
	eventsDepth    = 32
)

// DecodeEvents reads one event or a list of them, from whichever producer: fields may be missing or of any
// type, and a missing hostname is taken from the header. An empty list, which Celery before 5.7 sends, is no
// event and no error. Every error is a *DecodeError; a list is read as far as it can be, and the error is about
// the first entry that is no event.
func DecodeEvents(m Message, o DecodeOptions) ([]Event, error) {
	o.Limits.Inflated = defaulted(o.Limits.Inflated, eventsInflated)
	o.Limits.Values = defaulted(o.Limits.Values, eventsValues)
	o.Limits.Depth = defaulted(o.Limits.Depth, eventsDepth)
	if len(m.Body) > o.Limits.Inflated {
		return nil, partError("body", fmt.Errorf("%w: %d bytes", ErrTooLarge, len(m.Body)))
	}
	d := decoder{message: m, options: o}
	body, err := d.body()
	if err != nil {
		return nil, err
	}
	list, several := body.([]Value)
	if !several {
		e, err := eventOf(body, m.Headers, "body")
		if err != nil {
			return nil, err
		}
		return []Event{e}, nil
	}
	var events []Event
	var first error
	for i, entry := range list {
		e, err := eventOf(entry, m.Headers, fmt.Sprintf("body[%d]", i))
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		events = append(events, e)
	}
	return events, first
}

func eventOf(v Value, headers *Object, part string) (Event, error) {
	doc, ok := v.(*Object)
	if !ok {
		return Event{}, wrongType(part, v, "an event, an object")
	}
	kind, _ := doc.Get("type")
	name, ok := kind.(string)
	if !ok || name == "" {
		return Event{}, wrongType(part+".type", kind, "the type of the event")
	}
	doc.Delete("type")
	if has, _ := doc.Get("hostname"); has == nil {
		if node, _ := headers.Get("hostname"); isText(node) {
			doc.Set("hostname", node)
		}
	}
	if clock, _ := doc.Get("clock"); clock != nil {
		if _, huge := clock.(*big.Int); huge {
			doc.Delete("clock") // nobody counts that far, and it would stay for ever
		}
	}
	return Event{Type: name, Fields: doc}, nil
}

func defaulted(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
