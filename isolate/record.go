package isolate

import (
	"context"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A recorder is the slog.Handler of a child: its lines become frames. The worker adds what it knows of the task.
type recorder struct {
	run    *run
	prefix string            // of the keys: the open groups, each with a dot
	attrs  []protocol.Member // of WithAttrs
}

func (h *recorder) Enabled(_ context.Context, l slog.Level) bool { return l >= h.run.call.level }

func (h *recorder) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = appendAttr(attrs, h.prefix, a)
		return true
	})
	pairs := make([]protocol.Value, 0, len(attrs))
	for _, a := range attrs {
		pairs = append(pairs, []protocol.Value{a.Key, a.Value})
	}
	var at time.Time
	if !r.Time.IsZero() {
		at = r.Time.Round(0)
	}
	return h.run.server.wire.send(frameRecord, protocol.ObjectOf(
		protocol.Member{Key: "run", Value: h.run.call.run}, protocol.Member{Key: "level", Value: int64(r.Level)}, protocol.Member{Key: "at", Value: packTime(at)},
		protocol.Member{Key: "text", Value: r.Message}, protocol.Member{Key: "attrs", Value: pairs},
	))
}

func (h *recorder) WithAttrs(as []slog.Attr) slog.Handler {
	next := *h
	next.attrs = h.attrs[:len(h.attrs):len(h.attrs)]
	for _, a := range as {
		next.attrs = appendAttr(next.attrs, h.prefix, a)
	}
	return &next
}

func (h *recorder) WithGroup(name string) slog.Handler {
	next := *h
	if name != "" {
		next.prefix += name + "."
	}
	return &next
}

// appendAttr appends a as what can cross: numbers, booleans and times as they are, all else as its text.
func appendAttr(to []protocol.Member, prefix string, a slog.Attr) []protocol.Member {
	v := a.Value.Resolve()
	var value protocol.Value
	switch v.Kind() {
	case slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			to = appendAttr(to, prefix, member)
		}
		return to
	case slog.KindInt64:
		value = v.Int64()
	case slog.KindFloat64:
		value = v.Float64()
	case slog.KindBool:
		value = v.Bool()
	case slog.KindTime:
		value = packTime(v.Time())
	default:
		if a.Equal(slog.Attr{}) {
			return to
		}
		value = v.String()
	}
	return append(to, protocol.Member{Key: prefix + a.Key, Value: value})
}

// replay writes the line of a record frame to log.
func replay(ctx context.Context, log *slog.Logger, o *protocol.Object) {
	level := slog.Level(number(o, "level"))
	if !log.Enabled(ctx, level) {
		return
	}
	at, _ := o.Get("at")
	r := slog.NewRecord(unpackTime(at), level, text(o, "text"), 0)
	for _, pair := range list(o, "attrs") {
		if p, ok := pair.([]protocol.Value); ok && len(p) == 2 {
			key, _ := p[0].(string)
			value := p[1]
			if t, ok := value.(protocol.DateTime); ok {
				value = t.Time
			}
			r.AddAttrs(slog.Any(key, value))
		}
	}
	_ = log.Handler().Handle(ctx, r) // as slog.Logger itself does
}
