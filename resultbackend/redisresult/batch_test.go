package redisresult_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// Stores share round trips; callers that give up, big values and a server that forgets the script must
// neither lose another one's store nor leave it waiting.
func TestBatches(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		b, client, _ := open(t, url, redisresult.Config{})
		commands := b.Commands()
		const callers, each = 32, 30
		stored := make([][]string, callers)
		var wg sync.WaitGroup
		for n := range callers {
			wg.Go(func() {
				for i := range each {
					r := record(fmt.Sprintf("%d-%d", n, i), protocol.Success)
					r.Result.Value = r.Result.TaskID + strings.Repeat("x", rand.IntN(1000))
					if i == 15 && n%8 == 0 {
						r.Result.Value = strings.Repeat("x", 3<<20)
						client.ScriptFlush(t.Context())
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if i%3 == 0 {
						cancel()
						ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.IntN(1000))*time.Microsecond)
					}
					err := b.Store(ctx, r)
					cancel()
					switch {
					case err == nil:
						stored[n] = append(stored[n], r.Result.TaskID)
					case i%3 != 0 || !errors.Is(err, resultbackend.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded):
						t.Errorf("Store: %v", err)
					}
				}
			})
		}
		wg.Wait()
		for n := range stored {
			for _, id := range stored[n] {
				if r, err := b.Load(t.Context(), id); err != nil || r.TaskID != id {
					t.Errorf("Load(%s): %s, %v", id, r.TaskID, err)
				}
			}
			if want := each * 2 / 3; len(stored[n]) < want {
				t.Errorf("caller %d stored %d, want %d or more", n, len(stored[n]), want)
			}
		}
		t.Logf("%d commands", commands.Load())
	})
}

// What the server has against one record is told to that one alone.
func TestARefusedRecordFailsAlone(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		b, _, _ := open(t, url, redisresult.Config{})
		ids := []string{"a", "b", "c"}
		errs := b.StoreTogether(ids, []int64{20, -1, 0})
		for i, id := range ids {
			_, err := b.Load(t.Context(), id)
			if refused := id == "b"; refused != (errs[i] != nil) || refused != errors.Is(err, resultbackend.ErrNotFound) {
				t.Errorf("%s: stored with %v, loaded with %v", id, errs[i], err)
			}
		}
	})
}
