package redisbroker_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
)

// BenchmarkReceiveAck is one message sent, taken and acked at a time.
func BenchmarkReceiveAck(b *testing.B) {
	c, _, _ := benchConn(b)
	ctx := context.Background()
	k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Publish(ctx, transports.Publishing{RoutingKey: "q", Message: message("x")}); err != nil {
			b.Fatal(err)
		}
		d, err := k.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Receipt.Ack(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDrain empties a queue that is full: one receives, many ack. Beside the time it tells what a message costs
// this process and the server in CPU, which is what counts on a busy machine.
func BenchmarkDrain(b *testing.B) {
	for _, queues := range []int{1, 3} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) { drain(b, queues, 128) })
	}
	b.Run("window=8", func(b *testing.B) { drain(b, 1, 8) })
}

func drain(b *testing.B, queues, window int) {
	c, raw, prefix := benchConn(b)
	ctx := context.Background()
	fill(b, raw, prefix, queues)
	var qs []transports.Queue
	for i := range queues {
		qs = append(qs, transports.Queue{Name: fmt.Sprintf("q%d", i)})
	}
	k, err := c.Consume(ctx, qs, window)
	if err != nil {
		b.Fatal(err)
	}
	in := make(chan *transports.Delivery)
	var wg sync.WaitGroup
	for range window {
		wg.Go(func() {
			for d := range in {
				if err := d.Receipt.Ack(ctx); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	ours, theirs := cpu(b), serverCPU(b, raw)
	for range b.N {
		d, err := k.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		in <- d
	}
	close(in)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric((cpu(b)-ours)/float64(b.N), "cpu-µs/op")
	b.ReportMetric((serverCPU(b, raw)-theirs)/float64(b.N), "redis-µs/op")
}

// fill puts b.N messages as Celery sends them into the queues.
func fill(b *testing.B, raw *redis.Client, prefix string, queues int) {
	body := strings.Repeat("e30g", 30)
	for from := 0; from < b.N; from += 1000 {
		_, err := raw.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			for i := from; i < min(from+1000, b.N); i++ {
				e := fmt.Sprintf(`{"body": %q, "content-encoding": "utf-8", "content-type": "application/json", `+
					`"headers": {"lang": "py", "task": "demo.add", "id": "%036d", "shadow": null, "eta": null, "expires": null, "group": null, `+
					`"retries": 0, "timelimit": [null, null], "root_id": "%036d", "parent_id": null, "argsrepr": "(1, 2)", "kwargsrepr": "{}", `+
					`"origin": "gen1@host", "ignore_result": false}, "properties": {"correlation_id": "%036d", "reply_to": "%036d", "delivery_mode": 2, `+
					`"delivery_info": {"exchange": "", "routing_key": "q0"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "%036d"}}`, body, i, i, i, i, i)
				p.LPush(context.Background(), fmt.Sprintf("%sq%d", prefix, i%queues), e)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func benchConn(b *testing.B) (transports.Conn, *redis.Client, string) {
	addr, password, db := server(b)
	prefix := prefixOn(b, addr, password, db)
	raw := redis.NewClient(&redis.Options{Addr: addr, Password: password, DB: db, Protocol: 2, DisableIdentity: true})
	b.Cleanup(func() { _ = raw.Close() })
	tr := transport(b, "redis://:"+password+"@"+addr+"/"+strconv.Itoa(db), map[string]any{"global_keyprefix": prefix})
	c, err := tr.Connect(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c, raw, prefix
}

// cpu is what this process has used, in µs.
func cpu(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
}

// serverCPU is what the server has used, in µs: for us alone, when nobody else uses it.
func serverCPU(b *testing.B, raw *redis.Client) float64 {
	info, err := raw.Info(context.Background(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	total := 0.0
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key == "used_cpu_sys" || key == "used_cpu_user" {
			s, _ := strconv.ParseFloat(value, 64)
			total += s * 1e6
		}
	}
	return total
}
