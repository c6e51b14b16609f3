package protocol

import (
	"cmp"
	"time"
)

// A Task is one decoded task message: what to call, and all that must survive a retry.
type Task struct {
	ID            string
	Name          string
	Args          []Value // never nil after DecodeTask without an error
	Kwargs        *Object // never nil after DecodeTask without an error
	Shadow        string  // display name; "" none
	RootID        string
	ParentID      string
	Group         string
	GroupIndex    Value // int64, float64 or nil, as it came
	Retries       int
	ETA           time.Time // zero: none
	Expires       time.Time // zero: none
	ExpiresText   string    // as it came; a retry sends it on verbatim
	HardLimit     time.Duration
	SoftLimit     time.Duration
	IgnoreResult  *bool // nil: the handler decides
	Nesting       int   // replaced_task_nesting
	StampNames    []string
	Stamps        *Object // only the stamps that StampNames declares
	ArgsRepr      string
	KwargsRepr    string
	Origin        string
	Custom        *Object // custom headers: what a retry carries on
	Callbacks     []Value // signatures, untouched; nil none
	Errbacks      []Value
	Chain         []Value // the remaining steps, the next one last; nil and empty both mean none
	Chord         Value   // signature or nil
	CorrelationID string
	ReplyTo       string
	Priority      *int
	Exchange      string // delivery_info
	RoutingKey    string
	Protocol      int // 1 or 2
	ContentType   string
}

// Display is the name for logs and events: Shadow, or Name.
func (t *Task) Display() string { return cmp.Or(t.Shadow, t.Name) }

// DecodeOptions say what may be read. The zero value accepts json with default limits.
type DecodeOptions struct {
	Accept []string // serializer names or content types, as accept_content; nil: json
	Limits Limits
}

// DecodeTask reads a task message of protocol 2, of protocol 1, or of the hybrids between them.
//
// Every error is a *DecodeError naming the part. It wraps ErrUnknownMessage when the message is no task at
// all, ErrRefusedContent when its content type is not accepted, ErrInvalidTask when it is readable but
// could not run (architecture: its caller is told, it goes to quarantine), ErrTooLarge, or the error of the
// serializer or codec.
//
// Whenever the id could be read, the returned Task is not nil even with an error and holds what was
// readable, so that the caller can be told; its Name may then be empty, and Args and Kwargs nil.
func DecodeTask(m Message, o DecodeOptions) (*Task, error) {
	d := decoder{message: m, options: o}
	if _, there := m.Headers.Get("task"); there {
		return d.protocol2()
	}
	return d.protocol1()
}

// A decoder holds one message on its way to a Task.
type decoder struct {
	message Message
	options DecodeOptions
}

func (d *decoder) protocol2() (*Task, error) {
	t, headErr := d.headers(d.message.Headers, "headers.")
	t.Protocol = 2
	data, err := d.content()
	if err == nil && headErr == nil && d.message.Properties.ContentType == jsonContent && t.usual(data, d.options.Limits) {
		return t, nil
	}
	var body Value
	if err == nil {
		body, err = d.deserialize(data)
	}
	if old, ok := body.(*Object); ok { // before anything else: it may bring what the headers lack
		if _, hybrid := old.Get("args"); hybrid {
			return d.hybrid(old)
		}
	}
	switch {
	case headErr != nil:
		return known(t), headErr
	case err != nil:
		return t, err
	}
	return t, t.fill(body)
}

// known is t if its id can be used to tell somebody, else nil.
func known(t *Task) *Task {
	if t == nil || t.ID == "" {
		return nil
	}
	return t
}
