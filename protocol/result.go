package protocol

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"
)

// A Result is the stored document of one task (celery/backends/base.py, _get_result_meta). The rpc backend
// sends the same document.
type Result struct {
	TaskID    string
	Status    State
	Value     Value      // the result; ignored when Exception is set
	Exception *Exception // for RETRY (may be nil), FAILURE, REVOKED
	Traceback string     // "" writes Exception's, or null
	Children  []Value    // result tuples; nil writes [] unless NoContext
	NoContext bool       // children: null
	DateDone  time.Time  // zero writes null
	GroupID   string
	ParentID  string
	Extended  *Extended // nil: not result_extended
}

// Extended are the fields of result_extended.
type Extended struct {
	Name       string
	Args       []Value
	Kwargs     *Object
	Worker     string
	Retries    int
	Queue      string
	StampNames []string
	Stamps     *Object
	Unknown    bool // an unknown task: all six null
}

// Encode writes the document by e.Serializer, byte for byte as Celery 5.7 does; date_done in e.Zone. It is
// compressed only when e.Compression says so, which readers before 5.7 cannot read. A value that cannot be
// written is an *EncodeError.
func (r Result) Encode(e Encoding) ([]byte, error) {
	if data, ok := r.usual(e); ok {
		return data, nil
	}
	return e.stored(r.document(e))
}

// usual writes in one go what document and stored would: for most results no tree of values is needed. It is not ok
// with what has more fields than most, and with what cannot be written, for which stored has the error.
func (r *Result) usual(e Encoding) (data []byte, ok bool) {
	if e.serializer() != "json" || e.Compression != "" || r.Exception != nil || r.Extended != nil {
		return nil, false
	}
	size := 192
	if text, ok := r.Value.(string); ok {
		size += len(text)
	}
	w := jsonWriter{b: make([]byte, 0, size)}
	w.text(`{"status": `, string(r.Status))
	w.value(`, "result": `, r.Value)
	w.value(`, "traceback": `, textOrNil(r.Traceback))
	switch {
	case r.Children != nil:
		w.value(`, "children": `, r.Children)
	case r.NoContext:
		w.b = append(w.b, `, "children": null`...)
	default:
		w.b = append(w.b, `, "children": []`...)
	}
	if r.DateDone.IsZero() {
		w.b = append(w.b, `, "date_done": null`...)
	} else {
		w.b = append(w.b, `, "date_done": "`...)
		w.b = append(appendISO(w.b, DateTime{Time: r.DateDone.In(e.zone())}, 'T'), '"')
	}
	if r.GroupID != "" {
		w.text(`, "group_id": `, r.GroupID)
	}
	if r.ParentID != "" {
		w.text(`, "parent_id": `, r.ParentID)
	}
	w.text(`, "task_id": `, r.TaskID)
	return append(w.b, '}'), w.err == nil
}

// A jsonWriter keeps the first error.
type jsonWriter struct {
	b   []byte
	err error
}

func (w *jsonWriter) text(before, s string) {
	if w.err == nil {
		w.b, w.err = appendJSONString(append(w.b, before...), s)
	}
}

// value writes the value of a member of the document.
func (w *jsonWriter) value(before string, v Value) {
	if w.err == nil {
		w.b, w.err = appendJSON(append(w.b, before...), v, DefaultDepth-1)
	}
}

// stored writes a value as the result store keeps it.
func (e Encoding) stored(v Value) ([]byte, error) {
	data, _, _, err := e.Serialize(v)
	if err != nil || e.Compression == "" {
		return data, err
	}
	packed, codec, err := Compress(e.Compression, data)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(compressedMagic)+len(codec)+1+len(packed))
	out = append(append(out, compressedMagic...), codec...)
	return append(append(out, 0), packed...), nil
}

// readStored is what stored wrote, compressed or not. part is the name for errors.
func readStored(part, serializer string, data []byte, l Limits) (Value, error) {
	if packed, ok := bytes.CutPrefix(data, []byte(compressedMagic)); ok {
		codec, body, found := bytes.Cut(packed, []byte{0})
		if !found || len(codec) > 255 {
			return nil, &DecodeError{Part: part, Err: errors.New("compressed, but by what is not said")}
		}
		var err error
		if data, err = Decompress(string(codec), body, l); err != nil {
			return nil, partError(part, err)
		}
	}
	v, err := Deserialize(cmp.Or(serializer, "json"), data, l)
	if err != nil {
		return nil, partError(part, err)
	}
	return v, nil
}

// compressedMagic begins a stored document that is compressed (Celery 5.7): after it come the codec's
// content type, a zero byte and the compressed bytes. No serializer's output begins with a zero byte.
const compressedMagic = "\x00celery-compressed\x00"

func (r Result) document(e Encoding) *Object {
	value, traceback := r.Value, r.Traceback
	if r.Exception != nil {
		value = r.Exception.value(e.serializer())
		traceback = cmp.Or(traceback, r.Exception.Traceback)
	}
	var children Value
	if !r.NoContext || r.Children != nil {
		children = listOrEmpty(r.Children)
	}
	var done Value
	if !r.DateDone.IsZero() {
		done = FormatTimestamp(r.DateDone, e.zone())
	}
	doc := &Object{members: make([]Member, 0, 16)}
	doc.Set("status", string(r.Status))
	doc.Set("result", value)
	doc.Set("traceback", textOrNil(traceback))
	doc.Set("children", children)
	doc.Set("date_done", done)
	if r.GroupID != "" {
		doc.Set("group_id", r.GroupID)
	}
	if r.ParentID != "" {
		doc.Set("parent_id", r.ParentID)
	}
	if r.Extended != nil {
		r.Extended.into(doc)
	}
	doc.Set("task_id", r.TaskID)
	return doc
}

func (x *Extended) into(doc *Object) {
	if x.Unknown {
		for _, key := range extendedKeys {
			doc.Set(key, nil)
		}
		return
	}
	kwargs := x.Kwargs
	if kwargs == nil {
		kwargs = &Object{}
	}
	doc.Set("name", textOrNil(x.Name))
	doc.Set("args", listOrEmpty(x.Args))
	doc.Set("kwargs", kwargs)
	doc.Set("worker", textOrNil(x.Worker))
	doc.Set("retries", int64(x.Retries))
	doc.Set("queue", textOrNil(x.Queue))
	if x.Stamps.Len() == 0 {
		return
	}
	doc.Set("stamped_headers", textList(x.StampNames))
	for _, stamp := range x.Stamps.Members() {
		// Python lets a stamp named status or result replace the real one, and nobody can read the record
		// any more. Such a stamp stays out.
		if !metaKeys[stamp.Key] && slices.Contains(x.StampNames, stamp.Key) {
			doc.Set(stamp.Key, stamp.Value)
		}
	}
}

var (
	extendedKeys = []string{"name", "args", "kwargs", "worker", "retries", "queue"}
	metaKeys     = set("status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id",
		"name", "args", "kwargs", "worker", "retries", "queue", "stamped_headers")
)

// DecodeResult reads a stored document, compressed or not. Only status and result must be there, as for
// Python; what else is missing or of another type reads as not there.
func DecodeResult(serializer string, data []byte, l Limits) (Result, error) {
	v, err := readStored("result", serializer, data, l)
	if err != nil {
		return Result{}, err
	}
	doc, ok := v.(*Object)
	if !ok {
		return Result{}, wrongType("result", v, "an object")
	}
	status, _ := doc.Get("status")
	if !isText(status) {
		return Result{}, wrongType("result.status", status, "a state")
	}
	value, there := doc.Get("result")
	if !there {
		return Result{}, wrongType("result.result", nil, "a value or null")
	}
	r := Result{
		TaskID:    docText(doc, "task_id"),
		Status:    State(status.(string)),
		Value:     value,
		Traceback: docText(doc, "traceback"),
		GroupID:   docText(doc, "group_id"),
		ParentID:  docText(doc, "parent_id"),
	}
	if r.Status.Exceptional() {
		if r.Exception = exceptionFrom(value, r.Traceback); r.Exception != nil {
			r.Value = nil
		}
	}
	children, _ := doc.Get("children")
	if r.Children, ok = children.([]Value); !ok {
		r.NoContext = true
	}
	switch done, _ := doc.Get("date_done"); done := done.(type) {
	case string:
		if at, err := ParseTimestamp(done); err == nil {
			r.DateDone = at
		}
	case DateTime: // yaml, and writers that let the serializer format it
		r.DateDone = done.Time
	}
	r.Extended = extendedFrom(doc)
	return r, nil
}

func extendedFrom(doc *Object) *Extended {
	if _, there := doc.Get("name"); !there {
		return nil
	}
	x := &Extended{Unknown: true}
	for _, key := range extendedKeys {
		if v, _ := doc.Get(key); v != nil {
			x.Unknown = false
		}
	}
	x.Name, x.Worker, x.Queue = docText(doc, "name"), docText(doc, "worker"), docText(doc, "queue")
	v, _ := doc.Get("args")
	x.Args, _ = v.([]Value)
	v, _ = doc.Get("kwargs")
	x.Kwargs, _ = v.(*Object)
	v, _ = doc.Get("retries")
	x.Retries, _ = wholeNumber(v)
	v, _ = doc.Get("stamped_headers")
	if list, ok := v.([]Value); ok {
		for _, entry := range list {
			if name, ok := entry.(string); ok {
				x.StampNames = append(x.StampNames, name)
			}
		}
		x.Stamps = &Object{}
		for _, name := range x.StampNames {
			if stamp, there := doc.Get(name); there && !metaKeys[name] {
				x.Stamps.Set(name, stamp)
			}
		}
	}
	return x
}

func docText(doc *Object, key string) string {
	v, _ := doc.Get(key)
	s, _ := v.(string)
	return s
}

// A ReplyTo is where the rpc backend sends a result.
type ReplyTo struct {
	Queue         string // the reply_to property; "": nothing is sent
	CorrelationID string
}
