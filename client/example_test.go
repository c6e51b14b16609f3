package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A program sends a task and waits for what it returns. Broker and store come from dial.Broker and
// dial.Results; here they are in memory, and a goroutine is the worker.
func Example() {
	broker, store := membroker.New(), memresult.New() // dial.Broker("amqp://..."), dial.Results("redis://...")
	c, err := client.New(client.Config{Transport: broker, Results: store})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	res, err := c.Send(ctx, canvas.New("proj.add", 2, 3).Queue("sums"))
	if err != nil {
		log.Fatal(err)
	}
	go work(broker, store, "sums")
	var sum int
	if err := res.Get(ctx, &sum); err != nil {
		log.Fatal(err) // a task that failed is a *protocol.Exception
	}
	fmt.Println(sum)
	// Output: 5
}

// Chains, groups and chords are sent the same way; of a group the results come in order.
func ExampleClient_Send_group() {
	broker, store := membroker.New(), memresult.New()
	c, err := client.New(client.Config{Transport: broker, Results: store})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	res, err := c.Send(ctx, canvas.Group(
		canvas.New("proj.add", 1, 1),
		canvas.New("proj.add", 2, 2),
		canvas.New("proj.add", 3, 3).Priority(5),
	))
	if err != nil {
		log.Fatal(err)
	}
	go work(broker, store, "celery")
	var sums []int
	if err := res.Get(ctx, &sums); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sums)
	// Output: [2 4 6]
}

// work adds, in the place of a worker.
func work(broker *membroker.Broker, store resultbackend.Backend, queue string) {
	for _, m := range broker.Messages(queue) {
		task, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
		if err != nil {
			log.Fatal(err)
		}
		r := protocol.Result{TaskID: task.ID, Status: protocol.Success, Value: task.Args[0].(int64) + task.Args[1].(int64)}
		if err := store.Store(context.Background(), resultbackend.Record{Result: r}); err != nil {
			log.Fatal(err)
		}
	}
}
