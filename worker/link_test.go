package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// errAway is a broker that is not there.
var errAway = fmt.Errorf("test: connection refused: %w", transports.ErrDisconnected)

func no() *bool { return new(bool) }

func TestABrokerThatIsNotThereAtTheStart(t *testing.T) {
	yes := true
	for _, tt := range []struct {
		name   string
		policy Connection
		log    []string
	}{
		{"no retry at the start", Connection{RetryAtStart: no()}, []string{
			"Retrying to establish a connection to the message broker after a connection loss has been disabled (app.conf.broker_connection_retry_on_startup=False). Shutting down...",
		}},
		{"no retry at all", Connection{NoRetry: true}, []string{
			"Retrying to establish a connection to the message broker after a connection loss has been disabled (app.conf.broker_connection_retry=False). Shutting down...",
		}},
		{"two retries", Connection{Retries: 2}, []string{
			"consumer: Cannot connect to memory://localhost//: test: connection refused", "seconds... (1/2)", "seconds... (2/2)", "Unrecoverable error: OperationalError('test: connection refused",
		}},
		{"two retries at the start, none later", Connection{RetryAtStart: &yes, NoRetry: true, Retries: 2}, []string{"seconds... (2/2)", "Unrecoverable error"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := startRig(t, func(c *Config) {
					c.Connection = tt.policy
					c.Transport.(*membroker.Broker).Fail(membroker.Connect, -1, errAway)
				}, handlers.Func("double", double))
				select {
				case err := <-r.end:
					r.end <- err
					if !errors.Is(err, ErrUnreachable) {
						t.Errorf("Run = %v, want ErrUnreachable", err)
					}
				case <-time.After(time.Minute):
					t.Fatal("the worker goes on")
				}
				at := 0
				for _, line := range tt.log {
					i := strings.Index(r.log.String()[at:], line)
					if i < 0 {
						t.Fatalf("the log does not say %q behind the rest:\n%s", line, r.log)
					}
					at += i
				}
				if strings.Contains(r.log.String(), "(3/") {
					t.Errorf("there are more attempts:\n%s", r.log)
				}
			})
		})
	}
}

func TestTheCountOfRetriesStartsAnewWithEachConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Connection.Retries = 5 }, handlers.Func("double", double))
		synctest.Wait()
		for range 3 { // four failures each: together more than five
			r.broker.Fail(membroker.Connect, 4, errAway)
			r.broker.Cut()
			pass(time.Minute)
		}
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		r.wantState("a", protocol.Success)
		if n := strings.Count(r.log.String(), "ready."); n != 1 {
			t.Errorf("the log says %d times that the worker is ready", n)
		}
	})
}

// TestALostConnectionThatIsNotMadeAgainLetsTasksFinish: their results are stored, then Run ends.
func TestALostConnectionThatIsNotMadeAgainLetsTasksFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Connection.NoRetry = true }, handlers.Func("sleep", sleeper(20*time.Second)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.send(protocol.Task{ID: "b", Name: "sleep", ETA: time.Now().Add(time.Hour)})
		synctest.Wait()
		r.broker.Cut()
		began := time.Now()
		err := <-r.end
		r.end <- err
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("Run = %v, want ErrUnreachable", err)
		}
		if took := time.Since(began); took < 20*time.Second || took > time.Minute {
			t.Errorf("Run ended after %v", took)
		}
		r.wantLog("Retrying to re-establish a connection to the message broker after a connection loss has been disabled (app.conf.broker_connection_retry=False). Shutting down...")
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 2, 0) // the message of a could not be acknowledged
	})
}

func TestAQueueThatIsRefusedAtTheStart(t *testing.T) {
	refused := fmt.Errorf("test: access refused: %w", transports.ErrRefused)
	t.Run("ends Run where that is asked for", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := startRig(t, func(c *Config) {
				c.Connection.FailRefused = true
				c.Transport.(*membroker.Broker).Fail(membroker.Consume, -1, refused)
			}, handlers.Func("double", double))
			err := <-r.end
			r.end <- err
			if !errors.Is(err, transports.ErrRefused) {
				t.Errorf("Run = %v, want the refusal", err)
			}
			r.wantLog("Unrecoverable error: test: access refused")
		})
	})
	for name, failing := range map[string]bool{"is asked for again by default": false, "and in any case once it was granted": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := startRig(t, func(c *Config) {
					c.Connection.FailRefused = failing
					if !failing {
						c.Transport.(*membroker.Broker).Fail(membroker.Consume, 5, refused)
					}
				}, handlers.Func("double", double))
				synctest.Wait()
				if failing {
					r.broker.Fail(membroker.Consume, 5, refused)
					r.broker.Cut()
				}
				pass(time.Minute)
				r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
				synctest.Wait()
				r.wantState("a", protocol.Success)
			})
		})
	}
}

// TestARunWhoseMessageIsLostIsCancelledWhereThatIsAskedFor: the copy that comes runs instead.
func TestARunWhoseMessageIsLostIsCancelledWhereThatIsAskedFor(t *testing.T) {
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var runs atomic.Int32
				r := startRig(t, func(c *Config) { c.Connection.CancelLost, c.Concurrency = asked, 2 }, handlers.Func("sleep", func(ctx context.Context, in nothing) (string, error) {
					runs.Add(1)
					return sleeper(time.Minute)(ctx, in)
				}))
				r.send(protocol.Task{ID: "a", Name: "sleep"})
				synctest.Wait()
				r.broker.Cut()
				pass(2 * time.Minute)
				r.wantState("a", protocol.Success)
				r.wantQueue("q", 0, 0)
				want := int32(1)
				if asked {
					want = 2
					r.wantLog("Task sleep[a] cannot be acknowledged after a connection loss since late acknowledgement is enabled for it.")
				}
				if n := runs.Load(); n != want {
					t.Errorf("%d runs, want %d", n, want)
				}
			})
		})
	}
}

// TestACopyOfARunThatGivesItsMessageBackRuns: when the connection broke under the run, the copy is all there is.
func TestACopyOfARunThatGivesItsMessageBackRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, func(c *Config) { c.Concurrency = 2 }, handlers.Func("again", func(context.Context, nothing) (string, error) {
			time.Sleep(time.Minute)
			if runs.Add(1) == 1 {
				return "", handlers.Requeue(errors.New("not yet"))
			}
			return "done", nil
		}))
		r.send(protocol.Task{ID: "a", Name: "again"})
		synctest.Wait()
		r.broker.Cut()
		pass(5 * time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 0, 0)
	})
}

// A connection that breaks often is not a broker that refuses: a moment after the next one orders arrive again.
func TestOrdersArriveSoonAfterManyBrokenConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		for range 12 {
			pass(5 * time.Second)
			r.broker.Cut()
		}
		pass(time.Second)
		r.client().want("ping", `{"ok": "pong"}`)
	})
}

// TestABrokerThatWasAwayForLongIsFoundWithinASecond: however long the pause that is told of has become.
func TestABrokerThatWasAwayForLongIsFoundWithinASecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		synctest.Wait()
		r.broker.Fail(membroker.Connect, -1, errAway)
		r.broker.Cut()
		pass(10 * time.Minute)
		told := strings.Count(r.log.String(), "Trying again in")
		if told > 40 {
			t.Errorf("the log tells of %d attempts in ten minutes", told)
		}
		r.broker.Fail(membroker.Connect, 0, nil)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		pass(1100 * time.Millisecond)
		r.wantState("a", protocol.Success)
	})
}

// TestAConnectionThatBreaksAtOnceIsNotDialledInAHurry: as one to a server that was made a replica.
func TestAConnectionThatBreaksAtOnceIsNotDialledInAHurry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bad := &breaking{}
		r := startRig(t, func(c *Config) {
			bad.Broker = c.Transport.(*membroker.Broker)
			c.Transport = bad
		}, handlers.Func("double", double))
		pass(20 * time.Second)
		if n := bad.dials.Load(); n < 20 || n > 60 {
			t.Errorf("dialled %d times in 20 s", n)
		}
		bad.over.Store(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		pass(2 * time.Second)
		r.wantState("a", protocol.Success)
	})
}

// breaking is a broker whose connections break as soon as they are made.
type breaking struct {
	*membroker.Broker
	dials atomic.Int64
	over  atomic.Bool
}

func (b *breaking) Connect(ctx context.Context) (transports.Conn, error) {
	c, err := b.Broker.Connect(ctx)
	b.dials.Add(1)
	if !b.over.Load() {
		b.Cut()
	}
	return c, err
}

// TestAConnectionThatIsMadeAtTheVeryEndIsClosed: one that was found while the next attempt was waited for.
func TestAConnectionThatIsMadeAtTheVeryEndIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		late := &lastMoment{Broker: membroker.New(), attempts: 12, cancel: cancel}
		l := newLink(late, slog.New(slog.DiscardHandler), Connection{})
		if err := l.run(ctx, ctx, make(chan transports.Conn)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-late.conn.Done():
		default:
			t.Error("nobody has closed it")
		}
	})
}

// lastMoment is away for so many attempts; by the time of the next one nobody wants it any more.
type lastMoment struct {
	*membroker.Broker
	attempts int
	cancel   context.CancelFunc
	conn     transports.Conn
}

func (b *lastMoment) Connect(ctx context.Context) (c transports.Conn, err error) {
	if b.attempts--; b.attempts >= 0 {
		return nil, errAway
	}
	b.conn, err = b.Broker.Connect(ctx)
	b.cancel()
	return b.conn, err
}
