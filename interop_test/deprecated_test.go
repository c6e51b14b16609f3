package interop_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/internal/testservers"
)

// What the owner of a RabbitMQ 4 may forbid, and a later one will: queues that are neither durable nor exclusive, and a
// prefetch for a whole channel.
var forbidden = []string{
	"deprecated_features.permit.transient_nonexcl_queues = false",
	"deprecated_features.permit.global_qos = false",
}

// TestARabbitMQWithoutItsDeprecatedFeatures: a worker with the default settings has everything there; one whose settings
// ask for what is forbidden names the setting and has everything too. (RabbitMQ ends the connection that asks.)
func TestARabbitMQWithoutItsDeprecatedFeatures(t *testing.T) {
	need(t)
	t.Parallel()
	if celeryInstead {
		t.Skip("about Stalk's queues")
	}
	// Older ones do not know these settings and do not start with them.
	if v := os.Getenv("STALK_AMQP_VERSION"); !strings.HasPrefix(v, "RabbitMQ 4.") {
		t.Skipf("RabbitMQ 4 is needed (make matrix); STALK_AMQP_VERSION is %q", v)
	}
	server := testservers.RabbitMQWith(t, testservers.RabbitMQOptions{Settings: forbidden})
	// Celery's own receiver of events needs this setting there; ours has it by default.
	s := setup{name: "rabbitmq", broker: server.URL, backend: redisURL}.withClient("event_queue_exclusive", true)
	t.Run("default settings", func(t *testing.T) {
		queue := unique("plain")
		w := s.stalk(t, queue, "-E")
		s.python(t, queue).run(everything, map[string]any{"W": w.name + "@test"})
		w.stop()
		if log := string(w.output()); strings.Contains(log, "not permitted") {
			t.Errorf("it was refused something:\n%s", log)
		}
	})
	t.Run("settings that ask for it", func(t *testing.T) {
		queue := unique("plain")
		w := s.with("control_queue_exclusive", false).stalk(t, queue)
		s.python(t, queue).run(`
			assert [add.apply_async((i,), queue=Q).get(timeout=40) for i in range(3)] == [1, 2, 3]
			assert app.control.inspect(timeout=60, destination=[W]).ping() == {W: {"ok": "pong"}}
		`, map[string]any{"W": w.name + "@test"})
		w.stop()
		if log := string(w.output()); !strings.Contains(log, "control_queue_exclusive: true") {
			t.Errorf("want control_queue_exclusive named:\n%s", log)
		}
	})
}
