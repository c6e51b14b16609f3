package command

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A dumper writes events as `celery events --dump` does (celery/events/dumper.py, receiver.py).
type dumper struct {
	clock int64             // logical, as Celery's receiver keeps it
	tasks map[string]string // what is known of a task, by id
	order []string          // of tasks, oldest first
}

// knownTasks is how many tasks are remembered by name, as many as Celery does.
const knownTasks = 0xFFF

var humanTypes = map[string]string{"worker-offline": "shutdown", "worker-online": "started", "worker-heartbeat": "heartbeat"}

// line is the text of an event that was received now. Fields that Celery relies on and that are missing are None.
func (d *dumper) line(e protocol.Event, now time.Time) string {
	f := e.Fields.Clone()
	d.tick(e, f)
	take := func(key string) protocol.Value {
		v, _ := f.Get(key)
		f.Delete(key)
		return v
	}
	kind := strings.ToLower(e.Type)
	stamp := dumpTime(take("timestamp"), f)
	node := protocol.Str(take("hostname"))
	f.Set("local_received", float64(now.UnixMicro())/1e6)
	if !strings.HasPrefix(kind, "task-") {
		return fmt.Sprintf("%s [%s] %s%s", node, stamp, human(kind), fieldsOf(f, ": "))
	}
	id := protocol.Str(take("uuid"))
	task := d.tasks[id]
	if kind == "task-received" || kind == "task-sent" {
		task = fmt.Sprintf("%s(%s) args=%s kwargs=%s", protocol.Str(take("name")), id, protocol.Str(take("args")), protocol.Str(take("kwargs")))
		d.remember(id, task)
	}
	return fmt.Sprintf("%s [%s] %s: %s%s", node, stamp, human(kind), task, fieldsOf(f, " "))
}

// tick keeps the clock and gives the event the one that Celery's receiver would.
func (d *dumper) tick(e protocol.Event, f *protocol.Object) {
	switch clock, has := f.Get("clock"); {
	case strings.EqualFold(e.Type, "task-sent"): // clients never sync
		c := max(d.clock, 1) - 1
		f.Set("clock", c)
		d.clock = max(d.clock, c) + 1
	case !has || clock == nil:
		d.clock++
		f.Set("clock", d.clock)
	default:
		d.clock = max(d.clock, e.Clock()) + 1
	}
}

func (d *dumper) remember(id, task string) {
	if d.tasks == nil {
		d.tasks = map[string]string{}
	}
	if _, known := d.tasks[id]; !known {
		d.order = append(d.order, id)
	}
	d.tasks[id] = task
	if len(d.order) > knownTasks {
		delete(d.tasks, d.order[0])
		d.order = slices.Clone(d.order[1:])
	}
}

func human(kind string) string {
	if h, ok := humanTypes[kind]; ok {
		return h
	}
	return strings.ReplaceAll(kind, "-", " ")
}

// fieldsOf lists the fields by name, after sep.
func fieldsOf(f *protocol.Object, sep string) string {
	members := slices.Clone(f.Members())
	slices.SortFunc(members, func(a, b protocol.Member) int { return cmp.Compare(a.Key, b.Key) })
	parts := make([]string, len(members))
	for i, m := range members {
		parts[i] = m.Key + "=" + protocol.Str(m.Value)
	}
	return sep + strings.Join(parts, ", ")
}

// dumpTime is Python's str of the UTC time of a timestamp, moved by how far the sender's zone is from ours.
func dumpTime(v protocol.Value, f *protocol.Object) string {
	seconds, ok := finite(v)
	if !ok {
		return protocol.Str(v)
	}
	if v, _ := f.Get("utcoffset"); v != nil {
		if offset, ok := finite(v); ok {
			_, east := time.Now().Zone()
			seconds -= (offset + float64(east)/3600) * 3600
		}
	}
	whole, part := math.Modf(seconds)
	t := time.Unix(int64(whole), int64(math.RoundToEven(part*1e6))*1000).UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return protocol.Str(v)
	}
	if t.Nanosecond() == 0 {
		return t.Format("2006-01-02 15:04:05") + "+00:00"
	}
	return t.Format("2006-01-02 15:04:05.000000") + "+00:00"
}

// finite is a number that is one.
func finite(v protocol.Value) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v) && math.Abs(v) < 1e15
	}
	return 0, false
}
