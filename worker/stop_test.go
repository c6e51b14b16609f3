package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

func TestAColdShutdownIsSoftWhereThatIsAskedFor(t *testing.T) {
	for _, tt := range []struct {
		name   string
		task   time.Duration // 0: none
		soft   time.Duration
		onIdle bool
		after  time.Duration // from the order to the end of Run
		second func(*Worker) // after one second more
		ends   func(t *testing.T, err error, r *rig)
	}{
		{"no soft shutdown: what runs goes back at once", time.Hour, 0, false, 0, nil, wentBack},
		{"a short task finishes, and nothing waits longer", 5 * time.Second, 10 * time.Second, false, 5 * time.Second, nil, finished},
		{"a long task goes back when the time is over", time.Hour, 10 * time.Second, false, 10 * time.Second, nil, wentBack},
		{"nothing runs: nothing to wait for", 0, 10 * time.Second, false, 0, nil, nil},
		{"nothing runs, and yet it waits", 0, 10 * time.Second, true, 10 * time.Second, nil, nil},
		{"a short task finishes, and it waits on", 5 * time.Second, 10 * time.Second, true, 10 * time.Second, nil, finished},
		{"StopNow ends the soft wait", time.Hour, 10 * time.Second, false, time.Second, (*Worker).StopNow, wentBack},
		{"Quit ends the soft wait", time.Hour, 10 * time.Second, true, time.Second, (*Worker).Quit, wentBack},
		{"the end of grace is the end", time.Hour, 10 * time.Minute, false, 30 * time.Second, nil, wentBack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := startRig(t, func(c *Config) { c.SoftShutdown, c.SoftShutdownOnIdle = tt.soft, tt.onIdle }, handlers.Func("sleep", sleeper(tt.task)))
				if tt.task > 0 {
					r.send(protocol.Task{ID: "a", Name: "sleep"})
				}
				synctest.Wait()
				began := time.Now()
				r.w.StopCold()
				if tt.second != nil {
					time.Sleep(time.Second)
					tt.second(r.w)
				}
				err := r.stop()
				if took := time.Since(began); took != tt.after {
					t.Errorf("stopping took %v, want %v", took, tt.after)
				}
				if wants := tt.soft > 0 && (tt.task > 0 || tt.onIdle); strings.Contains(r.log.String(), "Initiating Soft Shutdown, terminating in") != wants {
					t.Errorf("soft shutdown in the log: want %v:\n%s", wants, r.log)
				}
				if tt.ends == nil {
					tt.ends = func(t *testing.T, err error, _ *rig) {
						if err != nil {
							t.Errorf("Run = %v", err)
						}
					}
				}
				tt.ends(t, err, r)
			})
		})
	}
}

func wentBack(t *testing.T, err error, r *rig) {
	t.Helper()
	if !errors.Is(err, ErrGrace) {
		t.Errorf("Run = %v, want ErrGrace", err)
	}
	r.wantQueue("q", 1, 0)
	if got := r.results.Records("a"); len(got) != 0 {
		t.Errorf("an interrupted task stored %v", got)
	}
}

func finished(t *testing.T, err error, r *rig) {
	t.Helper()
	if err != nil {
		t.Errorf("Run = %v", err)
	}
	r.wantState("a", protocol.Success)
	r.wantQueue("q", 0, 0)
}

func TestTheSoftWaitIsToldAsPythonPrintsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.SoftShutdown = 3 * time.Second }, handlers.Func("sleep", sleeper(time.Minute)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		r.w.StopCold()
		r.stop() //nolint:errcheck // the log is what counts
		r.wantLog("Initiating Soft Shutdown, terminating in 3.0 seconds")
	})
}

// TestQuitWaitsForNothing: not for a store that is away, not for a handler that does not listen.
func TestQuitWaitsForNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		r := startRig(t, func(c *Config) { c.Grace, c.Concurrency = -1, 2 }, handlers.Func("double", double),
			handlers.Func("never", func(context.Context, nothing) (int, error) { <-never; return 0, nil }))
		r.results.Away(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "b", Name: "never"})
		synctest.Wait()
		r.w.Stop()
		pass(time.Second)
		began := time.Now()
		r.w.Quit()
		r.stop() //nolint:errcheck // which tasks it names is another test's
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("quitting took %v", took)
		}
		r.wantQueue("q", 2, 0)
	})
}

func TestThePhasesOfARunAreReachedInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(20*time.Second)))
		reached := func(p Phase) bool {
			select {
			case <-r.w.Reached(p):
				return true
			default:
				return false
			}
		}
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		if !reached(Consuming) || reached(Stopping) {
			t.Error("a worker that consumes is not in that phase")
		}
		r.w.Stop()
		pass(time.Second)
		if !reached(Stopping) || reached(Ending) {
			t.Error("a worker whose task may finish is not in that phase")
		}
		pass(20 * time.Second)
		if !reached(Ending) {
			t.Error("a worker without tasks has not come to its end")
		}
	})
}

// TestAColdShutdownLosesNoTaskThatWasAcknowledgedEarly: Celery loses it, and says RETRY; here its message is sent again.
func TestAColdShutdownLosesNoTaskThatWasAcknowledgedEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(time.Hour)).With(handlers.Options{EarlyAck: true}))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.wantQueue("q", 0, 0) // acknowledged
		r.w.StopCold()
		if err := r.stop(); !errors.Is(err, ErrGrace) {
			t.Errorf("Run = %v", err)
		}
		r.wantQueue("q", 1, 0)
	})
}
