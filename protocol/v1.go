package protocol

import (
	"errors"
	"fmt"
	"strings"
)

// protocol1 reads a message without a task header: the body is one object that says everything.
func (d *decoder) protocol1() (*Task, error) {
	v, err := d.body()
	if err != nil {
		return nil, err
	}
	body, ok := v.(*Object)
	if !ok {
		return nil, &DecodeError{Part: "body", Err: fmt.Errorf("%w: no task header, and the body is %s", ErrUnknownMessage, describe(v))}
	}
	if _, there := body.Get("task"); !there {
		return nil, &DecodeError{Part: "body.task", Err: fmt.Errorf("%w: neither a task header nor a task in the body", ErrUnknownMessage)}
	}
	if _, hybrid := body.Get("args"); hybrid {
		return d.hybrid(body)
	}
	return d.bare(body)
}

// hybrid reads a body with args, whether the headers name a task or not (celery/worker/strategy.py,
// hybrid_to_proto2). Real headers win over the body's keys; taskset is not looked at, and a group_index in
// the body is lost, as in Python.
func (d *decoder) hybrid(body *Object) (*Task, error) {
	h := &Object{}
	for _, key := range []string{
		"lang", "task", "id", "root_id", "parent_id", "group", "shadow", "eta", "expires",
		"retries", "timelimit", "argsrepr", "kwargsrepr", "origin",
	} {
		v, _ := body.Get(key)
		h.Set(key, v)
	}
	for _, m := range d.message.Headers.Members() {
		h.Set(m.Key, m.Value)
	}
	return d.old(h, body)
}

// bare reads a body without args (proto1_to_proto2): all of it serves as headers, taskset is the group, and
// the custom headers are those of the message.
func (d *decoder) bare(body *Object) (*Task, error) {
	h := body.Clone()
	if taskset, there := h.Get("taskset"); there {
		h.Set("group", taskset)
	}
	// Made from the arguments below; what the body says there does not count.
	h.Delete("argsrepr")
	h.Delete("kwargsrepr")
	custom := d.message.Headers
	if custom == nil {
		custom = &Object{}
	}
	h.Set("headers", custom)
	return d.old(h, body)
}

func (d *decoder) old(h, body *Object) (*Task, error) {
	t, err := d.headers(h, "body.")
	t.Protocol = 1
	if err != nil {
		return known(t), err
	}
	args, there := body.Get("args")
	if !there {
		args = []Value{}
	}
	kwargs, there := body.Get("kwargs")
	if !there {
		kwargs = &Object{}
	}
	embed := &Object{}
	for _, key := range []string{"callbacks", "errbacks", "chord"} {
		v, _ := body.Get(key)
		embed.Set(key, v)
	}
	return t, inOldBody(t.call(args, kwargs, embed))
}

// inOldBody says where the parts of the three-element body are in the old one.
func inOldBody(err error) error {
	if e := (*DecodeError)(nil); errors.As(err, &e) {
		return &DecodeError{Part: oldParts.Replace(e.Part), Err: e.Err}
	}
	return err
}

var oldParts = strings.NewReplacer("body[0]", "body.args", "body[1]", "body.kwargs", "body[2]", "body")
