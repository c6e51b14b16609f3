package worker

import (
	"sync/atomic"
	"time"
)

// Histogram is a snapshot of how long something took. Counts[i] is how often it took at most Bounds[i] seconds and
// more than Bounds[i-1]; the last of Counts is what took longer than every bound. Bounds is shared: do not write to it.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64 // seconds
}

// Count is how many times were observed.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// scale are the bounds of every histogram: Go tasks may take microseconds, so it starts finer than
// celery-exporter's, whose bounds (prometheus_client's defaults, from 5 ms to 10 s, and those of its queue wait)
// are all among these, so that its histograms can be had from ours without an estimate.
var scale = []float64{
	.0001, .00025, .0005, .001, .0025,
	.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10,
	30, 60, 120, 300, 600, 1800,
}

var scaleNanos = func() []int64 {
	out := make([]int64, len(scale))
	for i, s := range scale {
		out[i] = int64(s*1e9 + .5)
	}
	return out
}()

// tick is the unit of a histogram's sum: with nanoseconds, a thousand slots would overflow it in months.
const tick = 100 * time.Nanosecond

// A histogram counts durations. It is safe for concurrent use; the zero histogram is empty.
type histogram struct {
	counts [26]atomic.Uint64 // len(scale)+1
	sum    atomic.Int64      // in ticks
}

func (h *histogram) observe(d time.Duration) {
	d = max(d, 0) // clocks of two machines may disagree
	i := 0
	for i < len(scaleNanos) && int64(d) > scaleNanos[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64((d + tick/2) / tick))
}

func (h *histogram) snapshot() Histogram {
	out := Histogram{Bounds: scale, Counts: make([]uint64, len(h.counts))}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	out.Sum = float64(h.sum.Load()) * tick.Seconds()
	return out
}
