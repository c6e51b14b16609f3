package redisbroker_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
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

type reply string

func (r reply) Error() string { return string(r) }
func (r reply) RedisError()   {}

// A reply queue that is not bound hears no answer: whoever asked would think that no worker lives.
func TestAReplyQueueThatIsNotBoundIsAnError(t *testing.T) {
	addr, password, db := server(t)
	tr := transport(t, "redis://:"+password+"@"+addr+"/"+strconv.Itoa(db), map[string]any{"global_keyprefix": prefixOn(t, addr, password, db)})
	conn, err := tr.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	redisbroker.RefuseSockets(conn, reply("ERR max number of clients reached"))
	if s, err := conn.Subscribe(t.Context(), transports.Fanout{
		Exchange: "reply.celery.pidbox", Type: "direct", RoutingKey: "oid", Queue: "oid.reply.celery.pidbox",
		Arguments: protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(10_000)}),
	}); err == nil {
		s.Close()
		t.Error("it counts as bound although no socket could be had")
	}
}

// An envelope past the limits is not read. Its headers are there, and its bytes go to quarantine as they are.
func TestAnEnvelopeThatIsTooLargeKeepsItsHeaders(t *testing.T) {
	addr, password, db := server(t)
	prefix := prefixOn(t, addr, password, db)
	tr, err := redisbroker.New(redisbroker.Config{
		URL: "redis://:" + password + "@" + addr + "/" + strconv.Itoa(db), Options: map[string]any{"global_keyprefix": prefix},
		Limits: protocol.Limits{Inflated: 1 << 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tr.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw := redis.NewClient(&redis.Options{Addr: addr, Password: password, DB: db, Protocol: 2, DisableIdentity: true})
	defer raw.Close()
	large := `{"body": "` + strings.Repeat("W10x", 5<<20) + `", "content-encoding": "utf-8", "content-type": "application/json", ` +
		`"headers": {"task": "t", "id": "large"}, "properties": {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "q"}}}`
	if err := raw.LPush(t.Context(), prefix+"q", large).Err(); err != nil {
		t.Fatal(err)
	}
	k, err := conn.Consume(t.Context(), []transports.Queue{{Name: "q"}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	d, err := k.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := d.Message.Headers.Get("id"); !errors.Is(d.Malformed, protocol.ErrTooLarge) || id != "large" || len(d.Message.Body) != len(large) {
		t.Errorf("Malformed is %v, the id %v, %d bytes are kept of %d", d.Malformed, id, len(d.Message.Body), len(large))
	}
	if err := d.Receipt.Move(t.Context(), transports.Quarantine("q")); err != nil {
		t.Fatal(err)
	}
	if got := raw.RPop(t.Context(), prefix+transports.Quarantine("q")).Val(); got != large {
		t.Errorf("%d bytes are in quarantine, not those %d that came", len(got), len(large))
	}
}
