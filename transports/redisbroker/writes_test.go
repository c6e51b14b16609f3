package redisbroker_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// Many settle and publish at once: each learns its own outcome, whatever became of those beside it.
func TestOutcomesInABatchAreEachOnesOwn(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain ", plain), func(t *testing.T) {
			r := newRig(t)
			c := r.connect(r.transport(nil))
			r.fill("q", 60)
			r.raw.Set(r.ctx, r.prefix+"strange", "no list", 0)
			k := r.consume(c, 60, queue("q"))
			var ds []*transports.Delivery
			for range 60 {
				ds = append(ds, r.receive(k))
			}
			if plain {
				redisbroker.ForbidScripts(c)
			}
			gone := map[string]bool{"007": true, "033": true}
			for field, value := range r.stash() {
				for id := range gone {
					if ids(t, []string{value[1 : len(value)-len(`, "", "q"]`)]})[0] == id {
						r.raw.HDel(r.ctx, r.prefix+"unacked", field)
					}
				}
			}
			var wg sync.WaitGroup
			for i, d := range ds {
				wg.Go(func() {
					id := d.Message.Properties.CorrelationID
					if err := d.Receipt.Ack(r.ctx); errors.Is(err, transports.ErrLost) != gone[id] || err != nil && !gone[id] {
						t.Errorf("Ack(%s) = %v", id, err)
					}
				})
				wg.Go(func() {
					to, want := "to", error(nil)
					if i%10 == 0 {
						to, want = "strange", transports.ErrRefused
					}
					if err := c.Publish(r.ctx, transports.Publishing{RoutingKey: to, Message: message(fmt.Sprint(i))}); !errors.Is(err, want) {
						t.Errorf("Publish to %q = %v, want %v", to, err, want)
					}
				})
			}
			wg.Wait()
			if n := len(r.list("to")); n != 54 {
				t.Errorf("%d were published, want 54", n)
			}
			if n, left := len(r.stash()), r.raw.ZCard(r.ctx, r.prefix+"unacked_index").Val(); n != 0 || left != 0 {
				t.Errorf("the stash has %d entries, the index %d", n, left)
			}
		})
	}
}

// A server that grants no connection has done nothing: the delivery is not lost, and may be settled later.
func TestASocketThatIsRefusedLosesNothing(t *testing.T) {
	for _, plain := range []bool{false, true} {
		r := newRig(t)
		c := r.connect(r.transport(nil))
		r.fill("q", 1)
		d := r.receive(r.consume(c, 1, queue("q")))
		if plain {
			redisbroker.ForbidScripts(c)
		}
		redisbroker.RefuseSockets(c, reply("ERR max number of clients reached"))
		if err := d.Receipt.Ack(r.ctx); !errors.Is(err, transports.ErrBlocked) {
			t.Errorf("plain %v: Ack = %v, want ErrBlocked", plain, err)
		}
		if err := c.Publish(r.ctx, transports.Publishing{RoutingKey: "q", Message: message("x")}); !errors.Is(err, transports.ErrBlocked) {
			t.Errorf("plain %v: Publish = %v, want ErrBlocked", plain, err)
		}
	}
}
