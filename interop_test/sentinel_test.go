package interop_test

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stalkworker/stalk/internal/testservers"
)

// onSentinel is broker and result store behind the same sentinels, with passwords on all of them.
func onSentinel(t *testing.T, f *testservers.Failover) setup {
	t.Helper()
	options := f.Options()
	if !celeryHas(t, 4) { // its remote control and events go another way
		options["sentinel_fanout_compat"] = true
	}
	s := setup{name: "sentinel", broker: f.URL(0), backend: f.URL(0)}.with("result_backend_transport_options", options)
	s = s.rescuing()
	for name, v := range s.settings["broker_transport_options"].(map[string]any) {
		options[name] = v
	}
	return s.with("broker_transport_options", options)
}

// TestTheMasterMoves: what the replica has of the broker is worked off behind the new master, with the results there.
// It happens in two ways: the sentinels are told to, and the old master lives on as a replica; and the master is
// killed. The client is Python's own, on the same sentinels.
func TestTheMasterMoves(t *testing.T) {
	need(t)
	t.Parallel()
	f := testservers.Sentinel(t)
	s, queue := onSentinel(t, f), unique("moves")
	p := s.python(t, queue)
	p.run(`
		def missing(ids):
			"Which results are not there; while there is no master, why that cannot be told."
			try:
				return [i for i in ids if AsyncResult(i).state != "SUCCESS"]
			except Exception as exc: # redis-py's and Kombu's, of many kinds
				return [repr(exc)]

		def answers(node):
			try: # the connection of Kombu's pool may be the old master's
				return app.control.ping(destination=[node], timeout=2)
			except Exception:
				return None
	`)
	w := s.stalk(t, queue)
	logged := 0
	load := func(step string) {
		t.Helper()
		p.run(`ids = [sleep.apply_async((0.05,), queue=Q).id for i in range(100)] + [add.apply_async((i,), queue=Q, countdown=3).id for i in range(20)]`)
		logged += 10
		w.waitLogs("succeeded in", logged)
		t.Logf("%s under load", step)
	}
	all := func() {
		t.Helper()
		var lost []string
		json.Unmarshal(p.run(`
			for _ in range(300):
				lost = missing(ids)
				if not lost:
					break
				time.sleep(0.2)
			value = lost
		`), &lost)
		if len(lost) > 0 {
			for _, n := range f.Nodes {
				for _, c := range [][]string{{"INFO", "replication"}, {"LLEN", queue}, {"HLEN", "unacked"}, {"EXISTS", "celery-task-meta-" + lost[0]}, {"LASTSAVE"}} {
					got, err := testservers.Ask(t.Context(), n.Addr, f.Password, c...)
					t.Log(n.Addr, c, got, err)
				}
			}
			b, _ := os.ReadFile(w.log)
			for l := range strings.Lines(string(b)) {
				if strings.Contains(l, lost[0]) || !strings.Contains(l, "Task demo") {
					t.Log(l)
				}
			}
			t.Fatalf("%d lost: %q", len(lost), lost)
		}
		p.run(`wait(lambda: answers(NODE), 60)`, map[string]any{"NODE": w.name + "@test"})
		logged += 110
	}

	master, replica := f.Nodes[0], f.Nodes[1]
	load("the sentinels are told")
	f.AwaitStep(t) // the load goes on; what has not reached the replica when it is promoted is lost with the old master
	if err := f.Move(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.AwaitMaster(t, replica)
	w.waitLogs("Connected to sentinel://", 2)
	all()

	f.AwaitStep(t)
	master, replica = replica, master
	load("kill -9")
	f.AwaitStep(t)
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	f.AwaitMaster(t, replica)
	w.waitLogs("Connected to sentinel://", 3)
	all()
	w.stop()
}

// TestASentinelIsAway: the first of the list has ended, or hangs.
func TestASentinelIsAway(t *testing.T) {
	need(t)
	t.Parallel()
	f := testservers.Sentinel(t)
	first := f.Sentinels[0]
	s := onSentinel(t, f)
	// Python's client would wait for ever for a sentinel that hangs: it goes to the master itself.
	direct := "redis://:" + f.Password + "@" + f.Nodes[0].Addr + "/0"
	python := setup{name: "master", broker: direct, backend: direct}
	works := func() {
		t.Helper()
		queue := unique("away")
		w := s.stalk(t, queue)
		python.python(t, queue).run(`assert add.apply_async((1,), queue=Q).get(timeout=60) == 2`)
		w.stop()
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	works()
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	works()
}
