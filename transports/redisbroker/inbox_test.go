package redisbroker_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// What a reply queue writes is what Kombu 5.7 writes for one, and nothing of it is left.
func TestAReplyQueueIsKombusAndLeavesNothing(t *testing.T) {
	addr, password, db := server(t)
	prefix := prefixOn(t, addr, password, db)
	tr := transport(t, "redis://:"+password+"@"+addr+"/"+strconv.Itoa(db), map[string]any{"global_keyprefix": prefix})
	conn, err := tr.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw := redis.NewClient(&redis.Options{Addr: addr, Password: password, DB: db, Protocol: 2, DisableIdentity: true})
	defer raw.Close()
	keys := func() []string {
		t.Helper()
		all, err := raw.Keys(context.Background(), prefix+"*").Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		return all
	}
	s, err := conn.Subscribe(t.Context(), transports.Fanout{
		Exchange: "reply.celery.pidbox", Type: "direct", RoutingKey: "oid", Queue: "oid.reply.celery.pidbox",
		Arguments: protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(10_000)}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := keys(), []string{prefix + "_kombu.binding.reply.celery.pidbox", prefix + "_kombu.binding_deadlines"}; !slices.Equal(got, want) {
		t.Errorf("keys are %q, want %q", got, want)
	}
	members := raw.SMembers(t.Context(), prefix+"_kombu.binding.reply.celery.pidbox").Val()
	if want := "oid\x06\x16\x06\x16oid.reply.celery.pidbox"; !slices.Equal(members, []string{want}) {
		t.Errorf("members are %q, want %q", members, want)
	}
	until := time.UnixMilli(int64(raw.ZScore(t.Context(), prefix+"_kombu.binding_deadlines", "reply.celery.pidbox").Val()))
	if d := time.Until(until); d < 59*time.Minute || d > 61*time.Minute {
		t.Errorf("the table is kept for %v, want an hour", d)
	}
	for i := range 3 { // one is read, two are left
		m := protocol.Message{Body: []byte{byte('0' + i)}}
		if err := conn.Publish(t.Context(), transports.Publishing{Exchange: "reply.celery.pidbox", RoutingKey: "oid", Message: m, Mandatory: true}); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := s.Next(t.Context()); err != nil || string(m.Body) != "0" {
		t.Errorf("Next = %q, %v", m.Body, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := keys(), []string{prefix + "_kombu.binding_deadlines"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}
