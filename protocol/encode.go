package protocol

import (
	"cmp"
	"strconv"
	"time"
)

// Encoding says how messages and results are written. The zero value is Celery's default.
type Encoding struct {
	Serializer  string         // "": json
	Compression string         // "": none
	Zone        *time.Location // nil: UTC
	Seal        Seal           // of the serializer "auth"; nil: it cannot be used
}

func (e Encoding) serializer() string   { return cmp.Or(e.Serializer, "json") }
func (e Encoding) zone() *time.Location { return cmp.Or(e.Zone, time.UTC) }

// Encode writes the task as a new protocol 2 message (properties, headers, body), for Exchange and
// RoutingKey of t. now is what the time to live of Expires is counted from; a task already expired gets 0.
// Errors are an *EncodeError naming the part, or say that a serializer or compression is not known.
func (t *Task) Encode(e Encoding, now time.Time) (Message, error) {
	m := Message{
		Exchange:   t.Exchange,
		RoutingKey: t.RoutingKey,
		Properties: Properties{
			CorrelationID: cmp.Or(t.CorrelationID, t.ID),
			ReplyTo:       t.ReplyTo,
			DeliveryMode:  2,
			Priority:      t.Priority,
			Expiration:    t.expiration(now),
		},
	}
	var err error
	m.Body, m.Properties.ContentType, m.Properties.ContentEncoding, err = e.Serialize(t.body())
	if err != nil {
		return Message{}, err
	}
	m.Headers = t.headers(e)
	if e.Compression != "" {
		var codec string
		if m.Body, codec, err = Compress(e.Compression, m.Body); err != nil {
			return Message{}, err
		}
		m.Headers.Set("compression", codec)
	}
	return m, nil
}

// body is [args, kwargs, embed]; args and kwargs are never null.
func (t *Task) body() Value {
	kwargs := t.Kwargs
	if kwargs == nil {
		kwargs = &Object{}
	}
	return []Value{
		listOrEmpty(t.Args),
		kwargs,
		ObjectOf(
			Member{"callbacks", listOrNil(t.Callbacks)},
			Member{"errbacks", listOrNil(t.Errbacks)},
			Member{"chain", listOrNil(t.Chain)},
			Member{"chord", t.Chord},
		),
	}
}

// headers are Celery's, in its order, and after them the custom ones. A custom header never replaces one of
// ours: that could only be a mistake, and with id or task a lost result.
func (t *Task) headers(e Encoding) *Object {
	argsRepr, kwargsRepr := t.ArgsRepr, t.KwargsRepr
	if argsRepr == "" {
		argsRepr = ReprArgs(t.Args)
	}
	if kwargsRepr == "" {
		kwargs := t.Kwargs
		if kwargs == nil {
			kwargs = &Object{}
		}
		kwargsRepr = Repr(kwargs)
	}
	var eta Value
	if !t.ETA.IsZero() {
		eta = FormatTimestamp(t.ETA, e.zone())
	}
	var ignore Value
	if t.IgnoreResult != nil {
		ignore = *t.IgnoreResult
	}
	var names Value
	if t.StampNames != nil {
		names = textList(t.StampNames)
	}
	h := &Object{members: make([]Member, 0, 20+t.Custom.Len())}
	h.Set("lang", "py")
	h.Set("task", t.Name)
	h.Set("id", t.ID)
	h.Set("shadow", textOrNil(t.Shadow))
	h.Set("eta", eta)
	h.Set("expires", t.expires(e))
	h.Set("group", textOrNil(t.Group))
	h.Set("group_index", t.GroupIndex)
	h.Set("retries", int64(t.Retries))
	h.Set("timelimit", []Value{secondsValue(t.HardLimit), secondsValue(t.SoftLimit)})
	h.Set("root_id", cmp.Or(t.RootID, t.ID))
	h.Set("parent_id", textOrNil(t.ParentID))
	h.Set("argsrepr", argsRepr)
	h.Set("kwargsrepr", kwargsRepr)
	h.Set("origin", textOrNil(t.Origin))
	h.Set("ignore_result", ignore)
	h.Set("replaced_task_nesting", int64(t.Nesting))
	h.Set("stamped_headers", names)
	h.Set("stamps", declared(t.StampNames, t.Stamps))
	for _, member := range t.Custom.Members() {
		if !notCustom[member.Key] {
			h.Set(member.Key, member.Value)
		}
	}
	return h
}

func (t *Task) expires(e Encoding) Value {
	switch {
	case t.ExpiresText != "":
		return t.ExpiresText
	case t.Expires.IsZero():
		return nil
	}
	return FormatTimestamp(t.Expires, e.zone())
}

// expiration is the time to live in milliseconds that goes with Expires, counted as Python does: whole
// microseconds to float seconds, times a thousand, cut.
func (t *Task) expiration(now time.Time) string {
	if t.Expires.IsZero() {
		return ""
	}
	left := float64(t.Expires.Sub(now).Microseconds()) / 1e6
	if left < 0 {
		left = 0
	}
	return strconv.FormatInt(int64(left*1000), 10)
}

// listOrNil keeps the difference between no list and an empty one: the last step of a chain has [].
func listOrNil(list []Value) Value {
	if list == nil {
		return nil
	}
	return list
}

func textList(texts []string) []Value {
	list := make([]Value, len(texts))
	for i, s := range texts {
		list[i] = s
	}
	return list
}

func listOrEmpty(list []Value) Value {
	if list == nil {
		return []Value{}
	}
	return list
}
