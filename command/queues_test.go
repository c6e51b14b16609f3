package command

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func settingsOf(t *testing.T, text string) *settings {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := loadSettings(path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestQueuesAsCeleryDeclaresThem: what kombu would declare for the same settings.
func TestQueuesAsCeleryDeclaresThem(t *testing.T) {
	args := func(kv ...any) *protocol.Object {
		o := &protocol.Object{}
		for i := 0; i < len(kv); i += 2 {
			o.Set(kv[i].(string), kv[i+1])
		}
		return o
	}
	for _, tt := range []struct {
		name, text string
		only       []string
		want       []transports.Queue
	}{
		{"the default queue", "{}", nil, []transports.Queue{{Name: "celery", Exchange: "celery", Type: "direct", RoutingKey: "celery", Create: true, Arguments: args()}}},
		{
			"another default, quorum", "{task_default_queue: main, task_default_queue_type: quorum}", nil,
			[]transports.Queue{{Name: "main", Exchange: "main", Type: "direct", RoutingKey: "main", Create: true, Arguments: args("x-queue-type", "quorum")}},
		},
		{"-Q makes missing ones with the priority of all", "{task_queue_max_priority: 10}", []string{"a", "celery"}, []transports.Queue{
			{Name: "a", Exchange: "a", Type: "direct", RoutingKey: "a", Create: true, Arguments: args("x-max-priority", int64(10))},
			{Name: "celery", Exchange: "celery", Type: "direct", RoutingKey: "celery", Create: true, Arguments: args("x-max-priority", int64(10))},
		}},
		{
			"task_queues as a mapping", "{task_queues: {t: {exchange: ex, exchange_type: topic, binding_key: 'a.#', durable: false, expires: 1.5, max_priority: 3}}}", nil,
			[]transports.Queue{{Name: "t", Exchange: "ex", Type: "topic", RoutingKey: "a.#", Create: true, Transient: true, Arguments: args("x-expires", int64(1500), "x-max-priority", int64(3))}},
		},
		{"task_queues as a list", "{task_queues: [x, {name: y, queue_arguments: {x-queue-type: quorum}}]}", nil, []transports.Queue{
			{Name: "x", Exchange: "celery", Type: "direct", RoutingKey: "celery", Create: true, Arguments: args()},
			{Name: "y", Exchange: "celery", Type: "direct", RoutingKey: "celery", Create: true, Arguments: args("x-queue-type", "quorum")},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := settingsOf(t, tt.text)
			rt, err := routes(s)
			if err != nil {
				t.Fatal(err)
			}
			got, err := selected(rt, tt.only, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b *protocol.Object) bool { return cmp.Equal(a.Members(), b.Members()) })); diff != "" {
				t.Errorf("queues (-want +got):\n%s", diff)
			}
		})
	}
}
