package canvas

import (
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// An Effect is one thing to do. Effects are to be done in order, each safe before the next.
type Effect interface{ effect() }

type (
	// Send publishes one task message: Task.Encode with Serializer and Compression gives it.
	Send struct {
		Task         *protocol.Task // Exchange and RoutingKey say where to
		Queue        *Queue         // to be declared first; nil: none is known
		Serializer   string         // "": the default
		Compression  string         // "": the default
		DeliveryMode int            // 1 transient, 2 persistent, 0: the default
		Delay        time.Duration  // the broker may keep it so long for Queue (see Env.NativeDelay); 0: not at all
	}

	// ChordBegin comes before anything of a chord is sent: what an earlier run under that group id left is
	// to be forgotten. Record, if not nil, is the group's result tuple, to be saved as {"result": Record}
	// because the header holds groups.
	ChordBegin struct {
		GroupID string
		Record  protocol.Value
	}

	// ChordSize comes right before the last message of a chord's header: so many parts will be reported.
	ChordSize struct {
		GroupID string
		N       int
	}

	// ChordGrow counts a part more (add_to_chord), before it is sent.
	ChordGrow struct{ GroupID string }

	// A Part reports that a task of a chord's header ended. A success is reported by the worker itself:
	// Part then only says where to (see PartOf).
	Part struct {
		TaskID  string
		GroupID string
		Index   protocol.Value // int64 or float64; nil: last
		Body    protocol.Value // the signature of the chord's body
		State   protocol.State // "" from PartOf
		// Exception is what failed; nil from PartOf.
		Exception *protocol.Exception
		// Never ran: the part of a step that was still to come. Celery does not report it when the step's
		// record already says FAILURE or REVOKED.
		NeverRan bool
	}

	// CallErrback calls an errback of the new style in this process (see Env.Errback), with the arguments
	// request, exception and traceback before its own.
	CallErrback struct {
		Task      string
		Args      []protocol.Value // its own
		Kwargs    *protocol.Object
		Immutable bool   // it gets only its own
		FailedID  string // of the task, or of the chord's body, that failed
		RootID    string
		Exception *protocol.Exception
		Traceback string
	}

	// StoreFailure records FAILURE under the id of something that will never run, so that whoever waits
	// for it is told.
	StoreFailure struct {
		TaskID    string
		GroupID   string
		ParentID  string
		ReplyTo   string // reply queue of who waits, for rpc
		Exception *protocol.Exception
		Traceback string
		Children  []protocol.Value   // what the reporting task has sent; nil: nothing
		Extended  *protocol.Extended // for result_extended; nil: nothing is known
	}
)

func (Send) effect()         {}
func (ChordBegin) effect()   {}
func (ChordSize) effect()    {}
func (ChordGrow) effect()    {}
func (Part) effect()         {}
func (StoreFailure) effect() {}
func (CallErrback) effect()  {}
