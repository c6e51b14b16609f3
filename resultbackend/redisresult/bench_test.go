package redisresult_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// BenchmarkStore stores from many tasks at once, as a busy worker does.
func BenchmarkStore(b *testing.B) {
	url := realURL(b)
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			store, _, _ := open(b, url, redisresult.Config{Expires: new(20 * time.Second)})
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(writers)
			if writers == 1 {
				for b.Loop() {
					if err := store.Store(b.Context(), record(fmt.Sprint(n.Add(1)), protocol.Success)); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := store.Store(b.Context(), record(fmt.Sprint(n.Add(1)), protocol.Success)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
