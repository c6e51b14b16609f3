package redisbroker

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// onMiniredis connects to a server whose clock and data the test controls.
func onMiniredis(t *testing.T, heal time.Duration, ahead time.Duration) (*miniredis.Miniredis, transports.Conn) {
	t.Helper()
	m := miniredis.RunT(t)
	if ahead != 0 {
		m.SetTime(time.Now().Add(ahead))
	}
	tr, err := New(Config{URL: "redis://" + m.Addr() + "/3"})
	if err != nil {
		t.Fatal(err)
	}
	tr.set.heal = heal
	c, err := tr.Connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return m, c
}

func TestBindingsAreHealed(t *testing.T) {
	t.Parallel()
	m, c := onMiniredis(t, 20*time.Millisecond, 0)
	if _, err := c.Consume(context.Background(), []transports.Queue{{Name: "q"}}, 1); err != nil {
		t.Fatal(err)
	}
	m.FlushAll()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		one, _ := m.DB(3).IsMember("_kombu.binding.q", "q\x06\x16\x06\x16q")
		two, _ := m.DB(3).IsMember("_kombu.binding_permanent.q", "q\x06\x16\x06\x16q")
		if one && two {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the binding is not written again")
		}
	}
}

// A local clock that is an hour slow would make Python restore what we have just taken.
func TestScoresFollowTheServersClockWhenOursIsOff(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{time.Hour, -time.Hour, 2 * time.Second} {
		m, c := onMiniredis(t, time.Minute, ahead)
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		msg := protocol.Message{Headers: protocol.ObjectOf(protocol.Member{Key: "id", Value: "x"})}
		if err := c.Publish(ctx, transports.Publishing{RoutingKey: "q", Message: msg}); err != nil {
			t.Fatal(err)
		}
		k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		want := time.Now()
		if ahead.Abs() > maxSkew {
			want = want.Add(ahead)
		}
		fields, err := m.DB(3).ZMembers("unacked_index")
		if err != nil || len(fields) != 1 {
			t.Fatalf("index %v, %v", fields, err)
		}
		at, _ := m.DB(3).ZScore("unacked_index", fields[0])
		got, _ := strconv.ParseFloat(score(want), 64)
		if at < got-1.5 || at > got+1.5 {
			t.Errorf("server %v ahead: score %f, want about %f", ahead, at, got)
		}
	}
}
