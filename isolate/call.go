package isolate

import (
	"context"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// A call is a task on its way to a child, with what its context carries.
type call struct {
	run      int64 // number of the run, unique in its child
	task     *protocol.Task
	info     handlers.Info
	inTask   bool // info is there
	host     bool // somebody takes Report and Spawn
	deadline time.Time
	level    slog.Level // of the lines that the log takes
	memory   int64      // soft memory limit for the child's runtime; 0: none
	peak     bool       // the result tells the most memory that the child ever had
}

func callOf(ctx context.Context, t *protocol.Task, log *slog.Logger) call {
	c := call{task: t, level: slog.LevelError + 4}
	c.info, c.inTask = handlers.InfoFrom(ctx)
	_, c.host = handlers.HostFrom(ctx)
	c.deadline, _ = ctx.Deadline()
	for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
		if log.Enabled(ctx, l) {
			c.level = l
		}
	}
	return c
}

func (c call) pack() *protocol.Object {
	t := c.task
	o := protocol.ObjectOf(
		protocol.Member{Key: "run", Value: c.run},
		protocol.Member{Key: "name", Value: t.Name},
		protocol.Member{Key: "id", Value: t.ID},
		protocol.Member{Key: "root", Value: t.RootID},
		protocol.Member{Key: "parent", Value: t.ParentID},
		protocol.Member{Key: "group", Value: t.Group},
		protocol.Member{Key: "retries", Value: int64(t.Retries)},
		protocol.Member{Key: "custom", Value: objectOrNone(t.Custom)},
		protocol.Member{Key: "args", Value: t.Args},
		protocol.Member{Key: "kwargs", Value: objectOrNone(t.Kwargs)},
		protocol.Member{Key: "deadline", Value: packTime(c.deadline)},
		protocol.Member{Key: "level", Value: int64(c.level)},
		protocol.Member{Key: "memory", Value: c.memory},
		protocol.Member{Key: "host", Value: c.host},
		protocol.Member{Key: "peak", Value: c.peak},
	)
	if c.inTask {
		o.Set("info", packInfo(c.info, t))
	}
	return o
}

func unpackCall(o *protocol.Object) call {
	deadline, _ := o.Get("deadline")
	c := call{
		run: number(o, "run"), deadline: unpackTime(deadline), level: slog.Level(number(o, "level")), memory: number(o, "memory"), host: yes(o, "host"), peak: yes(o, "peak"),
		task: &protocol.Task{
			ID: text(o, "id"), Name: text(o, "name"), RootID: text(o, "root"), ParentID: text(o, "parent"), Group: text(o, "group"),
			Retries: int(number(o, "retries")), Custom: sub(o, "custom"), Args: list(o, "args"), Kwargs: sub(o, "kwargs"), Protocol: 2,
		},
	}
	if i := sub(o, "info"); i != nil {
		c.inTask, c.info = true, unpackInfo(i, c.task)
	}
	return c
}

// objectOrNone keeps a nil *Object nil on the other side.
func objectOrNone(o *protocol.Object) protocol.Value {
	if o == nil {
		return nil
	}
	return o
}

func intOrNone(n *int) protocol.Value {
	if n == nil {
		return nil
	}
	return int64(*n)
}

func intOf(o *protocol.Object, key string) *int {
	v, _ := o.Get(key)
	n, ok := v.(int64)
	if !ok {
		return nil
	}
	i := int(n)
	return &i
}

func packInfo(i handlers.Info, t *protocol.Task) *protocol.Object {
	o := protocol.ObjectOf(
		protocol.Member{Key: "id", Value: i.ID}, protocol.Member{Key: "name", Value: i.Name},
		protocol.Member{Key: "root", Value: i.RootID}, protocol.Member{Key: "parent", Value: i.ParentID}, protocol.Member{Key: "group", Value: i.Group},
		protocol.Member{Key: "queue", Value: i.Queue}, protocol.Member{Key: "exchange", Value: i.Exchange}, protocol.Member{Key: "key", Value: i.RoutingKey},
		protocol.Member{Key: "node", Value: i.Node}, protocol.Member{Key: "retries", Value: int64(i.Retries)}, protocol.Member{Key: "redelivered", Value: i.Redelivered},
		protocol.Member{Key: "eta", Value: packTime(i.ETA)}, protocol.Member{Key: "expires", Value: packTime(i.Expires)},
		protocol.Member{Key: "priority", Value: intOrNone(i.Priority)}, protocol.Member{Key: "reply", Value: i.ReplyTo}, protocol.Member{Key: "correlation", Value: i.CorrelationID},
		protocol.Member{Key: "soft", Value: int64(i.SoftLimit)}, protocol.Member{Key: "hard", Value: int64(i.HardLimit)}, protocol.Member{Key: "nesting", Value: int64(i.Nesting)},
	)
	if i.Headers != t.Custom {
		o.Set("headers", objectOrNone(i.Headers))
	}
	if !sameList(i.Args, t.Args) || i.Kwargs != t.Kwargs { // a built-in task that calls another
		o.Set("args", i.Args)
		o.Set("kwargs", objectOrNone(i.Kwargs))
	}
	p := i.Properties
	o.Set("properties", protocol.ObjectOf(
		protocol.Member{Key: "type", Value: p.ContentType}, protocol.Member{Key: "encoding", Value: p.ContentEncoding},
		protocol.Member{Key: "correlation", Value: p.CorrelationID}, protocol.Member{Key: "reply", Value: p.ReplyTo},
		protocol.Member{Key: "mode", Value: int64(p.DeliveryMode)}, protocol.Member{Key: "priority", Value: intOrNone(p.Priority)},
		protocol.Member{Key: "expiration", Value: p.Expiration}, protocol.Member{Key: "message", Value: p.MessageID},
		protocol.Member{Key: "timestamp", Value: packTime(p.Timestamp)}, protocol.Member{Key: "kind", Value: p.Type},
		protocol.Member{Key: "user", Value: p.UserID}, protocol.Member{Key: "app", Value: p.AppID}, protocol.Member{Key: "extra", Value: objectOrNone(p.Extra)},
	))
	return o
}

func sameList(a, b []protocol.Value) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func unpackInfo(o *protocol.Object, t *protocol.Task) handlers.Info {
	at := func(o *protocol.Object, key string) time.Time {
		v, _ := o.Get(key)
		return unpackTime(v)
	}
	p := sub(o, "properties")
	i := handlers.Info{
		ID: text(o, "id"), Name: text(o, "name"), RootID: text(o, "root"), ParentID: text(o, "parent"), Group: text(o, "group"),
		Queue: text(o, "queue"), Exchange: text(o, "exchange"), RoutingKey: text(o, "key"), Node: text(o, "node"),
		Retries: int(number(o, "retries")), Redelivered: yes(o, "redelivered"), ETA: at(o, "eta"), Expires: at(o, "expires"),
		Priority: intOf(o, "priority"), ReplyTo: text(o, "reply"), CorrelationID: text(o, "correlation"),
		Headers: t.Custom, Args: t.Args, Kwargs: t.Kwargs,
		SoftLimit: time.Duration(number(o, "soft")), HardLimit: time.Duration(number(o, "hard")), Nesting: int(number(o, "nesting")),
		Properties: protocol.Properties{
			ContentType: text(p, "type"), ContentEncoding: text(p, "encoding"), CorrelationID: text(p, "correlation"), ReplyTo: text(p, "reply"),
			DeliveryMode: uint8(number(p, "mode")), Priority: intOf(p, "priority"), Expiration: text(p, "expiration"), MessageID: text(p, "message"),
			Timestamp: at(p, "timestamp"), Type: text(p, "kind"), UserID: text(p, "user"), AppID: text(p, "app"), Extra: sub(p, "extra"),
		},
	}
	if _, own := o.Get("headers"); own {
		i.Headers = sub(o, "headers")
	}
	if _, own := o.Get("args"); own {
		i.Args, i.Kwargs = list(o, "args"), sub(o, "kwargs")
	}
	return i
}
