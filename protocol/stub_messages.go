package protocol

import "time"

// TEMPORARY: the frozen API of the message lane. Replace each with its real file, then delete this file.

// DecodeEnvelope reads one element of a Kombu Redis list. Anything Python's worker would die of is a *DecodeError.
// redelivered is properties.delivery_info.redelivered.
func DecodeEnvelope(raw []byte, l Limits) (m Message, redelivered bool, err error) {
	panic("unwritten")
}

// EncodeEnvelope writes m as Kombu would, with the delivery tag (a fresh UUID) given.
func EncodeEnvelope(m Message, deliveryTag string) ([]byte, error) { panic("unwritten") }

// MarkRedelivered sets both redelivered flags of a raw envelope and changes no other byte's meaning.
func MarkRedelivered(raw []byte) ([]byte, error) { panic("unwritten") }

// DecodeOptions say what may be read. The zero value accepts json with default limits.
type DecodeOptions struct {
	Accept []string // serializer names or content types; nil: json
	Limits Limits
}

// DecodeTask reads a task message of protocol 2, 1 or a hybrid. Errors are *DecodeError wrapping
// ErrRefusedContent, ErrUnknownMessage, ErrInvalidTask or the decoder's own. When the id and name could be read
// although the task could not, the returned Task is not nil and holds what was readable.
func DecodeTask(m Message, o DecodeOptions) (*Task, error) { panic("unwritten") }

// A Task is one decoded task message: what to call, and all that must survive a retry.
type Task struct {
	ID            string
	Name          string
	Args          []Value // never nil after DecodeTask
	Kwargs        *Object // never nil after DecodeTask
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
	Stamps        *Object
	ArgsRepr      string
	KwargsRepr    string
	Origin        string
	Custom        *Object // custom headers: what a retry carries on
	Callbacks     []Value // signatures, untouched; nil none
	Errbacks      []Value
	Chain         []Value
	Chord         Value // signature or nil
	CorrelationID string
	ReplyTo       string
	Priority      *int
	Exchange      string // delivery_info
	RoutingKey    string
	Protocol      int // 1 or 2
	ContentType   string
}

// Display is the name for logs and events: Shadow, or Name.
func (t *Task) Display() string { panic("unwritten") }

// Encoding says how messages and results are written. The zero value is Celery's default.
type Encoding struct {
	Serializer  string         // "": json
	Compression string         // "": none
	Zone        *time.Location // nil: UTC
}

// Encode writes the task as a new protocol 2 message (properties, headers, body), for Exchange and RoutingKey of t.
func (t *Task) Encode(e Encoding, now time.Time) (Message, error) { panic("unwritten") }

// Retried returns the task that a retry publishes: same id, retries+1, eta as given (zero: none), by spec 01 5.2 and 05 M4, M5.
func (t *Task) Retried(eta time.Time, ignoreResult bool) *Task { panic("unwritten") }

// An Exception is a Python exception as a result document holds it. It is an error.
type Exception struct {
	Module    string // "builtins"
	Type      string // qualified class name
	Args      []Value
	Traceback string // Python-shaped, "" for null
	Cause     error  // what it was made from, for Unwrap; not written
}

func (e *Exception) Error() string { panic("unwritten") } // Type: message
func (e *Exception) Unwrap() error { return e.Cause }

// Repr is Python's repr: ValueError('boom', 3).
func (e *Exception) Repr() string { panic("unwritten") }

// NewException makes a builtins exception of that class with the args, each of which FromGo must take.
func NewException(class string, args ...any) *Exception { panic("unwritten") }

// A Result is the stored document of one task (celery/backends/base.py _get_result_meta).
type Result struct {
	TaskID    string
	Status    State
	Value     Value      // the result; ignored when Exception is set
	Exception *Exception // for RETRY (may be nil), FAILURE, REVOKED
	Traceback string     // "" writes null
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

// Encode writes the document by e.Serializer; date_done in e.Zone.
func (r Result) Encode(e Encoding) ([]byte, error) { panic("unwritten") }

// DecodeResult reads a stored document, compressed (spec 05 R4) or not.
func DecodeResult(serializer string, data []byte, l Limits) (Result, error) { panic("unwritten") }

// A ReplyTo is where the rpc backend sends a result.
type ReplyTo struct {
	Queue         string // the reply_to property; "": nothing is sent
	CorrelationID string
}
