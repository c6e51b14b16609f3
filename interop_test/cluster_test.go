package interop_test

import (
	"os"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// TestAClusterLosesItsNodes kills each of three RabbitMQ nodes once, the one the worker is connected to and the one
// that leads the queue among them, under load, and brings it back: no task and no result may be missing. Then the nodes
// are restarted in order, as at an upgrade.
//
// Three brokers and six restarts take two minutes: `make cluster`.
func TestAClusterLosesItsNodes(t *testing.T) {
	if os.Getenv("STALK_CLUSTER") == "" {
		t.Skip("STALK_CLUSTER is not set; run make cluster")
	}
	need(t)
	t.Parallel()
	began := time.Now()
	c := testservers.RabbitCluster(t, 3)
	t.Logf("three nodes of %s are up after %v", c.Nodes[0].Version, time.Since(began))
	queue := unique("cluster")
	s := onQuorum(queue).withClient("broker_transport_options", map[string]any{"confirm_publish": true})
	s.broker = c.URL
	w := s.stalk(t, queue)
	p := s.python(t, queue)
	p.run(`
		import threading
		sent, twice, over = [], 0, threading.Event()
		def send():
			global twice
			while not over.is_set():
				id = str(uuid.uuid4())
				while True: # a program that does not know whether its message has arrived sends it again
					try:
						sleep.apply_async((0.02,), task_id=id)
						break
					except Exception:
						twice += 1
						time.sleep(0.1)
				sent.append(id)
				time.sleep(0.02)
		sender = threading.Thread(target=send, daemon=True)
		sender.start()
	`)
	running := func() { // what is sent from now on is run
		t.Helper()
		p.run(`
			n = len(sent)
			wait(lambda: len(sent) > n + 20, 60)
			assert AsyncResult(sent[n + 20]).get(timeout=60) == 0.02
		`)
	}
	running()
	for i, node := range c.Nodes {
		if err := c.Whole(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		running()
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("each was killed and is back after %v", time.Since(began))
	for i, node := range c.Nodes {
		if err := c.Whole(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		if err := node.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	running()
	var figures struct{ Sent, Twice int }
	p.value(`
		wait(lambda: len(sent) >= 300, 60)
		over.set()
		sender.join()
		missing = []
		for id in sent:
			try:
				assert AsyncResult(id).get(timeout=60) == 0.02
			except Exception as exc:
				missing.append((id, repr(exc)))
				assert len(missing) < 5, missing
		assert not missing, missing
		wait(lambda: left(Q) == 0, 30)
		value = {"Sent": len(sent), "Twice": twice}
	`, &figures)
	w.stop()
	t.Logf("%d tasks, %d publishes repeated, 0 lost, %v", figures.Sent, figures.Twice, time.Since(began))
}
