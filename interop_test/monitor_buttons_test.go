package interop_test

import (
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"
)

// A flowerWindow is a Chromium at Flower's pages.
type flowerWindow struct {
	*browser
	f    *flower
	node string
}

// worker opens the node's page at a tab.
func (w *flowerWindow) worker(tab string) {
	w.t.Helper()
	w.open(w.f.url + "/worker/" + url.PathEscape(w.node))
	w.tab(tab)
}

func (w *flowerWindow) tab(tab string) {
	w.t.Helper()
	w.click("#worker-tab-" + tab)
	w.wait(fmt.Sprintf(`document.querySelector("#tab-%s").classList.contains("show")`, tab))
}

// press clicks a button and waits for Flower's word on it, which must contain a text.
func (w *flowerWindow) press(button, text string) {
	w.t.Helper()
	w.wait(`(document.querySelectorAll(".toast").forEach(e => e.remove()), true)`) // words on earlier ones
	w.click(button)
	w.wait(fmt.Sprintf(`[...document.querySelectorAll(".toast-body")].some(e => e.textContent.includes(%q))`, text))
}

// TestFlowersButtons presses every button of Flower's with a mouse, and looks at the node, not at Flower, for
// what came of it.
func TestFlowersButtons(t *testing.T) {
	onMonitored(t, []string{"flower"}, func(t *testing.T, s setup) {
		queue, elastic, added := unique("buttons"), unique("buttons"), unique("added")
		w, scaled := s.watched(t, queue, "-E"), s.watched(t, elastic, "-E", "--autoscale", "3,1")
		w.waitReady()
		scaled.waitReady()
		f := s.startFlower(t)
		b := &flowerWindow{browser: startBrowser(t), f: f, node: w.name + "@test"}
		p := s.python(t, queue)
		p.run(`
			i = app.control.inspect(destination=[NODE], timeout=60)
			ask = lambda what: (getattr(i, what)() or {})[NODE]
			slots = lambda: len(ask("stats")["pool"]["processes"])
			active = lambda: [row["id"] for row in ask("active")]
			def busy(n):
			    "As many tasks run at once as there should be slots, and no more."
			    naps = [sleep.apply_async((NAP,), queue=Q) for _ in range(n + 1)]
			    wait(lambda: len(active()) == n)
			    time.sleep(0.2)
			    assert len(active()) == n, active()
			    if NAP > 10:
			        app.control.revoke([r.id for r in naps], terminate=True, destination=[NODE])
			        wait(lambda: not active())
			    else: # Python's pool may hang when it shrinks right after processes of it were ended
			        assert [r.get(timeout=60) for r in naps] == [NAP] * (n + 1)
			    assert slots() == n, slots()
			assert slots() == 2
		`, map[string]any{"NODE": b.node, "NAP": map[bool]int{false: 60, true: 3}[celeryInstead]})
		f.showsEvents(p)

		b.worker("pool")
		b.fill("#pool-size", "2")
		b.press("#worker-pool-grow", "by 2")
		p.run(`wait(lambda: slots() == 4); busy(4)`)
		b.press("#worker-pool-shrink", "Shrinking")
		p.run(`wait(lambda: slots() == 2); busy(2)`)
		b.click("#worker-group")
		b.press("#worker-pool-restart", "Pool restarts not enabled")
		b.fill("#min-autoscale", "1")
		b.fill("#max-autoscale", "4")
		b.press("#worker-pool-autoscale", "Autoscale not enabled")

		b.worker("queues")
		b.fill("#add-consumer-name", added)
		b.press("#worker-add-consumer", "add consumer "+added)
		p.run(`
			wait(lambda: NEW in [q["name"] for q in ask("active_queues")])
			assert add.apply_async((40,), {"y": 2}, queue=NEW).get(timeout=60) == 42
		`, map[string]any{"NEW": added})
		b.click("#worker-group")
		b.press("#worker-refresh", "Successfully refreshed")
		b.worker("queues")
		b.wait(fmt.Sprintf(`document.querySelector("#worker-queues").textContent.includes(%q)`, added))
		b.press("#worker-cancel-consumer-"+added, "no longer consuming from "+added)
		p.run(`
			wait(lambda: NEW not in [q["name"] for q in ask("active_queues")])
			assert Q in [q["name"] for q in ask("active_queues")]
			kept = add.apply_async((1,), queue=NEW)
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			assert kept.state == "PENDING"
			wait(lambda: left(NEW) == 1)
		`, map[string]any{"NEW": added})

		b.worker("limits")
		b.fill("tr:has(#task-rate-limit-demo\\.echo) td:nth-child(2) input", "2")
		b.press("#task-rate-limit-demo\\.echo", "new rate limit set successfully")
		p.run(`
			wait(lambda: [n for n in ask("registered") if n.startswith("demo.echo [rate_limit=2")])
			began = time.monotonic()
			for r in [echo.apply_async((n,), queue=Q) for n in range(5)]:
			    r.get(timeout=60)
			took = time.monotonic() - began # one at once, four more in two seconds
			assert 1.5 < took, took
		`)
		b.fill("tr:has(#task-timeout-soft-demo\\.burn) td:nth-child(3) input", "1")
		b.press("#task-timeout-soft-demo\\.burn", "time limits set successfully")
		if !celeryInstead { // a Python worker says so and does nothing
			p.run(`raises("SoftTimeLimitExceeded", None, burn.apply_async((30,), queue=Q).get, timeout=60)`)
		}
		b.fill("tr:has(#task-timeout-hard-demo\\.sleep) td:nth-child(3) input", "1")
		b.press("#task-timeout-hard-demo\\.sleep", "time limits set successfully")
		if !celeryInstead {
			p.run(`raises("TimeLimitExceeded", None, sleep.apply_async((30,), queue=Q).get, timeout=60)`)
		}

		var id string
		for seconds := 4; ; seconds *= 3 { // a busy machine presses late: the task has run
			p.value(`later = add.apply_async((1,), queue=Q, countdown=SECONDS); value = later.id`, &id, map[string]any{"SECONDS": seconds})
			f.task(id, "RECEIVED", "SUCCESS")
			b.open(f.url + "/task/" + id)
			there := false
			if err := b.tryEval(`document.querySelector("#task-revoke") !== null`, &there); err != nil {
				t.Fatal(err)
			}
			if there {
				b.press("#task-revoke", "Revoked '"+id+"'")
			}
			var inTime bool
			p.value(`later.get(timeout=120, propagate=False); value = later.state == "REVOKED"`, &inTime)
			if inTime || seconds > 40 {
				break
			}
		}
		p.run(`
			assert later.id in ask("revoked")
			raises("TaskRevokedError", "revoked", later.get, timeout=60)
		`)
		f.task(id, "REVOKED")
		p.value(`nap = progress.apply_async((600, 0.1), queue=Q); value = nap.id`, &id)
		f.task(id, "STARTED")
		b.open(f.url + "/task/" + id)
		b.press("#task-terminate", "Revoked '"+id+"'")
		p.run(`
			raises("TaskRevokedError", "terminated", nap.get, timeout=60)
			wait(lambda: not active())
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
		`)
		f.task(id, "REVOKED")

		b.node = scaled.name + "@test"
		b.worker("pool")
		b.fill("#min-autoscale", "2")
		b.fill("#max-autoscale", "5")
		b.press("#worker-pool-autoscale", "min=2, max=5")
		p.run(`
			i = app.control.inspect(destination=[NODE], timeout=60)
			wait(lambda: {k: ask("stats")["autoscaler"][k] for k in ("min", "max")} == {"min": 2, "max": 5})
			naps = [progress.apply_async((600, 0.1), queue=Q2) for _ in range(7)]
			wait(lambda: len(active()) == 5)
			assert ask("stats")["autoscaler"]["current"] == 5
			for r in naps:
			    r.revoke(terminate=True)
			wait(lambda: not active())
		`, map[string]any{"NODE": b.node, "Q2": elastic})
		b.worker("pool")
		b.press("#worker-pool-grow", "pool_grow is not supported with autoscale")

		// The pictures that a person looks at.
		b.node = w.name + "@test"
		b.open(f.url + "/workers")
		b.wait(fmt.Sprintf(`document.querySelector("#workers-table").textContent.includes(%q)`, b.node[len(b.node)-12:]))
		b.screenshot("flower-" + s.name + "-workers")
		b.worker("pool")
		for _, tab := range []string{"pool", "broker", "queues", "tasks", "limits", "config", "system", "other"} {
			b.tab(tab)
			if os.Getenv("MONITOR_SCREENSHOTS") != "" {
				time.Sleep(300 * time.Millisecond) // it fades in
				b.screenshot("flower-" + s.name + "-worker-" + tab)
			}
		}
		b.open(f.url + "/task/" + id)
		b.screenshot("flower-" + s.name + "-task")
		b.open(f.url + "/tasks?worker=" + url.QueryEscape(b.node))
		b.wait(fmt.Sprintf(`document.querySelector("#tasks-table").textContent.includes(%q)`, id))
		b.screenshot("flower-" + s.name + "-tasks")
		b.open(f.url + "/broker")
		b.screenshot("flower-" + s.name + "-broker")

		for _, node := range []*worker{w, scaled} {
			b.node = node.name + "@test"
			b.worker("pool")
			b.click("#worker-group")
			b.press("#worker-shutdown", "Shutting down!")
			if code := node.wait(90 * time.Second); code != 0 {
				t.Errorf("%s ended with code %d after Shut Down, want 0", node.name, code)
			}
			f.until("offline node", func() bool { return !f.row(b.node).Status })
		}
		b.open(f.url + "/workers")
		b.wait(`document.querySelector("#workers-online").textContent !== "—"`)
		b.harmless()
		f.clean()
	})
}
