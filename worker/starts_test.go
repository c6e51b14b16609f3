package worker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// leftBehind puts messages into the queue "dead" as a worker leaves them that has died: they come again, flagged. Without
// a message it leaves the one that is there once more.
func leftBehind(t *testing.T, b *membroker.Broker, ms ...protocol.Message) {
	t.Helper()
	b.Declare("dead")
	conn, err := b.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		b.Send("dead", m)
	}
	c, err := conn.Consume(t.Context(), []transports.Queue{{Name: "dead"}}, max(len(ms), 1))
	if err != nil {
		t.Fatal(err)
	}
	for range max(len(ms), 1) {
		if _, err := c.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// died notes starts that no end followed.
func died(t *testing.T, c resultbackend.StartCounter, run string, times int) {
	t.Helper()
	for range times {
		if err := c.AddStart(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
}

// countless is a store that remembers no starts.
type countless struct{ resultbackend.Backend }

// startDead runs a rig on the queue "dead", in which messages were left. Who counts is the store or, when it does not, the broker.
func startDead(t *testing.T, inStore bool, before func(b *membroker.Broker, c resultbackend.StartCounter, cfg *Config), hs ...handlers.Handler) (*rig, resultbackend.StartCounter) {
	t.Helper()
	store := memresult.New()
	var counter resultbackend.StartCounter = store
	r := startRig(t, func(cfg *Config) {
		b := cfg.Transport.(*membroker.Broker)
		b.Counting(false)
		cfg.Queues = []transports.Queue{{Name: "dead", Create: true}}
		cfg.Results = store
		if !inStore {
			cfg.Results = countless{store}
			conn, err := b.Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() }) //nolint:errcheck // nothing is held
			counter = conn.(resultbackend.StartCounter)
		}
		before(b, counter, cfg)
	}, hs...)
	r.results = store
	return r, counter
}

func both(t *testing.T, test func(t *testing.T, inStore bool)) {
	for _, where := range []string{"store", "broker"} {
		t.Run("counted by the "+where, func(t *testing.T) {
			bubble(t, func(t *testing.T) { test(t, where == "store") })
		})
	}
}

func TestStartsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before int // starts counted before; the first is not
		eta    time.Duration
		runs   bool
	}{
		{"the second start", 0, 0, true},
		{"the last start", 8, 0, true},
		{"one too many", 9, 0, false},
		{"far too many", 900, 0, false},
		{"the last start, after its time", 8, time.Minute, true},
		{"one too many, after its time", 9, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, inStore bool) {
				runs := 0
				task := protocol.Task{ID: "a", Name: "poison"}
				if tt.eta > 0 {
					task.ETA = time.Now().Add(tt.eta)
				}
				var c resultbackend.StartCounter
				r, counter := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, _ *Config) {
					died(t, counter, "a/0", tt.before)
					leftBehind(t, b, message(t, task))
					c = counter
				}, handlers.Func("poison", func(ctx context.Context, _ nothing) (int, error) {
					runs++
					if n, err := c.Starts(ctx, "a/0"); n != tt.before+1 || err != nil {
						t.Errorf("while it runs %d starts are counted (%v), want %d", n, err, tt.before+1)
					}
					return 7, nil
				}))
				pass(2 * time.Minute)
				if tt.runs {
					r.wantState("a", protocol.Success)
					r.wantQueue("dead.quarantine", 0, 0)
				} else {
					r.wantException("a", "WorkerLostError")
					r.wantQueue("dead.quarantine", 1, 0)
				}
				if (runs == 1) != tt.runs {
					t.Errorf("it ran %d times", runs)
				}
				r.wantQueue("dead", 0, 0)
				if n, err := counter.Starts(t.Context(), "a/0"); n != 0 || err != nil {
					t.Errorf("after the end %d starts are remembered (%v)", n, err)
				}
			})
		})
	}
}

func TestAFreshMessageAsksNobody(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		r, counter := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, _ *Config) {
			died(t, counter, "a/0", 99)
			b.Declare("dead")
			b.Send("dead", message(t, protocol.Task{ID: "a", Name: "double", Args: args(int64(4))}))
		}, handlers.Func("double", double))
		synctest.Wait()
		r.wantState("a", protocol.Success)
		if n, _ := counter.Starts(t.Context(), "a/0"); n != 99 {
			t.Errorf("%d starts are remembered, want 99 as before", n)
		}
	})
}

// A counter that cannot be asked stops no task.
func TestAStoreThatIsAwayCountsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := startDead(t, true, func(b *membroker.Broker, counter resultbackend.StartCounter, _ *Config) {
			died(t, counter, "a/0", 99)
			counter.(*memresult.Backend).Away(true)
			leftBehind(t, b, message(t, protocol.Task{ID: "a", Name: "double", Args: args(int64(4))}))
		}, handlers.Func("double", double))
		pass(time.Minute)
		r.results.Away(false)
		pass(time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("dead.quarantine", 0, 0)
	})
}

// Going back to the queue is an end, where the broker has no limit of its own: a task may wish it as often as it likes.
func TestARequeueUsesUpNoStart(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		runs := 0
		r, _ := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, _ *Config) {
			died(t, counter, "a/0", 8)
			leftBehind(t, b, message(t, protocol.Task{ID: "a", Name: "again"}))
		}, handlers.Func("again", func(context.Context, nothing) (int, error) {
			if runs++; runs < 40 {
				return 0, handlers.Requeue(nil)
			}
			return runs, nil
		}))
		pass(time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("dead.quarantine", 0, 0)
	})
}

// What must not be decoded any more is told to its caller all the same.
func TestABodyThatMayBeThePoisonIsNotDecodedAgain(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		r, _ := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, _ *Config) {
			died(t, counter, "a/0", 9)
			m := message(t, protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
			m.Headers.Set("compression", "application/x-gzip")
			m.Body = []byte("no gzip")
			leftBehind(t, b, m)
		}, handlers.Func("double", double))
		synctest.Wait()
		r.wantException("a", "WorkerLostError")
		r.wantQueue("dead.quarantine", 1, 0)
	})
}

// Who has ended half of the workers he may end runs alone among his like, so that he does not take them with him.
func TestSuspectsRunOneAtATime(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		running, most, fresh := 0, 0, 0
		r, _ := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, cfg *Config) {
			cfg.Concurrency = 5
			var ms []protocol.Message
			for i := range 4 {
				died(t, counter, fmt.Sprintf("%d/0", i), 5)
				ms = append(ms, message(t, protocol.Task{ID: fmt.Sprint(i), Name: "slow"}))
			}
			leftBehind(t, b, ms...)
		}, handlers.Func("slow", func(ctx context.Context, _ nothing) (int, error) {
			running++
			most = max(most, running)
			time.Sleep(time.Second)
			running--
			return 0, nil
		}), handlers.Func("fresh", func(context.Context, nothing) (int, error) { fresh++; return 0, nil }))
		synctest.Wait()
		r.broker.Send("dead", message(t, protocol.Task{ID: "fresh", Name: "fresh"}))
		synctest.Wait()
		r.wantState("fresh", protocol.Success)
		pass(time.Minute)
		for i := range 4 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		if most != 1 {
			t.Errorf("%d suspects ran at the same time", most)
		}
	})
}

// The end of the worker is not held up by suspects that wait for each other, and none of them is lost.
func TestSuspectsThatWaitGoBackAtTheEnd(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		r, _ := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, cfg *Config) {
			cfg.Concurrency = 3
			died(t, counter, "0/0", 5)
			died(t, counter, "1/0", 5)
			leftBehind(t, b, message(t, protocol.Task{ID: "0", Name: "slow"}), message(t, protocol.Task{ID: "1", Name: "slow"}))
		}, handlers.Func("slow", func(context.Context, nothing) (int, error) {
			time.Sleep(10 * time.Second)
			return 0, nil
		}))
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if n := r.broker.Ready("dead"); n != 1 {
			t.Errorf("%d messages are back, want 1", n)
		}
	})
}

// A quorum queue counts deliveries of what only lay beside the task that ends its worker, and would drop it in the end.
func TestWhatLayBesideGetsAFreshCount(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		runs := 0
		r, _ := startDead(t, inStore, func(b *membroker.Broker, _ resultbackend.StartCounter, cfg *Config) {
			cfg.Deliveries = 3
			b.Counting(true)
			leftBehind(t, b, message(t, protocol.Task{ID: "a", Name: "beside"}))
			for range 3 {
				leftBehind(t, b, []protocol.Message{}...)
			}
		}, handlers.Func("beside", func(ctx context.Context, _ nothing) (int, error) {
			runs++
			if info, _ := handlers.InfoFrom(ctx); info.Redelivered {
				t.Error("it runs from the old message")
			}
			return 0, nil
		}))
		synctest.Wait()
		r.wantState("a", protocol.Success)
		r.wantQueue("dead", 0, 0)
		r.wantQueue("dead.quarantine", 0, 0)
		if runs != 1 {
			t.Errorf("it ran %d times", runs)
		}
	})
}
