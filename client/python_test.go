package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
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

// A fleet is a Python worker on a queue of its own, and a Go client that sends to it.
type fleet struct {
	*testing.T
	client *client.Client
}

var queues atomic.Int64

// newFleet starts the worker and waits until it answers.
func newFleet(t *testing.T, brokerURL, resultURL string, transport transports.Transport, results resultbackend.Backend) *fleet {
	t.Helper()
	bin := env(t, "STALK_PYTHON")
	queue := fmt.Sprintf("client-test-%d-%d", os.Getpid(), queues.Add(1))
	routes, err := canvas.ParseRoutes(map[string]any{"task_default_queue": queue})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Transport: transport, Results: results, Routes: routes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if results != nil {
			if err := results.Close(); err != nil {
				t.Errorf("Close of the results: %v", err)
			}
		}
	})
	log, err := os.Create(filepath.Join(t.TempDir(), "worker.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-m", "celery", "-A", "client", "worker", "-P", "threads", "-c", "4", "-l", "INFO", "--without-gossip", "--without-mingle", "-n", queue+"@test")
	cmd.Dir = filepath.Join("..", "pyfixtures")
	cmd.Env = append(os.Environ(), "BROKER="+brokerURL, "BACKEND="+resultURL, "QUEUE="+queue, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
			t.Error("the worker did not end by itself")
		}
		_ = log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("the worker said:\n%s", said)
		}
	})
	f := &fleet{T: t, client: c}
	if got := must[int](f, f.send(canvas.New("client.add", 1, 2))); got != 3 {
		t.Fatalf("1 + 2 = %d", got)
	}
	return f
}

func (f *fleet) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.Context(), 60*time.Second)
	f.Cleanup(cancel)
	return ctx
}

func (f *fleet) send(s canvas.Signature) *client.AsyncResult {
	f.Helper()
	res, err := f.client.Send(f.ctx(), s)
	if err != nil {
		f.Fatalf("Send: %v", err)
	}
	return res
}

func must[T any](f *fleet, res *client.AsyncResult) T {
	f.Helper()
	var v T
	if err := res.Get(f.ctx(), &v); err != nil {
		f.Fatalf("Get: %v", err)
	}
	return v
}

func redisResults(t *testing.T, url string) resultbackend.Backend {
	t.Helper()
	b, err := redisresult.New(redisresult.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func onRabbitMQ(t *testing.T) *fleet {
	t.Helper()
	amqp, redis := env(t, "CELERY_AMQP_URL"), env(t, "CELERY_REDIS_URL")
	tr, err := rabbitmq.New(rabbitmq.Config{URL: amqp})
	if err != nil {
		t.Fatal(err)
	}
	return newFleet(t, amqp, redis, tr, redisResults(t, redis))
}

func onRedis(t *testing.T) *fleet {
	t.Helper()
	redis := env(t, "CELERY_REDIS_URL")
	tr, err := redisbroker.New(redisbroker.Config{URL: redis})
	if err != nil {
		t.Fatal(err)
	}
	return newFleet(t, redis, redis, tr, redisResults(t, redis))
}

func TestPythonAnswersOnRabbitMQ(t *testing.T) {
	f := onRabbitMQ(t)
	f.tasks()
	f.callback()
	f.canvases()
	f.chords()
}

func TestPythonAnswersOnRedis(t *testing.T) {
	f := onRedis(t)
	f.tasks()
	f.callback()
	f.canvases()
	f.chords()
}

func TestPythonAnswersByRPC(t *testing.T) {
	for name, url := range map[string]string{"RabbitMQ": "CELERY_AMQP_URL", "Redis": "CELERY_REDIS_URL"} {
		t.Run(name, func(t *testing.T) {
			url := env(t, url)
			var tr transports.Transport
			var err error
			if name == "Redis" {
				tr, err = redisbroker.New(redisbroker.Config{URL: url})
			} else {
				tr, err = rabbitmq.New(rabbitmq.Config{URL: url})
			}
			if err != nil {
				t.Fatal(err)
			}
			results, err := rpcresult.New(rpcresult.Config{Transport: tr, Expires: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			f := newFleet(t, url, "rpc://", tr, results)
			f.tasks()
			f.canvases()
			chord := canvas.Chord([]canvas.Signature{canvas.New("client.add", 1), canvas.New("client.add", 2)}, canvas.New("client.total"))
			if _, err := f.client.Send(f.ctx(), chord); !errors.Is(err, client.ErrNoChords) {
				t.Errorf("a chord: %v, want ErrNoChords", err)
			}
			if err := f.client.Result("nobody").Get(f.ctx(), nil); !errors.Is(err, resultbackend.ErrNotFound) {
				t.Errorf("a task of another process: %v, want ErrNotFound", err)
			}
		})
	}
}

// tasks are single tasks and what their messages say.
func (f *fleet) tasks() {
	res := f.send(canvas.New("client.told", 1, "é", nil).Priority(3).TimeLimit(time.Minute, 30*time.Second).Headers(map[string]any{"mine": 7}))
	told := must[struct {
		ID       string    `json:"id"`
		Root     string    `json:"root"`
		Parent   *string   `json:"parent"`
		Group    *string   `json:"group"`
		Origin   string    `json:"origin"`
		Priority int       `json:"priority"`
		Limits   []float64 `json:"limits"`
		Headers  int       `json:"headers"`
		Args     []any     `json:"args"`
	}](f, res)
	if told.ID != res.ID || told.Root != res.ID || told.Parent != nil || told.Group != nil || told.Origin == "" || told.Priority != 3 || told.Headers != 7 ||
		!cmp.Equal(told.Limits, []float64{60, 30}) || !cmp.Equal(told.Args, []any{int64(1), "é", nil}) {
		f.Errorf("the worker was told %+v", told)
	}
	failed := f.send(canvas.New("client.fail", 1))
	err := failed.Get(f.ctx(), nil)
	if exc, ok := errors.AsType[*protocol.Exception](err); !ok || exc.Type != "ValueError" || exc.Module != "builtins" || !cmp.Equal(exc.Args, []protocol.Value{"no", int64(1)}) {
		f.Errorf("Get of a failed task: %v", err)
	}
	if s, err := failed.State(f.ctx()); s != protocol.Failure || err != nil {
		f.Errorf("State = %v, %v", s, err)
	}
	before := time.Now()
	if must[int](f, f.send(canvas.New("client.add", 1).Countdown(time.Second))); time.Since(before) < time.Second {
		f.Errorf("a countdown of 1 s ended after %v", time.Since(before))
	}
	revoked := f.send(canvas.New("client.add", 1).Countdown(time.Second).ExpiresIn(100 * time.Millisecond))
	if s := f.ending(revoked); s != "TaskRevokedError: expired" {
		f.Errorf("an expired task: %s", s)
	}
}

// callback is a task that this process did not send itself.
func (f *fleet) callback() {
	linked := canvas.New("client.add", 10).TaskID(unique())
	f.send(canvas.New("client.add", 1, 1).Link(linked))
	if got := must[int](f, f.client.Result(linked.ID())); got != 12 {
		f.Errorf("the callback returned %d", got)
	}
}

// ending is the error of Get as text.
func (f *fleet) ending(res *client.AsyncResult) string {
	if err := res.Get(f.ctx(), nil); err != nil {
		return err.Error()
	}
	return "it succeeded"
}

var ids atomic.Int64

func unique() string {
	return fmt.Sprintf("client-test-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), ids.Add(1))
}

func (f *fleet) canvases() {
	num := func(x int) canvas.Signature { return canvas.New("client.add", x) }
	pair := func(x, y int) canvas.Signature { return canvas.New("client.add", x, y) }
	chain := f.send(canvas.Chain(pair(1, 1), num(10), num(100)))
	if got := must[int](f, chain); got != 112 {
		f.Errorf("the chain returned %d", got)
	}
	if got := []int{must[int](f, chain.Parent), must[int](f, chain.Parent.Parent)}; !cmp.Equal(got, []int{12, 2}) {
		f.Errorf("the steps before returned %v", got)
	}
	broken := f.send(canvas.Chain(pair(1, 1), canvas.New("client.fail"), num(1), num(1)))
	if s := f.ending(broken); s != "ValueError: ('no', 1)" {
		f.Errorf("a broken chain: %s", s)
	}
	var many []canvas.Signature
	var want []int
	for i := range 100 {
		many = append(many, pair(i, i))
		want = append(want, 2*i)
	}
	group := f.send(canvas.Group(many...))
	if got := must[[]int](f, group); !cmp.Equal(got, want) {
		f.Errorf("the group returned %v", got)
	}
	failing := f.send(canvas.Group(canvas.New("client.sleep", 5), canvas.New("client.fail")))
	before := time.Now()
	if s := f.ending(failing); s != "ValueError: ('no', 0)" || time.Since(before) > 4*time.Second {
		f.Errorf("a failing group: %s after %v", s, time.Since(before))
	}
	fan := f.send(canvas.Chain(pair(1, 1), canvas.Group(num(1), num(2), canvas.Chain(num(3), num(4)))))
	if got := must[[]int](f, fan); !cmp.Equal(got, []int{3, 4, 9}) {
		f.Errorf("a group after a task returned %v", got)
	}
}

func (f *fleet) chords() {
	pair := func(x, y int) canvas.Signature { return canvas.New("client.add", x, y) }
	num := func(x int) canvas.Signature { return canvas.New("client.add", x) }
	total := canvas.New("client.total")
	for _, tt := range []struct {
		name string
		s    canvas.Signature
		want int
	}{
		{"a chord", canvas.Chord([]canvas.Signature{pair(1, 1), pair(2, 2), pair(3, 3)}, total), 12},
		{"of one", canvas.Chord([]canvas.Signature{pair(1, 1)}, total), 2},
		{"of none", canvas.Chord(nil, total), 0},
		{"a group and what follows it", canvas.Chain(canvas.Group(pair(1, 1), pair(2, 2)), total, num(5)), 11},
		{"with groups in its header", canvas.Chord([]canvas.Signature{pair(1, 1), canvas.Group(pair(2, 2), pair(3, 3))}, total), 12},
		{"with chains in its header", canvas.Chord([]canvas.Signature{canvas.Chain(pair(1, 1), num(1)), pair(2, 2)}, total), 7},
		{"with a chain for its body", canvas.Chord([]canvas.Signature{pair(1, 1), pair(2, 2)}, canvas.Chain(total, num(10))), 16},
		{"a chord in a chord", canvas.Chord([]canvas.Signature{pair(1, 1), canvas.Chord([]canvas.Signature{pair(1, 2), pair(3, 4)}, total)}, total), 12},
	} {
		if got := must[int](f, f.send(tt.s)); got != tt.want {
			f.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	broken := f.send(canvas.Chord([]canvas.Signature{pair(1, 1), canvas.New("client.fail")}, total))
	if s := f.ending(broken); s != "ValueError: ('no', 0)" && s != fmt.Sprintf("ChordError: Dependency %s raised ValueError('no', 0)", broken.Parent.Children[1].ID) {
		f.Errorf("a broken chord: %s", s)
	}
	spawned := f.send(canvas.New("client.spawn", 3))
	must[int](f, spawned)
	rec, err := spawned.Record(f.ctx())
	if err != nil || len(rec.Children) != 3 {
		f.Fatalf("Record = %+v, %v", rec, err)
	}
	for i, tuple := range rec.Children {
		child, err := f.client.ResultOf(tuple)
		if err != nil {
			f.Fatal(err)
		}
		if got := must[int](f, child); got != 2*i {
			f.Errorf("child %d returned %d", i, got)
		}
	}
	if err := spawned.Forget(f.ctx()); err != nil {
		f.Errorf("Forget: %v", err)
	}
	if s, err := spawned.State(f.ctx()); s != protocol.Pending || err != nil {
		f.Errorf("State of what was forgotten = %v, %v", s, err)
	}
}
