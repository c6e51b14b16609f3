package worker

import (
	"context"
	"fmt"
	"math/bits"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// impatient is a broker that takes back a delivery which stays unsettled for limit, and parks as RabbitMQ's driver does.
type impatient struct {
	*membroker.Broker
	t      *testing.T
	limit  time.Duration
	refuse atomic.Bool // to park
	parked atomic.Int64
	late   atomic.Int64 // deliveries that became older than the limit
}

func (b *impatient) ConsumerTimeout() time.Duration { return b.limit }

func (b *impatient) Connect(ctx context.Context) (transports.Conn, error) {
	c, err := b.Broker.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return impatientConn{c, b}, nil
}

type impatientConn struct {
	transports.Conn
	b *impatient
}

func (c impatientConn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	k, err := c.Conn.Consume(ctx, queues, window)
	if err != nil {
		return nil, err
	}
	return impatientConsumer{k, c.b}, nil
}

type impatientConsumer struct {
	transports.Consumer
	b *impatient
}

func (k impatientConsumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	d, err := k.Consumer.Receive(ctx)
	if err != nil {
		return nil, err
	}
	r := &impatientReceipt{Receipt: d.Receipt, b: k.b, message: d.Message, queue: d.Queue, arrived: time.Now()}
	r.timer = time.AfterFunc(k.b.limit, func() { k.b.late.Add(1) })
	d.Receipt = r
	return d, nil
}

type impatientReceipt struct {
	transports.Receipt
	b       *impatient
	message protocol.Message
	queue   string
	arrived time.Time
	timer   *time.Timer
}

func (r *impatientReceipt) BeginBy() time.Time { return r.arrived.Add(r.b.limit / 3) }

func (r *impatientReceipt) Ack(ctx context.Context) error {
	r.timer.Stop()
	return r.Receipt.Ack(ctx)
}

func (r *impatientReceipt) Reject(ctx context.Context, requeue bool) error {
	r.timer.Stop()
	return r.Receipt.Reject(ctx, requeue)
}

func (r *impatientReceipt) Move(ctx context.Context, queue string) error {
	r.timer.Stop()
	return r.Receipt.Move(ctx, queue)
}

func (r *impatientReceipt) Park(ctx context.Context, wait time.Duration) error {
	if r.b.refuse.Load() {
		return fmt.Errorf("test: %w", transports.ErrRefused)
	}
	r.b.parked.Add(1)
	stay := time.Second << (bits.Len64(uint64(max(wait/time.Second, 1))) - 1)
	time.AfterFunc(stay, func() { r.b.Send(r.queue, r.message) })
	return r.Ack(ctx)
}

func impatientRig(t *testing.T, limit time.Duration, change func(*Config), hs ...handlers.Handler) (*rig, *impatient) {
	t.Helper()
	b := &impatient{t: t, limit: limit}
	r := startRig(t, func(c *Config) {
		b.Broker = c.Transport.(*membroker.Broker)
		c.Transport = b
		if change != nil {
			change(c)
		}
	}, hs...)
	return r, b
}

func TestATaskThatIsWantedLateIsParkedAndRunsInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran atomic.Int64 // when, in Unix seconds
		r, b := impatientRig(t, 30*time.Minute, nil, handlers.Func("when", func(context.Context, nothing) (int64, error) {
			ran.Store(time.Now().Unix())
			return 1, nil
		}))
		eta := time.Now().Add(26 * time.Hour)
		r.send(protocol.Task{ID: "a", Name: "when", ETA: eta})
		pass(time.Minute)
		if n := r.w.calendar.waitingForETA(); n != 1 || b.parked.Load() != 0 {
			t.Errorf("after a minute %d are held, %d were parked; want it to be seen here at first", n, b.parked.Load())
		}
		pass(25 * time.Hour)
		r.wantQueue("q", 0, r.w.calendar.waitingForETA())
		pass(time.Hour)
		r.wantState("a", protocol.Success)
		if got := ran.Load() - eta.Unix(); got != 0 {
			t.Errorf("it ran %d s after its eta", got)
		}
		if n := b.parked.Load(); n < 2 || n > 20 {
			t.Errorf("parked %d times", n)
		}
		if n := b.late.Load(); n != 0 {
			t.Errorf("%d deliveries became older than the broker's limit", n)
		}
	})
}

func TestManyTasksForLaterAreParkedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 30*time.Minute, nil, handlers.Func("double", double))
		for i := range parkAtOnce + 100 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		}
		r.send(protocol.Task{ID: "now", Name: "double", Args: args(int64(1))})
		pass(time.Second)
		r.wantState("now", protocol.Success)
		if n := b.parked.Load(); n < 90 {
			t.Errorf("%d were parked", n)
		}
		pass(time.Hour)
		r.wantState("99", protocol.Success)
		r.wantQueue("q", 0, 0)
	})
}

// Whoever sets worker_eta_task_limit is shown as many as held, as with Celery.
func TestTheETALimitIsNotMadeRoomInByParking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 30*time.Minute, func(c *Config) { c.ETALimit = 10 }, handlers.Func("double", double))
		for i := range 12 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		}
		pass(time.Second)
		if s := r.w.Stats(); s.Held != 10 || b.parked.Load() != 0 {
			t.Errorf("%d are held, %d parked", s.Held, b.parked.Load())
		}
	})
}

func TestABrokerThatDoesNotPark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 30*time.Minute, nil, handlers.Func("double", double))
		b.refuse.Store(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		r.send(protocol.Task{ID: "b", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(3 * time.Hour)})
		pass(time.Hour + time.Second)
		r.wantState("a", protocol.Success)
		if n := strings.Count(r.log.String(), "does not park"); n != 2 {
			t.Errorf("the log says it %d times, want once for each task", n)
		}
		b.refuse.Store(false)
		pass(2 * time.Minute)
		if b.parked.Load() != 1 {
			t.Error("the other one was not parked when that was possible")
		}
		pass(2 * time.Hour)
		r.wantState("b", protocol.Success)
	})
}

func TestWhatCannotBeginInTimeGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 3*time.Minute, nil, handlers.Func("sleep", sleeper(100*time.Second)))
		for i := range 5 { // due together: the last one waits for 400 s
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "sleep", ETA: time.Now().Add(10 * time.Second)})
		}
		pass(600 * time.Second)
		for i := range 5 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		if n := b.late.Load(); n != 0 {
			t.Errorf("%d deliveries became older than the broker's limit", n)
		}
		if n := r.w.Stats().Succeeded; n != 5 {
			t.Errorf("%d runs, want 5", n)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestWhatWaitsForItsTurnGoesBackInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 30*time.Minute, nil, handlers.Func("hourly", double).With(handlers.Options{Rate: "1/h"}))
		begun := time.Now()
		for i := range 4 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "hourly", Args: args(int64(i))})
		}
		for hour := range 4 {
			pass(time.Until(begun.Add(time.Duration(hour)*time.Hour + 20*time.Minute)))
			if n := r.w.Stats().Succeeded; n != int64(hour+1) {
				t.Errorf("%d have run 20 minutes after hour %d, want %d: the turns of what went back went to nobody, or to several", n, hour, hour+1)
			}
		}
		for i := range 4 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		if n := b.late.Load(); n != 0 {
			t.Errorf("%d deliveries became older than the broker's limit", n)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestANewRateDoesNotMakeAMessageWaitTooLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := impatientRig(t, 30*time.Minute, nil, handlers.Func("hourly", double).With(handlers.Options{Rate: "1/m"}))
		for i := range 3 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "hourly", Args: args(int64(i))})
		}
		pass(time.Second)
		r.w.limiter.set("hourly", 1.0/7200, "0.5/h")
		retime(r.w.limiter, r.w.calendar, "hourly", time.Now())
		pass(90 * time.Minute)
		if n := r.w.Stats().Succeeded; n != 2 {
			t.Errorf("%d have run, want 2: the first by the old rate, the next by the new one", n)
		}
		if n := b.late.Load(); n != 0 {
			t.Errorf("%d deliveries became older than the broker's limit", n)
		}
		pass(2 * time.Hour)
		r.wantQueue("q", 0, 0)
	})
}

// TestACopyOfALongRunGoesBackInTime: the connection broke under the run, so its own message is not ours any more; the
// copy is, and must not grow as old as the run.
func TestACopyOfALongRunGoesBackInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r, b := impatientRig(t, 30*time.Minute, func(c *Config) { c.Concurrency = 2 }, handlers.Func("long", func(ctx context.Context, in nothing) (string, error) {
			runs.Add(1)
			return sleeper(2*time.Hour)(ctx, in)
		}))
		r.send(protocol.Task{ID: "a", Name: "long"})
		synctest.Wait()
		r.broker.Cut()
		pass(2*time.Hour + time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 0, 0)
		if n := runs.Load(); n != 1 {
			t.Errorf("the task ran %d times", n)
		}
		// The run's own message grew old, in vain: it went back with its connection.
		if n := b.late.Load(); n != 1 {
			t.Errorf("%d deliveries became older than the broker's limit, want the run's own alone", n)
		}
	})
}

func TestTasksThatMayOutlastTheBrokersLimitAreNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hour := handlers.Options{HardLimit: time.Hour}
		early := hour
		early.EarlyAck = true
		r, _ := impatientRig(t, 30*time.Minute, func(c *Config) { c.HardLimit = time.Minute },
			handlers.Func("long", double).With(hour), handlers.Func("early", double).With(early), handlers.Func("short", double))
		synctest.Wait()
		r.wantLog("tasks may run longer than the broker lets them keep their message")
		if !strings.Contains(r.log.String(), "tasks=long\n") {
			t.Errorf("the log does not name just the one:\n%s", r.log)
		}
	})
}

// TestACopyTakesThePlaceOfAHeldTaskThatWasLost: a channel may close without its connection.
func TestACopyTakesThePlaceOfAHeldTaskThatWasLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		synctest.Wait()
		r.broker.Lapse("q")
		synctest.Wait()
		if n := r.w.calendar.waitingForETA(); n != 1 {
			t.Errorf("%d are held, want the copy alone", n)
		}
		if n := r.w.Stats().Unsettled; n != 1 {
			t.Errorf("%d unsettled, want 1", n)
		}
		pass(time.Hour)
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 0, 0)
	})
}
