package main

import (
	"context"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// s is the signature of one of the suite's tasks: add.s(1, 2).
func s(name string, args ...any) canvas.Signature { return canvas.New(module+"."+name, args...) }

// signatureTasks return signatures as data, and take them.
func signatureTasks() []handlers.Handler {
	add := s("add")
	chain := func(parts ...canvas.Signature) canvas.Signature { return canvas.Chain(parts...) }
	group := func(parts ...canvas.Signature) canvas.Signature { return canvas.Group(parts...) }
	chord := func(header canvas.Signature, body canvas.Signature) canvas.Signature {
		return canvas.Chord([]canvas.Signature{header}, body)
	}
	var all []handlers.Handler
	for name, value := range map[string]canvas.Signature{
		"chain_chain": chain(chain(add)), "chain_group": chain(group(add)), "chain_chord": chain(chord(add, add)),
		"group_chain": group(chain(add)), "group_group": group(group(add)), "group_chord": group(chord(add, add)),
		"chord_chain": chord(chain(add), add), "chord_group": chord(group(add), add), "chord_chord": chord(chord(add, add), add),
	} {
		all = append(all, task("return_nested_signature_"+name, func(context.Context, none) (canvas.Signature, error) { return value, value.Err() }))
	}
	return append(all, task("rebuild_signature", func(_ context.Context, in struct {
		SigDict protocol.Value `json:"sig_dict"`
	},
	) (none, error) {
		_, err := canvas.Parse(in.SigDict) // which takes no part that is no signature
		return none{}, err
	}))
}
