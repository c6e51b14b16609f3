package worker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

func (c *replies) wantScale(most, least, current, qty int) {
	c.r.t.Helper()
	synctest.Wait()
	want := fmt.Sprintf(`"autoscaler": {"max": %d, "min": %d, "current": %d, "qty": %d}, "broker"`, most, least, current, qty)
	if got := c.ask("stats"); !strings.Contains(got, want) {
		c.r.t.Errorf("stats = %s\nwant %s", got, want)
	}
}

func TestAutoscaleFollowsTheWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Autoscale = Autoscale{Max: 4, Min: 1} }, handlers.Func("sleep", sleeper(time.Minute)))
		c := r.client()
		pass(500 * time.Millisecond) // the scaler ticks on whole seconds: no task is to begin or end beside a tick
		c.wantPool(1, 16)            // the window is of Max
		c.wantScale(4, 1, 1, 0)
		for i := range 6 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "sleep"})
		}
		r.wantActive(4)
		c.wantScale(4, 1, 4, 4)
		r.wantLog("Scaling up 1 processes.")
		pass(61 * time.Second) // two run: the others came 1 s ago
		r.wantActive(2)
		c.wantScale(4, 1, 4, 2)
		pass(25 * time.Second)
		c.wantScale(4, 1, 4, 2)
		pass(10 * time.Second) // 30 s after the last arrival
		c.wantScale(4, 1, 2, 2)
		r.wantLog("Scaling down 2 processes.")
		pass(time.Minute)
		c.wantScale(4, 1, 1, 0)

		c.want("pool_grow", `{"error": "pool_grow is not supported with autoscale. Adjust autoscale range instead."}`)
		c.want("pool_shrink", `{"error": "pool_shrink is not supported with autoscale. Adjust autoscale range instead."}`, arg("n", "x"))
		c.want("autoscale", `{"ok": "autoscale now max=4 min=1"}`)
		c.want("autoscale", `{"ok": "autoscale now max=6 min=2"}`, arg("max", int64(6)), arg("min", int64(2)))
		c.wantScale(6, 2, 2, 0)
		c.wantPool(2, 24)
		for i := range 9 {
			r.send(protocol.Task{ID: fmt.Sprint("b", i), Name: "sleep"})
		}
		r.wantActive(6)
		c.want("autoscale", `{"ok": "autoscale now max=3 min=0"}`, arg("max", int64(3)), arg("min", int64(0)))
		c.wantScale(3, 0, 6, 6) // what is in use stays
		pass(61 * time.Second)
		r.wantActive(3)
		pass(2 * time.Minute)
		c.wantScale(3, 0, 0, 0)
		r.send(protocol.Task{ID: "last", Name: "sleep"})
		r.wantActive(1)
		c.want("autoscale", `{"error": "TypeError(\"'<' not supported between instances of 'str' and 'int'\")"}`, arg("max", "x"))
		c.want("autoscale", `{"error": "TypeError(\"'>' not supported between instances of 'str' and 'int'\")"}`, arg("min", "x"))
		c.want("autoscale", `{"error": "ValueError('max is -1, want 0 to 100000')"}`, arg("max", int64(-1)))
		c.want("autoscale", `{"ok": "autoscale now max=3 min=9"}`, arg("min", int64(9)))
		c.wantScale(3, 9, 9, 1)
	})
}

// TestAutoscaleServesDueTasks: a task whose time has come finds a slot although none was there.
func TestAutoscaleServesDueTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Autoscale = Autoscale{Max: 2, KeepAlive: 3 * time.Second} }, handlers.Func("sleep", sleeper(time.Minute)))
		c := r.client()
		for i := range 3 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "sleep", ETA: time.Now().Add(time.Hour)})
		}
		pass(time.Minute)
		c.wantScale(2, 0, 0, 0)
		pass(time.Hour)
		r.wantActive(1)
		pass(30 * time.Second)
		r.wantActive(1)
		pass(10 * time.Minute)
		for i := range 3 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		c.wantScale(2, 0, 0, 0)
	})
}

func TestReadOnlyRemoteControl(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Control.ReadOnly = true }, waiting())
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "wait"})
		synctest.Wait()
		for name := range orders() {
			if harmless[name] {
				continue
			}
			want := fmt.Sprintf(`{"error": "PermissionError('remote control of w1@test is read-only: %s is refused')"}`, name)
			c.want(name, want, arg("task_id", "a"), arg("terminate", true), arg("queue", "x"), arg("headers", protocol.ObjectOf()),
				arg("signal", nil), arg("task_name", "wait"), arg("rate_limit", "1/s"))
		}
		for name := range questions() {
			if got := c.ask(name, arg("ids", "a"), arg("from_node", "x"), arg("revoked", []protocol.Value{"stranger"})); strings.Contains(got, "PermissionError") {
				t.Errorf("%s = %s", name, got)
			}
		}
		c.want("dump_revoked", `[]`)
		c.want("nosuch", `{"error": "KeyError('nosuch')"}`)
		r.wantActive(1)
		if r.broker.Consumers("q") != 1 || r.broker.Consumers("x") != 0 {
			t.Error("an order was carried out")
		}
	})
}
