package main

import (
	"context"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// requestTasks tell what they know of their own message.
func requestTasks() []handlers.Handler {
	return []handlers.Handler{
		task("ids", func(ctx context.Context, in struct {
			I protocol.Value `json:"i"`
		},
		) ([]any, error) {
			return idsAnd(ctx, in.I), nil
		}),
		task("collect_ids", func(ctx context.Context, in struct {
			Res protocol.Value `json:"res"`
			I   protocol.Value `json:"i"`
		},
		) ([]any, error) {
			return []any{in.Res, idsAnd(ctx, in.I)}, nil
		}),
		task("return_priority", func(ctx context.Context, _ anything) (string, error) {
			return "Priority: " + protocol.Repr(priority(ctx)), nil
		}),
		task("return_request_eta", func(ctx context.Context, _ none) (protocol.Value, error) {
			if eta := info(ctx).ETA; !eta.IsZero() {
				return protocol.FormatTimestamp(eta, time.UTC), nil
			}
			return nil, nil
		}),
		task("return_properties", func(ctx context.Context, _ none) (map[string]any, error) {
			p := info(ctx).Properties
			return map[string]any{
				"app_id": text(p.AppID), "correlation_id": text(p.CorrelationID), "reply_to": text(p.ReplyTo),
				"content_type": text(p.ContentType), "content_encoding": text(p.ContentEncoding), "priority": p.Priority,
			}, nil
		}),
		task("return_request_time_limits", limits),
		with(task("task_with_declared_time_limits", limits),
			func(o *handlers.Options) { o.HardLimit, o.SoftLimit = time.Minute, 45*time.Second }),
	}
}

// anything is *args.
type anything struct {
	Args []protocol.Value `celery:"*args"`
}

func info(ctx context.Context) handlers.Info {
	i, ok := handlers.InfoFrom(ctx)
	if !ok {
		panic("not inside a task")
	}
	return i
}

// text is None for nothing.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func idsAnd(ctx context.Context, i protocol.Value) []any {
	t := info(ctx)
	return []any{text(t.RootID), text(t.ParentID), i}
}

func priority(ctx context.Context) protocol.Value {
	if p := info(ctx).Priority; p != nil {
		return int64(*p)
	}
	return nil
}

func limits(ctx context.Context, _ none) (map[string]any, error) {
	seconds := func(d time.Duration) any {
		if d == 0 {
			return nil
		}
		return int64(d / time.Second)
	}
	t := info(ctx)
	return map[string]any{"time_limit": seconds(t.HardLimit), "soft_time_limit": seconds(t.SoftLimit)}, nil
}

// requestID is the id of the request that an errback of the new style is given.
func requestID(request protocol.Value) (string, error) {
	if o, ok := request.(*protocol.Object); ok {
		request, _ = o.Get("id")
	}
	if id, ok := request.(string); ok {
		return id, nil
	}
	return "", fmt.Errorf("request %s has no id", protocol.Repr(request))
}
