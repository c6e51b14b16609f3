// Package client sends tasks and whole canvases from any Go program, and waits for their results, as a
// Python program does with delay, apply_async and AsyncResult. Workers in Python and in Go answer alike.
//
// It is for programs that are no worker. A handler sends through its own worker instead, which records what
// it sent as the task's children.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/internal/dispatch"
	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/internal/redial"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// A Config says where to and how. Transport is required.
type Config struct {
	Transport transports.Transport
	// Results is where the workers keep results. nil: nothing can be waited for, and chords are refused. It
	// stays the caller's to close, after the Client.
	Results resultbackend.Backend

	Routes   *canvas.Routes                 // task_queues and task_routes; nil: everything to the queue celery
	Tasks    map[string]canvas.TaskDefaults // what the tasks' own options say, as in a Python program that imports them
	Encoding protocol.Encoding              // task_serializer, task_compression; nothing: json, not compressed

	// Attempts is how often a message is tried; 0: 4, as Celery does (task_publish_retry_policy).
	Attempts int
	// NativeDelay sends what is to wait through RabbitMQ's delay exchanges, which are made if they are missing. A
	// Python program does so when a queue of its settings is a quorum queue (Routes.Quorum), and its queue is not
	// bound to a direct exchange.
	NativeDelay bool
	Control     ControlConfig // how Broadcast and Cast reach the workers
	// AllowErrbackOnHeader is task_allow_error_cb_on_chord_header.
	AllowErrbackOnHeader bool
}

// A Client sends and waits. It is safe for concurrent use; New makes one.
type Client struct {
	cfg     Config
	line    *redial.Line
	results results
	origin  string
	control ControlConfig
	clock   atomic.Int64 // logical, of the control messages
}

// defaultAttempts is max_retries of Celery's policy, and the first.
const defaultAttempts = 4

var (
	// ErrNoResults: there is no result to be had: no result store, or one that cannot be read.
	ErrNoResults = errors.New("client: no results are kept that could be read")
	// ErrIgnored: the task was sent with its result to be dropped.
	ErrIgnored = errors.New("client: the result is ignored")
	// ErrNoChords: a chord was to be sent, and the result store can neither count its parts nor be asked for
	// them. rpc:// is such a store.
	ErrNoChords = errors.New("client: the result store takes no chords")
	// ErrEmpty: there was nothing to send, such as a chain without steps.
	ErrEmpty = errors.New("client: an empty canvas")
)

// New checks cfg and returns a Client, which connects when it is first used.
func New(cfg Config) (*Client, error) {
	var errs []error
	if cfg.Transport == nil {
		errs = append(errs, errors.New("client: Config.Transport is required"))
	}
	if cfg.Attempts < 0 {
		errs = append(errs, fmt.Errorf("client: Config.Attempts is %d, want 0 or more", cfg.Attempts))
	}
	if _, err := (&protocol.Task{ID: "x", Name: "x"}).Encode(cfg.Encoding, time.Time{}); err != nil {
		errs = append(errs, fmt.Errorf("client: Config.Encoding: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	cfg.Attempts = cmp.Or(cfg.Attempts, defaultAttempts)
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return &Client{
		cfg: cfg, line: redial.New(cfg.Transport), results: resultsOf(cfg.Results),
		control: cfg.Control.withDefaults(), origin: "gen" + strconv.Itoa(os.Getpid()) + "@" + host,
	}, nil
}

// Send publishes s: one task, or all that a chain, group or chord starts with. The AsyncResult is what its
// last part will return: of a chain the last step, of a chord the body, of a group all members.
//
// It returns when everything is safe with the broker. A message that may not have arrived is sent again, as
// Celery does, so that a task may run twice. After an error part of a group or chord may run.
//
// An error is a mistake in the signature, ErrEmpty, ErrNoChords, a *protocol.EncodeError, or wraps what the
// broker or the store said last.
func (c *Client) Send(ctx context.Context, s canvas.Signature) (*AsyncResult, error) {
	reply, err := c.results.replyQueue(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: reply queue: %w", err)
	}
	now := time.Now()
	_, native := c.cfg.Results.(resultbackend.Chords)
	plan, err := canvas.Apply(s, nil, nil, nil, &canvas.Env{
		NewID: ids.New, Now: now, Routes: c.cfg.Routes, Tasks: c.cfg.Tasks, ReplyTo: reply, Origin: c.origin,
		NativeChords: native, NativeDelay: c.cfg.NativeDelay, AllowErrbackOnHeader: c.cfg.AllowErrbackOnHeader,
	})
	if err != nil {
		return nil, err
	}
	if plan.Result == nil {
		return nil, ErrEmpty
	}
	ignored := map[string]bool{}
	for _, e := range plan.Effects {
		send, ok := e.(canvas.Send)
		switch {
		case !ok:
		case send.Task.Name == "celery.chord_unlock" && !c.results.stored():
			return nil, ErrNoChords
		case send.Task.IgnoreResult != nil && *send.Task.IgnoreResult:
			ignored[send.Task.ID] = true
		}
	}
	res, err := c.resultOf(plan.Result, ignored)
	if err != nil {
		return nil, err
	}
	c.results.expect(res)
	for i, e := range plan.Effects {
		if err := c.do(ctx, e, now); err != nil {
			return nil, fmt.Errorf("client: message or record %d of %d: %w", i+1, len(plan.Effects), err)
		}
	}
	return res, nil
}

// do tries an effect until it is done, with Celery's pauses: none, 0.2 s, 0.4 s ... 1 s.
func (c *Client) do(ctx context.Context, e canvas.Effect, now time.Time) error {
	for attempt := 0; ; attempt++ {
		conn, err := c.line.Conn(ctx)
		if err == nil {
			d := dispatch.Dispatcher{Publisher: conn, Results: c.cfg.Results, Encoding: c.cfg.Encoding}
			err = d.Do(ctx, e, now)
		}
		if err == nil || attempt+1 >= c.cfg.Attempts || !worthAnother(err, e) {
			return err
		}
		if !pause(ctx, min(time.Duration(attempt)*200*time.Millisecond, time.Second)) {
			return err
		}
	}
}

// worthAnother reports whether the same effect may succeed later.
func worthAnother(err error, e canvas.Effect) bool {
	if _, encode := errors.AsType[*protocol.EncodeError](err); encode || !dispatch.Repeatable(e) {
		return false
	}
	return errors.Is(err, transports.ErrDisconnected) && !errors.Is(err, transports.ErrCredentials) ||
		errors.Is(err, transports.ErrRefused) || errors.Is(err, resultbackend.ErrUnavailable) ||
		errors.Is(err, context.DeadlineExceeded) // a broker that does not confirm in time
}

// pause waits and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Close ends the connection to the broker. The Config's Results are left open.
func (c *Client) Close() error {
	if err := c.line.Close(); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}
