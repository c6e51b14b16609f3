package protocol

// A State is the status of a task as clients see it (celery/states.py). Any other text is a custom
// state, such as PROGRESS, which no client takes for an end.
type State string

// Celery's states. PENDING, RECEIVED, REJECTED and IGNORED are never stored.
const (
	Pending  State = "PENDING"
	Received State = "RECEIVED"
	Started  State = "STARTED"
	Progress State = "PROGRESS"
	Retry    State = "RETRY"
	Success  State = "SUCCESS"
	Failure  State = "FAILURE"
	Revoked  State = "REVOKED"
)

// Ready reports whether the state is an end: SUCCESS, FAILURE or REVOKED.
func (s State) Ready() bool { return s == Success || s == Failure || s == Revoked }

// Exceptional reports whether the result of this state is an exception: RETRY, FAILURE or REVOKED.
func (s State) Exceptional() bool { return s == Retry || s == Failure || s == Revoked }
