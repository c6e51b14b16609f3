//go:build unix

package rabbitmq

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// What a task costs in this package, as a worker with short tasks uses it: a window of 128, and as many that settle.
// Rates say little while worker and broker share their cores, so each figure comes with the CPU time of this process,
// and of the broker when STALK_BENCH_BROKER_PID names it.
const benchWindow = 128

func benchConn(b *testing.B) (*conn, *amqp.Connection) {
	b.Helper()
	u := os.Getenv("CELERY_AMQP_URL")
	if u == "" {
		b.Skip("CELERY_AMQP_URL is not set")
	}
	tr, err := New(Config{URL: u})
	if err != nil {
		b.Fatal(err)
	}
	c, err := tr.Connect(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	side, err := amqp.Dial(u)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = side.Close() })
	return c.(*conn), side
}

// benchQueue makes a queue that is deleted at the end.
func benchQueue(b *testing.B, side *amqp.Connection) string {
	b.Helper()
	name := uniqueName()
	declare := func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, nil)
		return err
	}
	if err := scratch(side, declare); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = scratch(side, func(ch *amqp.Channel) error { _, err := ch.QueueDelete(name, false, false, false); return err })
	})
	return name
}

// benchMessage looks like one of Celery's.
func benchMessage(id string) protocol.Message {
	member := func(k string, v protocol.Value) protocol.Member { return protocol.Member{Key: k, Value: v} }
	return protocol.Message{
		Headers: protocol.ObjectOf(
			member("lang", "py"), member("task", "demo.add"), member("id", id), member("shadow", nil), member("eta", nil), member("expires", nil),
			member("group", nil), member("group_index", nil), member("retries", int64(0)), member("timelimit", []protocol.Value{nil, nil}),
			member("root_id", id), member("parent_id", nil), member("argsrepr", "(2, 3)"), member("kwargsrepr", "{}"), member("origin", "gen1@host"),
			member("ignore_result", false), member("replaced_task_nesting", int64(0)), member("stamped_headers", nil), member("stamps", &protocol.Object{}),
		),
		Properties: protocol.Properties{
			ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: id, ReplyTo: "5b8f4b7e-0000-4000-8000-000000000000",
			DeliveryMode: 2, Priority: new(0),
		},
		Body: []byte(`[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]`),
	}
}

// cpu is the time that a process has used; pid 0 is this one.
func cpu(pid int) time.Duration {
	if pid == 0 {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// measure runs do with the clock on, and reports.
func measure(b *testing.B, do func()) {
	b.Helper()
	pid, _ := strconv.Atoi(os.Getenv("STALK_BENCH_BROKER_PID"))
	b.ReportAllocs()
	ours, theirs := cpu(0), time.Duration(0)
	if pid > 0 {
		theirs = cpu(pid)
	}
	b.ResetTimer()
	do()
	b.StopTimer()
	b.ReportMetric(float64((cpu(0)-ours).Microseconds())/float64(b.N), "cpu-us/op")
	if pid > 0 {
		b.ReportMetric(float64((cpu(pid)-theirs).Microseconds())/float64(b.N), "broker-us/op")
	}
}

func BenchmarkReceiveAndAck(b *testing.B) {
	c, side := benchConn(b)
	queue := benchQueue(b, side)
	message, err := publishingOf(benchMessage("7a2f0d3c-0000-4000-8000-000000000000"))
	if err != nil {
		b.Fatal(err)
	}
	err = scratch(side, func(ch *amqp.Channel) error {
		for i := range b.N {
			if err := ch.Publish("", queue, false, false, message); err != nil {
				return err
			}
			if i%1000 == 0 {
				if _, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil {
					return err
				}
			}
		}
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() {
		k, err := c.Consume(b.Context(), []transports.Queue{{Name: queue}}, benchWindow)
		if err != nil {
			b.Fatal(err)
		}
		work := make(chan *transports.Delivery, benchWindow)
		var settlers sync.WaitGroup
		for range benchWindow {
			settlers.Go(func() {
				for d := range work {
					if err := d.Receipt.Ack(b.Context()); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for range b.N {
			d, err := k.Receive(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			work <- d
		}
		close(work)
		settlers.Wait()
	})
}

func BenchmarkPublish(b *testing.B) {
	for _, mandatory := range []bool{false, true} {
		b.Run(fmt.Sprintf("mandatory=%v", mandatory), func(b *testing.B) {
			c, side := benchConn(b)
			queue := benchQueue(b, side)
			if err := c.Publish(b.Context(), transports.Publishing{RoutingKey: queue, Message: benchMessage("first")}); err != nil {
				b.Fatal(err)
			}
			ids := make(chan string, benchWindow)
			var publishers sync.WaitGroup
			measure(b, func() {
				for range benchWindow {
					publishers.Go(func() {
						for id := range ids {
							p := transports.Publishing{RoutingKey: queue, Message: benchMessage(id), Mandatory: mandatory}
							p.Message.Properties.DeliveryMode = 1
							if err := c.Publish(context.WithoutCancel(b.Context()), p); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for i := range b.N {
					ids <- strconv.Itoa(i)
				}
				close(ids)
				publishers.Wait()
			})
		})
	}
}
