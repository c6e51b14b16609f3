package protocol

import (
	"cmp"
	"errors"
	"fmt"
)

// EncodePart writes what a header task adds to its chord (celery/backends/redis.py, on_chord_part_return):
//
//	[1, task id, state, result]
//
// byte for byte as Celery does in json and msgpack, compressed only when e.Compression says so. A value
// that cannot be written is an *EncodeError.
func (r Result) EncodePart(e Encoding) ([]byte, error) {
	value := r.Value
	if r.Exception != nil {
		value = r.Exception.value(e.serializer())
	}
	return e.stored([]Value{int64(1), r.TaskID, string(r.Status), value})
}

// PartPrefixes are the beginnings of every uncompressed part of that task, whoever wrote it and whatever the
// task returned. They tell the task's part from those of all others; signed parts have none.
func PartPrefixes(serializer, taskID string) ([]string, error) {
	switch serializer {
	case "", "json", "yaml":
		id, err := AppendJSON(nil, taskID)
		if err != nil {
			return nil, err
		}
		prefixes := []string{"[1, " + string(id) + ", "}
		if serializer == "yaml" { // Python writes the block form, with quotes where the text would be something else
			prefixes = append(prefixes, "- 1\n- "+taskID+"\n", "- 1\n- '"+taskID+"'\n")
		}
		return prefixes, nil
	case "msgpack":
		head, err := appendMsgpack(nil, []Value{int64(1), taskID})
		if err != nil {
			return nil, err
		}
		head[0] += 2 // an array of four, of which these are two
		return []string{string(head)}, nil
	case signedName:
		return nil, nil // each signature differs: nobody can tell
	}
	return nil, &EncodeError{Err: fmt.Errorf("no encoder for serializer %q: %w", clip(serializer), ErrRefusedContent)}
}

// DecodePart reads a part, compressed or not: TaskID, Status and either Value or Exception of the Result.
func DecodePart(serializer string, data []byte, l Limits) (Result, error) {
	v, err := readStored("part", serializer, data, l)
	if err != nil {
		return Result{}, err
	}
	list, ok := v.([]Value)
	if !ok || len(list) != 4 {
		return Result{}, wrongType("part", v, "a list of 4")
	}
	if !isText(list[1]) {
		return Result{}, wrongType("part[1]", list[1], "a task id")
	}
	if !isText(list[2]) {
		return Result{}, wrongType("part[2]", list[2], "a state")
	}
	r := Result{TaskID: list[1].(string), Status: State(list[2].(string)), Value: list[3]}
	if r.Status.Exceptional() && r.Value != nil {
		if r.Exception = exceptionFrom(r.Value, ""); r.Exception == nil {
			return Result{}, wrongType("part[3]", r.Value, "an exception")
		}
		r.Value = nil
	}
	return r, nil
}

// EncodeGroup writes the record of a group, {"result": tuple}.
func EncodeGroup(e Encoding, tuple Value) ([]byte, error) {
	return e.stored(ObjectOf(Member{"result", tuple}))
}

// DecodeGroup reads the record of a group, compressed or not, and returns its tuple.
func DecodeGroup(serializer string, data []byte, l Limits) (Value, error) {
	v, err := readStored("group", cmp.Or(serializer, "json"), data, l)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(*Object)
	if !ok {
		return nil, wrongType("group", v, "an object")
	}
	tuple, there := doc.Get("result")
	if !there {
		return nil, &DecodeError{Part: "group.result", Err: errors.New("is missing")}
	}
	return tuple, nil
}
