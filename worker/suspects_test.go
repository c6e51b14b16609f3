package worker

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports/membroker"
)

// Jobs that wait to run alone (starts.go), where they meet the other reasons to wait.

// old is a message of protocol 1: nothing is known of it before its body is decoded.
func old(t *testing.T, body map[string]any) protocol.Message {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Message{
		Properties: protocol.Properties{ContentType: "application/json", ContentEncoding: "utf-8"}, Body: text, RoutingKey: "q",
	}
}

// Nobody waits for a suspect that itself waits for its time.
func TestASuspectThatIsHeldKeepsNoOtherWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		runs := map[string]int{}
		r, counter := startDead(t, true, func(b *membroker.Broker, counter resultbackend.StartCounter, _ *Config) {
			m := old(t, map[string]any{"task": "note", "id": "a", "args": []any{"a"}, "eta": time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05")})
			died(t, counter, rawRun(&m), 5)
			died(t, counter, "b/0", 5)
			leftBehind(t, b, m, message(t, protocol.Task{ID: "b", Name: "note", Args: args("b")}))
		}, handlers.Func("note", func(_ context.Context, in struct {
			Who string `json:"who"`
		},
		) (int, error) {
			runs[in.Who]++
			return 0, nil
		}))
		pass(time.Minute)
		r.wantState("b", protocol.Success)
		pass(2 * time.Hour)
		r.wantState("a", protocol.Success)
		if runs["a"] != 1 || runs["b"] != 1 {
			t.Errorf("runs: %v", runs)
		}
		r.wantQueue("dead", 0, 0)
		died(t, counter, "c/0", 5)
		leftBehind(t, r.broker, message(t, protocol.Task{ID: "c", Name: "note", Args: args("c")}))
		synctest.Wait()
		r.wantState("c", protocol.Success)
	})
}

// A copy of a running task that is lost while it waits for the end of that run has not started: it uses up no start, and
// nobody waits for it.
func TestCopiesOfARunningTaskAreNoStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		runs := 0
		r, counter := startDead(t, true, func(b *membroker.Broker, _ resultbackend.StartCounter, cfg *Config) {
			cfg.Concurrency = 2
			b.Declare("dead")
			b.Send("dead", old(t, map[string]any{"task": "slow", "id": "a", "args": []any{}, "kwargs": map[string]any{}}))
		}, handlers.Func("slow", func(context.Context, nothing) (int, error) {
			runs++
			time.Sleep(time.Hour)
			return 0, nil
		}), handlers.Func("double", double))
		for range 20 {
			pass(time.Second)
			r.broker.Lapse("dead")
		}
		synctest.Wait()
		died(t, counter, "b/0", 5)
		leftBehind(t, r.broker, message(t, protocol.Task{ID: "b", Name: "double", Args: args(int64(4))}))
		pass(time.Minute)
		r.wantState("b", protocol.Success)
		pass(2 * time.Hour)
		r.wantState("a", protocol.Success)
		r.wantQueue("dead", 0, 0)
		r.wantQueue("dead.quarantine", 0, 0)
		if runs != 1 {
			t.Errorf("it ran %d times", runs)
		}
	})
}

// While it waits for its turn it may be revoked, or expire.
func TestASuspectIsDecidedAboutAfterItHasWaited(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		runs := 0
		r, counter := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, cfg *Config) {
			cfg.Concurrency = 2
			died(t, counter, "long/0", 5)
			died(t, counter, "late/0", 5)
			leftBehind(t, b, message(t, protocol.Task{ID: "long", Name: "slow", ETA: time.Now().Add(time.Second)}),
				message(t, protocol.Task{ID: "late", Name: "note", ETA: time.Now().Add(2 * time.Second), Expires: time.Now().Add(time.Minute)}))
		}, handlers.Func("slow", sleeper(10*time.Minute)), handlers.Func("note", func(context.Context, nothing) (int, error) { runs++; return 0, nil }))
		pass(time.Hour)
		r.wantState("long", protocol.Success)
		r.wantState("late", protocol.Revoked)
		if runs != 0 {
			t.Error("it ran after it had expired")
		}
		r.wantQueue("dead", 0, 0)
		if n, _ := counter.Starts(t.Context(), "late/0"); n != 0 {
			t.Errorf("after its end %d starts are remembered", n)
		}
	})
}

// A suspect whose turn has come still waits for a slot: when the worker stops it goes back, and what is known of it stays known.
func TestASuspectThatWaitsForASlotGoesBackAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, counter := startDead(t, false, func(b *membroker.Broker, counter resultbackend.StartCounter, cfg *Config) {
			cfg.Concurrency = 2
			died(t, counter, "0/0", 5)
			died(t, counter, "1/0", 5)
			leftBehind(t, b, message(t, protocol.Task{ID: "0", Name: "slow"}), message(t, protocol.Task{ID: "1", Name: "slow"}))
		}, handlers.Func("slow", sleeper(10*time.Second)), handlers.Func("slower", sleeper(30*time.Second)))
		synctest.Wait()
		r.broker.Send("dead", message(t, protocol.Task{ID: "2", Name: "slower"})) // beside the first suspect
		pass(time.Second)
		r.broker.Send("dead", message(t, protocol.Task{ID: "3", Name: "slower"}))
		r.results.Away(true)
		pass(11 * time.Second) // the first suspect has returned, and its slot is taken by the last task
		r.results.Away(false)
		pass(5 * time.Second) // the first suspect is over: the second one waits for a slot
		if got := r.w.ledger.executing(); len(got) != 2 {
			t.Fatalf("these run: %v", got)
		}
		stopped := time.Now()
		r.cancel()
		synctest.Wait()
		r.wantQueue("dead", 1, 2)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(stopped); waited > 27*time.Second {
			t.Errorf("the end took %v", waited)
		}
		a, err1 := counter.Starts(t.Context(), "0/0")
		b, err2 := counter.Starts(t.Context(), "1/0")
		if err1 != nil || err2 != nil || a+b != 5 {
			t.Errorf("%d and %d starts are remembered (%v, %v), want 5 of the one that did not run", a, b, err1, err2)
		}
		r.wantQueue("dead", 1, 0)
	})
}

// What waits for more slots, or to run alone, waits no longer than its message may.
func TestWhatWaitsForMoreSlotsGoesBackInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 30*time.Minute, func(c *Config) { c.Concurrency = 2 },
			handlers.Func("long", func(context.Context, nothing) (int, error) {
				time.Sleep(2 * time.Hour)
				return 0, nil
			}).With(handlers.Options{EarlyAck: true}),
			handlers.Func("heavy", double).With(handlers.Options{Slots: 2}))
		r.send(protocol.Task{ID: "a", Name: "long"})
		synctest.Wait()
		r.send(protocol.Task{ID: "b", Name: "heavy", Args: args(int64(4))})
		pass(3 * time.Hour)
		r.wantState("b", protocol.Success)
		if n := b.late.Load(); n != 0 {
			t.Errorf("%d deliveries became older than the broker's limit", n)
		}
		r.wantQueue("q", 0, 0)
	})
}

// Every reason to wait at once: for its time, for many slots and to run alone. It is revoked in the end, and leaves nothing behind.
func TestAHeavySuspectForLaterIsRevokedWhileItWaits(t *testing.T) {
	both(t, func(t *testing.T, inStore bool) {
		runs := 0
		r, counter := startDead(t, inStore, func(b *membroker.Broker, counter resultbackend.StartCounter, cfg *Config) {
			cfg.Concurrency = 3
			var ms []protocol.Message
			for _, id := range []string{"a", "b", "c"} {
				died(t, counter, id+"/0", 5)
				ms = append(ms, message(t, protocol.Task{ID: id, Name: "heavy", ETA: time.Now().Add(10 * time.Second)}))
			}
			leftBehind(t, b, ms...)
		}, handlers.Func("heavy", func(context.Context, nothing) (int, error) { runs++; time.Sleep(time.Minute); return 0, nil }).With(handlers.Options{Slots: 3}),
			handlers.Func("slow", sleeper(10*time.Minute)), handlers.Func("double", double))
		synctest.Wait()
		r.broker.Send("dead", message(t, protocol.Task{ID: "slow", Name: "slow"}))
		pass(time.Minute) // they wait for its slot
		r.w.revoked.add("b", time.Now())
		pass(time.Hour)
		r.wantState("a", protocol.Success)
		r.wantState("b", protocol.Revoked)
		r.wantState("c", protocol.Success)
		if runs != 2 {
			t.Errorf("%d runs, want 2", runs)
		}
		if s := r.w.Stats(); s.InUse != 0 || s.Settling != 0 || s.Unsettled != 0 || s.Held != 0 {
			t.Errorf("left behind: %+v", s)
		}
		for _, id := range []string{"a", "c"} { // nobody has looked at those of the other: they expire
			if n, _ := counter.Starts(t.Context(), id+"/0"); n != 0 {
				t.Errorf("%d starts of %s are remembered", n, id)
			}
		}
		r.wantQueue("dead", 0, 0)
	})
}
