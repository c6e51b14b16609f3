package redisresult_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// BenchmarkCount counts parts of large headers, from many tasks at once.
func BenchmarkCount(b *testing.B) {
	url := realURL(b)
	const size = 1000
	for _, writers := range []int{1, 32} {
		for _, ordered := range []bool{true, false} {
			b.Run(fmt.Sprintf("writers=%d/ordered=%v", writers, ordered), func(b *testing.B) {
				store, _, _ := open(b, url, redisresult.Config{Options: map[string]any{"result_chord_ordered": ordered}})
				var n atomic.Int64
				b.ReportAllocs()
				b.SetParallelism(writers)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := n.Add(1)
						if _, err := store.Count(b.Context(), member(fmt.Sprint("g", i/size), fmt.Sprint("t", i), i%size, i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
