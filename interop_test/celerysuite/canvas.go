package main

import (
	"context"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

type numsVal struct {
	Nums []protocol.Value `json:"nums"`
	Val  protocol.Value   `json:"val"`
}

// adds is add.s(num, val) for every number.
func (in numsVal) adds() []canvas.Signature {
	var all []canvas.Signature
	for _, n := range in.Nums {
		all = append(all, s("add", n, in.Val))
	}
	return all
}

// canvasTasks send further tasks, or are replaced by them.
func canvasTasks() []handlers.Handler {
	return []handlers.Handler{
		task("chain_add", func(ctx context.Context, in xy) (none, error) {
			_, err := handlers.Spawn(ctx, canvas.Chain(s("add", in.X, in.X), s("add", in.Y)))
			return none{}, err
		}),
		task("chord_add", func(ctx context.Context, in xy) (none, error) {
			_, err := handlers.Spawn(ctx, canvas.Chord([]canvas.Signature{s("add", in.X, in.X)}, s("add", in.Y)))
			return none{}, err
		}),
		task("build_chain_inside_task", func(ctx context.Context, _ none) (handlers.Sent, error) {
			return handlers.Spawn(ctx, canvas.Chain(s("add", 1, 1), s("add", 2), canvas.Group(s("add", 3), s("add", 4)), s("add", 5)))
		}),

		task("add_replaced", func(_ context.Context, in xy) (none, error) {
			return none{}, handlers.Replace(s("add", in.X, in.Y))
		}),
		task("add_replaced_with_chain", func(_ context.Context, in xy) (none, error) {
			return none{}, handlers.Replace(canvas.Chain(s("add", in.X, in.Y), s("identity")))
		}),
		task("fail_replaced", func(_ context.Context, in anything) (none, error) {
			return none{}, handlers.Replace(s("fail", in.Args...).SI())
		}),
		task("record_replaced_task_nesting", recordNesting),
		task("replace_with_chain", func(_ context.Context, in linked) (none, error) {
			c := canvas.Chain(s("identity", in.Args...), s("identity")).Link(in.link())
			return none{}, handlers.Replace(c)
		}),
		task("replace_with_chain_which_raises", func(_ context.Context, in linked) (none, error) {
			c := canvas.Chain(s("identity", in.Args...), s("raise_error")).LinkError(in.link())
			return none{}, handlers.Replace(c)
		}),
		task("replace_with_empty_chain", func(context.Context, anything) (none, error) {
			return none{}, handlers.Replace(canvas.Chain())
		}),
		task("replace_with_chain_which_contains_a_group", func(context.Context, none) (none, error) {
			return none{}, handlers.Replace(canvas.Chain(s("add", 1, 2), canvas.Group(s("add", 1), s("add", 1))))
		}),
		task("replace_with_stamped_task", func(_ context.Context, in struct {
			ReplaceWith protocol.Value `json:"replace_with,omitzero"`
		},
		) (none, error) {
			with := s("replaced_with_me")
			if in.ReplaceWith != nil {
				var err error
				if with, err = canvas.Parse(in.ReplaceWith); err != nil {
					return none{}, err
				}
			}
			return none{}, handlers.Replace(with.Stamp("StampOnReplace", "This is the replaced task"))
		}),
		task("second_order_replace1", secondOrder("A", canvas.Chain(
			s("second_order_replace2"), s("second_order_replace1").SI().Kw(map[string]any{"state": true})))),
		task("second_order_replace2", secondOrder("B", canvas.Chain(
			s("redis_echo", "In/Out C"), s("second_order_replace2").SI().Kw(map[string]any{"state": true})))),

		task("add_to_all", func(_ context.Context, in numsVal) (none, error) {
			return none{}, handlers.Replace(canvas.Group(in.adds()...))
		}),
		task("add_to_all_to_chord", func(ctx context.Context, in numsVal) (int, error) {
			for _, add := range in.adds() {
				if _, err := handlers.AddToChord(ctx, add); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}),
		task("add_chord_to_chord", func(ctx context.Context, in numsVal) (int, error) {
			_, err := handlers.AddToChord(ctx, canvas.Chain(canvas.Group(in.adds()...), s("tsum")))
			return 0, err
		}),
	}
}

type linked struct {
	Args    []protocol.Value `celery:"*args"`
	LinkMsg protocol.Value   `json:"link_msg,omitzero"`
}

// link tells Redis what it is given, or the message when there is one.
func (in linked) link() canvas.Signature {
	if in.LinkMsg == nil {
		return s("redis_echo")
	}
	return s("redis_echo", in.LinkMsg).SI()
}

// recordNesting replaces itself so often and returns how deep each run was.
func recordNesting(ctx context.Context, in struct {
	Replacements int              `json:"replacements"`
	Nesting      []protocol.Value `json:"nesting,omitzero"`
},
) ([]protocol.Value, error) {
	t := info(ctx)
	nesting := append(in.Nesting, int64(t.Nesting))
	if in.Replacements == 0 {
		return nesting, nil
	}
	next := s("record_replaced_task_nesting", in.Replacements-1, nesting)
	if t.ReplyTo != "" { // the caller's result queue, for rpc
		next = next.Set("reply_to", t.ReplyTo)
	}
	return nil, handlers.Replace(next)
}

// secondOrder says that it comes in, is replaced, and says that it goes out.
func secondOrder(name string, with canvas.Signature) func(context.Context, state) (none, error) {
	return func(ctx context.Context, in state) (none, error) {
		if in.State {
			return none{}, echo(ctx, "redis-echo", "Out "+name)
		}
		if err := echo(ctx, "redis-echo", "In "+name); err != nil {
			return none{}, err
		}
		return none{}, handlers.Replace(with)
	}
}

type state struct {
	State bool `json:"state" default:"false"`
}
