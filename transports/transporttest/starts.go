package transporttest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/stalkworker/stalk/transports"
)

func startCounts(b *bench) {
	c := b.dial()
	counter, ok := c.(transports.StartCounter)
	if !ok {
		b.Skip("this Conn counts no starts")
	}
	want := func(c transports.StartCounter, run string, want int) {
		b.Helper()
		if n, err := c.Starts(b.ctx, run); n != want || err != nil {
			b.Errorf("Starts of %.20q = %d, %v; want %d", run, n, err, want)
		}
	}
	add := func(run string) {
		b.Helper()
		if err := counter.AddStart(b.ctx, run); err != nil {
			b.Fatalf("AddStart of %.20q: %v", run, err)
		}
	}
	forget := func(run string) {
		b.Helper()
		if err := counter.ForgetStarts(b.ctx, run); err != nil {
			b.Errorf("ForgetStarts of %.20q: %v", run, err)
		}
	}
	one, other := b.Name()+"/0", b.Name()+"/\x00\xff* "+strings.Repeat("x", 300)
	forget(one)
	want(counter, one, 0)
	for i := range 3 {
		add(one)
		want(counter, one, i+1)
	}
	add(other)
	want(counter, other, 1)
	// Another worker, or this one started again, sees the same.
	second := b.dial().(transports.StartCounter)
	want(second, one, 3)
	forget(one)
	want(second, one, 0)
	want(second, other, 1)
	add(one) // what was forgotten begins anew
	want(counter, one, 1)

	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			run := fmt.Sprint(one, i%2)
			if err := counter.AddStart(b.ctx, run); err != nil {
				b.Errorf("AddStart: %v", err)
			}
		})
	}
	wg.Wait()
	for i := range 2 {
		want(counter, fmt.Sprint(one, i), 5)
		forget(fmt.Sprint(one, i))
	}
	forget(one)
	forget(other)
	b.close(c)
	if _, err := counter.Starts(b.ctx, one); !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("Starts after Close: %v, want ErrDisconnected", err)
	}
}
