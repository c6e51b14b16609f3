package redisbroker_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/stalkworker/stalk/transports"
)

// BenchmarkReceiveAck is one message taken and acked at a time with a window of 64.
func BenchmarkReceiveAck(b *testing.B) {
	addr, password, db := server(b)
	prefix := prefixOn(b, addr, password, db)
	tr := transport(b, "redis://:"+password+"@"+addr+"/"+strconv.Itoa(db), map[string]any{"global_keyprefix": prefix})
	ctx := context.Background()
	c, err := tr.Connect(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
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
