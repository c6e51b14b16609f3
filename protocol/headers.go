package protocol

import (
	"fmt"
	"math"
	"math/big"
	"time"
	"unicode/utf8"
)

// MaxIDBytes is the longest task id: it travels as an AMQP short string (correlation_id).
const MaxIDBytes = 255

// headers reads everything of a Task but the body. h are the headers of protocol 2, or what stands for them
// in protocol 1, and part, "headers." or "body.", is what errors put before their names. Null is absent everywhere.
// The Task is never nil; its ID is empty when it has none to use.
func (d *decoder) headers(h *Object, part string) (*Task, error) {
	m := d.message
	k := sortHeaders(h)
	r := headerReader{part: part}
	t := &Task{
		ID:            r.id(k.id),
		CorrelationID: m.Properties.CorrelationID,
		ReplyTo:       m.Properties.ReplyTo,
		Priority:      m.Properties.Priority,
		Exchange:      m.Exchange,
		RoutingKey:    m.RoutingKey,
		ContentType:   m.Properties.ContentType,
	}
	t.Name = r.name(k.task)
	t.Shadow = loose(k.shadow)
	t.RootID = r.text("root_id", k.rootID)
	t.ParentID = r.text("parent_id", k.parentID)
	t.Group = r.text("group", k.group)
	t.GroupIndex = r.groupIndex(k.groupIndex)
	t.Retries = r.count("retries", k.retries)
	t.Nesting = r.count("replaced_task_nesting", k.nesting)
	t.ETA, _ = r.date("eta", k.eta)
	t.Expires, t.ExpiresText = r.date("expires", k.expires)
	t.HardLimit, t.SoftLimit = r.limits(k.timelimit)
	if k.ignoreResult != nil {
		ignore := Truthy(k.ignoreResult)
		t.IgnoreResult = &ignore
	}
	t.StampNames, t.Stamps = r.stamps(k.stampedHeaders, k.stamps)
	t.ArgsRepr = loose(k.argsRepr)
	t.KwargsRepr = loose(k.kwargsRepr)
	t.Origin = loose(k.origin)
	t.Custom = k.custom
	return t, r.err
}

// knownHeaders are the headers that a Task is made of, nil where there is none, and custom those nobody here knows.
type knownHeaders struct {
	id, task, shadow, rootID, parentID, group, groupIndex, retries, nesting, eta, expires, timelimit,
	ignoreResult, stampedHeaders, stamps, argsRepr, kwargsRepr, origin Value
	custom *Object
}

// sortHeaders looks at each header once.
func sortHeaders(h *Object) (k knownHeaders) {
	k.custom = &Object{}
	var table *Object
	for _, m := range h.Members() {
		switch m.Key {
		case "id":
			k.id = m.Value
		case "task":
			k.task = m.Value
		case "shadow":
			k.shadow = m.Value
		case "root_id":
			k.rootID = m.Value
		case "parent_id":
			k.parentID = m.Value
		case "group":
			k.group = m.Value
		case "group_index":
			k.groupIndex = m.Value
		case "retries":
			k.retries = m.Value
		case "replaced_task_nesting":
			k.nesting = m.Value
		case "eta":
			k.eta = m.Value
		case "expires":
			k.expires = m.Value
		case "timelimit":
			k.timelimit = m.Value
		case "ignore_result":
			k.ignoreResult = m.Value
		case "stamped_headers":
			k.stampedHeaders = m.Value
		case "stamps":
			k.stamps = m.Value
		case "argsrepr":
			k.argsRepr = m.Value
		case "kwargsrepr":
			k.kwargsRepr = m.Value
		case "origin":
			k.origin = m.Value
		case "headers":
			table, _ = m.Value.(*Object)
		case "lang": // no custom header, like all above
		default:
			if !notCustom[m.Key] {
				k.custom.Set(m.Key, m.Value)
			}
		}
	}
	// A header named headers that holds a table is the custom ones, and the others do not count (Sentry writes its
	// keys in both places).
	if table != nil {
		k.custom = table.Clone()
	}
	return k
}

// A headerReader reads single headers and keeps the first error.
type headerReader struct {
	part string // "headers." or "body."
	err  error
}

func (r *headerReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *headerReader) id(v Value) string {
	s, ok := v.(string)
	switch {
	case !ok || s == "":
		r.fail(invalid(r.part+"id", v, "the id of the task, a text"))
	case len(s) > MaxIDBytes:
		r.fail(invalid(r.part+"id", v, fmt.Sprintf("at most %d bytes", MaxIDBytes)))
	case !utf8.ValidString(s):
		r.fail(invalid(r.part+"id", v, "valid UTF-8"))
	default:
		return s
	}
	return ""
}

func (r *headerReader) name(v Value) string {
	s, ok := v.(string)
	if !ok || s == "" || !utf8.ValidString(s) {
		r.fail(invalid(r.part+"task", v, "the name of a task"))
		return ""
	}
	return s
}

// text is a header that other messages and records are built from: it must be a text when it is there.
func (r *headerReader) text(key string, v Value) string {
	s, ok := v.(string)
	if !ok && Truthy(v) || cleanText(s) != s {
		r.fail(invalid(r.part+key, v, "a text or null"))
	}
	return s
}

// loose is a header that people read and no program: what is not a text is no reason to refuse a task.
func loose(v Value) string {
	s, _ := v.(string)
	return cleanText(s)
}

func (r *headerReader) groupIndex(v Value) Value {
	switch v.(type) {
	case nil, int64, float64:
		return v
	}
	r.fail(invalid(r.part+"group_index", v, "a number or null"))
	return nil
}

// count is a number of times. Clients in other languages send floats and null.
func (r *headerReader) count(key string, v Value) int {
	switch n := v.(type) {
	case nil:
		return 0
	case bool:
		if n {
			return 1
		}
		return 0
	case int64:
		if n >= 0 && n <= math.MaxInt32 {
			return int(n)
		}
	case float64:
		if n >= 0 && n <= math.MaxInt32 {
			return int(n)
		}
	}
	r.fail(invalid(r.part+key, v, "a number of times"))
	return 0
}

// date reads eta and expires. Numbers, junk and "" are refused; Celery 5.7 refuses the first two and dies
// of the last. The text is what a retry sends on.
func (r *headerReader) date(key string, v Value) (time.Time, string) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, ""
	case DateTime: // an AMQP timestamp, or a typed value in a Redis envelope
		return v.Time, FormatTimestamp(v.Time, time.UTC)
	case string:
		if at, err := ParseTimestamp(v); err == nil {
			return at, v
		}
	}
	r.fail(invalid(r.part+key, v, "an ISO 8601 date"))
	return time.Time{}, ""
}

// limits reads timelimit, which is [hard, soft] in seconds.
func (r *headerReader) limits(v Value) (hard, soft time.Duration) {
	if !Truthy(v) {
		return 0, 0
	}
	pair, ok := v.([]Value)
	if !ok || len(pair) != 2 {
		r.fail(invalid(r.part+"timelimit", v, "[hard, soft] or null"))
		return 0, 0
	}
	for i, into := range []*time.Duration{&hard, &soft} {
		limit, ok := seconds(pair[i])
		if !ok {
			r.fail(invalid(fmt.Sprintf("%stimelimit[%d]", r.part, i), pair[i], "seconds or null"))
		}
		*into = limit
	}
	return hard, soft
}

// seconds reads a duration as Python gives it; what is beyond 292 years becomes that.
func seconds(v Value) (time.Duration, bool) {
	const most = float64(math.MaxInt64) / float64(time.Second)
	var s float64
	switch n := v.(type) {
	case nil:
		return 0, true
	case int64:
		if n >= 0 && n < math.MaxInt64/int64(time.Second) {
			return time.Duration(n) * time.Second, true
		}
		s = float64(n)
	case float64:
		s = n
	case *big.Int:
		s, _ = n.Float64()
	default:
		return 0, false
	}
	switch {
	case math.IsNaN(s) || s < 0:
		return 0, false
	case s >= most:
		return math.MaxInt64, true
	}
	return time.Duration(math.Round(s * float64(time.Second))), true
}

// secondsValue is the reverse of seconds: an int where it is whole, None for none.
func secondsValue(d time.Duration) Value {
	switch {
	case d <= 0:
		return nil
	case d%time.Second == 0:
		return int64(d / time.Second)
	}
	return d.Seconds()
}

// stamps reads stamped_headers and stamps. Of the stamps only those declared count (Celery 5.7: they alone
// go into retries and extended results). Names is nil for null and empty for [], which travel on as such.
func (r *headerReader) stamps(v, stamped Value) (names []string, stamps *Object) {
	list, ok := v.([]Value)
	if !ok {
		if set, isSet := v.(Set); isSet {
			list = set
		} else if Truthy(v) {
			r.fail(invalid(r.part+"stamped_headers", v, "a list of names or null"))
		}
		if list == nil {
			return nil, nil
		}
	}
	all, ok := stamped.(*Object)
	if !ok && Truthy(stamped) {
		r.fail(invalid(r.part+"stamps", stamped, "an object or null"))
	}
	names = make([]string, 0, len(list))
	for i, entry := range list {
		name, ok := entry.(string)
		if !ok {
			r.fail(invalid(fmt.Sprintf("%sstamped_headers[%d]", r.part, i), entry, "a name"))
			continue
		}
		names = append(names, name)
	}
	return names, declared(names, all)
}

// declared are the stamps that names lists, in that order.
func declared(names []string, all *Object) *Object {
	kept := &Object{}
	for _, name := range names {
		if v, there := all.Get(name); there {
			kept.Set(name, v)
		}
	}
	return kept
}
