package rpcresult_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/rpcresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/rabbitmq"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

func env(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatalf("%s is not set", name)
		}
		t.Skipf("%s is not set", name)
	}
	return v
}

func TestPythonWaitsOnRabbitMQ(t *testing.T) {
	url := env(t, "CELERY_AMQP_URL")
	tr, err := rabbitmq.New(rabbitmq.Config{URL: url})
	if err != nil {
		t.Fatalf("rabbitmq.New: %v", err)
	}
	pythonWaits(t, url, tr)
}

func TestPythonWaitsOnRedis(t *testing.T) {
	url := env(t, "CELERY_REDIS_URL")
	tr, err := redisbroker.New(redisbroker.Config{URL: url})
	if err != nil {
		t.Fatalf("redisbroker.New: %v", err)
	}
	pythonWaits(t, url, tr)
}

// pythonWaits lets Python send tasks with the rpc backend and wait for them, and answers as a worker
// would, knowing nothing of them but id and reply queue.
func pythonWaits(t *testing.T, url string, tr transports.Transport) {
	t.Helper()
	queue := fmt.Sprintf("rpc-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	cmd := exec.CommandContext(ctx, env(t, "STALK_PYTHON"), "-c", fmt.Sprintf(`
import uuid
from celery import Celery
app = Celery(backend='rpc://', broker=%q, set_as_current=True)
app.conf.task_default_queue = %q
prefix = uuid.uuid4().hex
sent = [app.send_task('nobody.here', task_id=prefix + name) for name in ('-ok', '-bad')]
print(app.backend.oid, prefix, flush=True)
print(repr(sent[0].get(timeout=30, on_message=lambda m: print(m['status'], flush=True))), flush=True)
try:
    sent[1].get(timeout=30)
except ValueError as exc:
    print(repr(exc), sent[1].date_done is not None, flush=True)
with app.connection() as c:
    c.default_channel.queue_delete(app.conf.task_default_queue)
    if hasattr(c.default_channel, 'client'):
        name = app.conf.task_default_queue
        c.default_channel.client.delete(name, '_kombu.binding.' + name, '_kombu.binding_permanent.' + name)
print('end', flush=True)
`, url, queue))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("python said:\n%s", said.String())
		}
	})
	lines := bufio.NewScanner(out)
	line := func() string {
		if !lines.Scan() {
			t.Fatalf("python ended: %v", lines.Err())
		}
		return lines.Text()
	}
	reply, prefix, _ := strings.Cut(line(), " ")

	b := open(t, rpcresult.Config{Transport: tr})
	defer b.Close()
	done := time.Now()
	for _, r := range []protocol.Result{
		{TaskID: prefix + "-ok", Status: protocol.Started, Value: protocol.ObjectOf(protocol.Member{Key: "pid", Value: int64(1)})},
		{TaskID: prefix + "-ok", Status: protocol.Success, Value: []protocol.Value{3.0, "é"}, DateDone: done},
		{
			TaskID: prefix + "-bad", Status: protocol.Failure, DateDone: done,
			Exception: &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"boom"}},
		},
	} {
		record := resultbackend.Record{Result: r, ReplyTo: protocol.ReplyTo{Queue: reply, CorrelationID: r.TaskID}}
		if err := b.Store(ctx, record); err != nil {
			t.Fatalf("Store: %v", err)
		}
	}
	for _, want := range []string{"STARTED", "SUCCESS", "[3.0, 'é']", "ValueError('boom') True", "end"} {
		if got := line(); got != want {
			t.Errorf("python says %q, want %q", got, want)
		}
	}
	if strings.HasPrefix(url, "redis") {
		return // there a reply to nobody stays, as Celery's does
	}
	gone := resultbackend.Record{
		Result:  protocol.Result{TaskID: "late", Status: protocol.Success},
		ReplyTo: protocol.ReplyTo{Queue: queue + "-gone"},
	}
	if err := b.Store(ctx, gone); err != nil {
		t.Errorf("Store to a client that has gone: %v", err)
	}
}
