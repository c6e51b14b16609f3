package protocol

import (
	"fmt"
	"slices"
	"strings"
)

// body decompresses and decodes the body of the message, if its content is accepted.
func (d *decoder) body() (Value, error) {
	data, err := d.content()
	if err != nil {
		return nil, err
	}
	return d.deserialize(data)
}

func (d *decoder) deserialize(data []byte) (Value, error) {
	v, err := Deserialize(d.message.Properties.ContentType, data, d.options.Limits)
	if err != nil {
		return nil, partError("body", err)
	}
	return v, nil
}

// content decompresses the body of the message, if it is accepted.
func (d *decoder) content() ([]byte, error) {
	data := d.message.Body
	if codec, _ := d.message.Headers.Get("compression"); Truthy(codec) {
		name, ok := codec.(string)
		if !ok {
			return nil, wrongType("headers.compression", codec, "the name of a compression")
		}
		var err error
		if data, err = Decompress(name, data, d.options.Limits); err != nil {
			return nil, partError("body", err)
		}
	}
	if most := d.options.Limits.inflated(); len(data) > most {
		return nil, &DecodeError{Part: "body", Err: fmt.Errorf("is of %d bytes, at most %d are read: %w", len(data), most, ErrTooLarge)}
	}
	content := d.message.Properties.ContentType
	if err := d.accepts(content); err != nil {
		return nil, &DecodeError{Part: "properties.content_type", Err: err}
	}
	if _, usable := ContentType(content); !usable && content != signedContent { // which is accepted with a Seal only
		return nil, &DecodeError{
			Part: "properties.content_type",
			Err:  fmt.Errorf("%w: no reader for content type %q; choose json, msgpack or yaml", ErrInvalidTask, clip(content)),
		}
	}
	return data, nil
}

// accepts compares the content type as Kombu does: exactly, parameters and case included.
func (d *decoder) accepts(content string) error {
	switch content {
	case signedContent:
		if d.options.Limits.Seal != nil {
			return nil
		}
		return fmt.Errorf("%w: content type %q holds no task, unless it is signed: then set task_serializer and accept_content "+
			"to auth and give security_key, security_certificate and security_cert_store", ErrInvalidTask, content)
	case "", "application/text":
		// Kombu lets these pass without looking at the list, but nothing in them can be a task.
		return fmt.Errorf("%w: content type %q holds no task; send it with task_serializer json", ErrInvalidTask, content)
	case "application/x-python-serialize":
		return fmt.Errorf("%w: %s is sent as pickle, which only Python can read; set task_serializer = 'json' for it "+
			"(accept_content must not list pickle here)", ErrRefusedContent, d.called())
	}
	if Accepted(content, d.options.Accept) {
		return nil
	}
	accept := d.options.Accept
	if slices.Contains(accept, signedName) {
		return fmt.Errorf("%w: %s is sent as %q, unsigned, and only signed messages are accepted (accept_content auth); "+
			"set task_serializer = 'auth' where it is sent", ErrRefusedContent, d.called(), clip(content))
	}
	if accept == nil {
		accept = []string{"json"}
	}
	return fmt.Errorf("%w: %s is sent as %q; add it to accept_content (now %s) or change task_serializer",
		ErrRefusedContent, d.called(), clip(content), strings.Join(accept, ", "))
}

// called names the task for an error text, as far as it is known before the body is read.
func (d *decoder) called() string {
	if v, _ := d.message.Headers.Get("task"); isText(v) {
		return "task " + describe(v)
	}
	return "a message"
}

// fill takes the body of protocol 2: [args, kwargs, embed].
func (t *Task) fill(body Value) error {
	parts, ok := body.([]Value)
	if !ok || len(parts) != 3 {
		return invalid("body", body, "[args, kwargs, embed]")
	}
	return t.call(parts[0], parts[1], parts[2])
}

// call takes the three parts of a body, whichever protocol they come from.
func (t *Task) call(args, kwargs, embed Value) error {
	list, err := iterate(args)
	if err != nil {
		return err
	}
	object, ok := kwargs.(*Object)
	if !ok || object == nil {
		return invalid("body[1]", kwargs, "the keyword arguments, an object")
	}
	t.Args, t.Kwargs = list, object

	if !Truthy(embed) {
		return nil
	}
	e, ok := embed.(*Object)
	if !ok {
		return invalid("body[2]", embed, "an object or null")
	}
	for _, key := range []string{"callbacks", "errbacks", "chain"} {
		v, _ := e.Get(key)
		list, ok := v.([]Value)
		if !ok && Truthy(v) {
			return invalid("body[2]."+key, v, "a list of signatures or null")
		}
		*t.embedded(key) = list
	}
	if chord, _ := e.Get("chord"); Truthy(chord) {
		t.Chord = chord
	}
	return nil
}

// embedded is the field of a list of the embed.
func (t *Task) embedded(key string) *[]Value {
	switch key {
	case "callbacks":
		return &t.Callbacks
	case "errbacks":
		return &t.Errbacks
	case "chain":
		return &t.Chain
	}
	return nil
}

// iterate is Python's *args: a text gives its characters, a dict its keys, bytes their numbers. It is never
// nil without an error.
func iterate(args Value) ([]Value, error) {
	list := []Value{}
	switch v := args.(type) {
	case []Value:
		return append(list, v...), nil
	case Set:
		return append(list, v...), nil
	case string:
		for i := 0; i < len(v); {
			_, n := decodeWTF8(v[i:])
			n = max(n, 1)
			list = append(list, v[i:i+n])
			i += n
		}
		return list, nil
	case *Object:
		for _, m := range v.Members() {
			list = append(list, m.Key)
		}
		return list, nil
	case []byte:
		for _, b := range v {
			list = append(list, int64(b))
		}
		return list, nil
	}
	return nil, invalid("body[0]", args, "the arguments, a list")
}
