package interop_test

import (
	"testing"

	"github.com/stalkworker/stalk/internal/testservers"
)

// Brokers and result stores of these tests are private: they are stopped and started again.

func TestTheBrokerRestartsUnderLoad(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *testservers.Server{
		"redis": func(t *testing.T) *testservers.Server {
			return testservers.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
		},
		"rabbitmq": func(t *testing.T) *testservers.Server { return testservers.RabbitMQ(t) },
	} {
		t.Run(name, func(t *testing.T) {
			need(t)
			t.Parallel()
			server := start(t)
			s := setup{name: name, broker: server.URL, backend: redisURL}.rescuing()
			queue := unique("restart")
			p := s.python(t, queue)
			p.run(`sent = [sleep.apply_async((0.05,), queue=Q) for i in range(200)] + [retry.apply_async((1, 1), queue=Q) for i in range(10)]`)
			w := s.stalk(t, queue)
			w.waitLogs("succeeded in", 20)
			if err := server.Stop(); err != nil {
				t.Fatal(err)
			}
			w.waitLog("Cannot connect to") // its first attempts find nobody
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.run(`assert [r.get(timeout=90) for r in sent] == [0.05] * 200 + [1] * 10`)
			p.run(`assert add.apply_async((1,), queue=Q).get(timeout=60) == 2`)
			w.stop()
		})
	}
}

func TestTheResultStoreIsAwayAndComesBack(t *testing.T) {
	for name, broker := range map[string]func() setup{"redis": onRedis, "rabbitmq": onRabbitMQ} {
		t.Run(name, func(t *testing.T) {
			need(t)
			t.Parallel()
			if celeryInstead {
				t.Skip("Celery's worker does not say that a result is not stored yet")
			}
			store := testservers.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
			s := broker()
			s.backend = store.URL
			queue := unique("store")
			p := s.python(t, queue)
			w := s.stalk(t, queue)
			p.run(`assert add.apply_async((0,), queue=Q).get(timeout=60) == 1`)
			// Sending subscribes to the result, which needs the store: so the tasks wait for their time.
			p.run(`sent = [add.apply_async((i,), queue=Q, countdown=5) for i in range(20)]`)
			w.waitLogs("received", 21)
			if err := store.Stop(); err != nil {
				t.Fatal(err)
			}
			unsettled(w) // the tasks run meanwhile and cannot be settled
			if err := store.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.python(t, queue).run(`
				assert [AsyncResult(i).get(timeout=60) for i in ids] == list(range(1, 21))
				assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			`, map[string]any{"ids": p.strings(`value = [r.id for r in sent]`)})
			w.stop()
		})
	}
}

// unsettled waits until results could not be stored.
func unsettled(w *worker) {
	w.t.Helper()
	w.waitLogs("succeeded in", 3)
	w.waitLogs("result not stored yet", 3)
}
