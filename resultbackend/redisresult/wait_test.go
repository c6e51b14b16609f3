package redisresult_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// A user who may not subscribe still learns of the end: the record is read again and again, ever more
// rarely.
func TestWaitWithoutChannels(t *testing.T) {
	url := realURL(t)
	b, admin, key := open(t, url, redisresult.Config{})
	user := fmt.Sprintf("nochannels-%d", os.Getpid())
	if err := admin.Do(t.Context(), "ACL", "SETUSER", user, "on", ">pw", "~*", "resetchannels", "+@all").Err(); err != nil {
		t.Fatalf("ACL SETUSER: %v", err)
	}
	t.Cleanup(func() { // t.Context has ended by then
		if err := admin.Do(context.Background(), "ACL", "DELUSER", user).Err(); err != nil {
			t.Errorf("ACL DELUSER: %v", err)
		}
	})
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	prefix := key[:len(key)-len("celery-task-meta-")]
	mute, _, _ := open(t, fmt.Sprintf("redis://%s:pw@%s/%d", user, opts.Addr, opts.DB),
		redisresult.Config{Options: map[string]any{"global_keyprefix": prefix}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan error, 1)
	go func() {
		r, err := mute.Wait(ctx, "t")
		if err == nil && r.Status != protocol.Success {
			err = errors.New(string(r.Status))
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("Wait returned %v before there was a record", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := b.Store(ctx, record("t", protocol.Success)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// All who wait for a task share one subscription, which ends with the last of them.
func TestWaitSubscribesOnlyWhileSomebodyWaits(t *testing.T) {
	url := realURL(t)
	b, admin, key := open(t, url, redisresult.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	subscribers := func() int64 { return admin.PubSubNumSub(ctx, key+"t").Val()[key+"t"] }
	for range 2 {
		waiting, leave := context.WithCancel(ctx)
		ended := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := b.Wait(waiting, "t")
				ended <- err
			}()
		}
		poll(ctx, t, "one connection listens for both", func() bool { return subscribers() == 1 })
		leave()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Wait: %v", err)
			}
		}
		poll(ctx, t, "nobody listens any more", func() bool { return subscribers() == 0 })
	}
}

func poll(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("not so in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A record that cannot be read is told at once, not waited out.
func TestWaitTellsOfAnUnreadableRecord(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		b, client, key := open(t, url, redisresult.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		got := make(chan error, 1)
		go func() {
			_, err := b.Wait(ctx, "t")
			got <- err
		}()
		poll(ctx, t, "somebody listens", func() bool { return client.PubSubNumSub(ctx, key+"t").Val()[key+"t"] == 1 })
		if err := errors.Join(client.Set(ctx, key+"t", "{", 0).Err(), client.Publish(ctx, key+"t", "{").Err()); err != nil {
			t.Fatal(err)
		}
		err := <-got
		if _, ok := errors.AsType[*protocol.DecodeError](err); !ok {
			t.Errorf("Wait: %v, want a *DecodeError", err)
		}
	})
}
