package batch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/internal/batch"
)

type item struct {
	size int
	sent atomic.Int32
}

func size(i *item) int { return i.size }

// Who is alone is sent at once; what comes while a batch is on its way goes together in the next.
func TestGathersWhatComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches [][]*item
		b := &batch.Batcher[*item]{Most: 3, Bytes: 100, Size: size, Send: func(is []*item) {
			time.Sleep(time.Second)
			batches = append(batches, is)
			for _, i := range is {
				i.sent.Add(1)
			}
		}}
		var wg sync.WaitGroup
		for _, size := range []int{1, 1, 1, 1, 90, 20, 200, 1} {
			wg.Go(func() {
				i := &item{size: size}
				if err := b.Do(t.Context(), i); err != nil || i.sent.Load() != 1 {
					t.Errorf("Do(%d) = %v, sent %d times", size, err, i.sent.Load())
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		var got [][]int
		for _, is := range batches {
			var sizes []int
			for _, i := range is {
				sizes = append(sizes, i.size)
			}
			got = append(got, sizes)
		}
		want := [][]int{{1}, {1, 1, 1}, {90}, {20}, {200}, {1}}
		if len(got) != len(want) {
			t.Fatalf("batches are %v, want %v", got, want)
		}
		for n := range want {
			if len(got[n]) != len(want[n]) || got[n][0] != want[n][0] {
				t.Errorf("batches are %v, want %v", got, want)
			}
		}
	})
}

// Who gives up in the queue is not sent; who gives up on the way leaves the others theirs.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batch.Batcher[*item]{Most: 10, Bytes: 100, Size: size, Send: func(is []*item) {
			time.Sleep(time.Second)
			for _, i := range is {
				i.sent.Add(1)
			}
		}}
		do := func(patience time.Duration, want error, sent int32) func() {
			return func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				i := &item{size: 1}
				began := time.Now()
				if err := b.Do(ctx, i); !errors.Is(err, want) {
					t.Errorf("Do with %v = %v, want %v", patience, err, want)
				}
				if want != nil && time.Since(began) != patience {
					t.Errorf("gave up after %v, want %v", time.Since(began), patience)
				}
				time.Sleep(10 * time.Second)
				if i.sent.Load() != sent {
					t.Errorf("with %v it was sent %d times, want %d", patience, i.sent.Load(), sent)
				}
			}
		}
		var wg sync.WaitGroup
		for _, run := range []func(){
			do(500*time.Millisecond, nil, 1), // leads
			do(600*time.Millisecond, context.DeadlineExceeded, 0),
			do(3*time.Second, nil, 1),                              // leads the second batch
			do(1500*time.Millisecond, context.DeadlineExceeded, 1), // is in it
			do(3*time.Second, nil, 1),
		} {
			wg.Go(run)
			synctest.Wait()
		}
		wg.Wait()
	})
}

func TestManyAtOnce(t *testing.T) {
	var sending, sent, most atomic.Int64
	b := &batch.Batcher[*item]{Most: 16, Bytes: 1000, Size: size, Send: func(is []*item) {
		if sending.Add(1) != 1 {
			t.Error("two batches at once")
		}
		most.Store(max(most.Load(), int64(len(is))))
		sent.Add(int64(len(is)))
		for _, i := range is {
			i.sent.Add(1)
		}
		sending.Add(-1)
	}}
	var wg sync.WaitGroup
	var gaveUp atomic.Int64
	const callers, each = 50, 300
	for range callers {
		wg.Go(func() {
			for n := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if n%10 == 0 {
					time.AfterFunc(time.Duration(rand.IntN(50))*time.Microsecond, cancel)
				}
				i := &item{size: rand.IntN(100)}
				if err := b.Do(ctx, i); err != nil {
					gaveUp.Add(1)
				} else if i.sent.Load() != 1 {
					t.Errorf("sent %d times", i.sent.Load())
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if n := sent.Load(); n > callers*each || n < callers*each-gaveUp.Load() {
		t.Errorf("%d sent of %d, %d gave up", n, callers*each, gaveUp.Load())
	}
	t.Logf("%d gave up, the largest batch had %d", gaveUp.Load(), most.Load())
}
