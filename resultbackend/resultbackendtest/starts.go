package resultbackendtest

import (
	"errors"
	"strings"

	"github.com/stalkworker/stalk/resultbackend"
)

func startCounts(b *bench) {
	counter, ok := b.Backend.Backend.(resultbackend.StartCounter)
	if !ok {
		b.Skip("this backend counts no starts")
	}
	want := func(run string, want int) {
		b.Helper()
		if n, err := counter.Starts(b.ctx(), run); n != want || err != nil {
			b.Errorf("Starts of %.20q = %d, %v; want %d", run, n, err, want)
		}
	}
	do := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	one, other := "a/0", "b/\x00\xff* "+strings.Repeat("x", 300)
	do(counter.ForgetStarts(b.ctx(), one))
	want(one, 0)
	for i := range 3 {
		do(counter.AddStart(b.ctx(), one))
		want(one, i+1)
	}
	do(counter.AddStart(b.ctx(), other))
	do(counter.ForgetStarts(b.ctx(), one))
	want(one, 0)
	want(other, 1)
	do(counter.AddStart(b.ctx(), one))
	want(one, 1)
	do(counter.ForgetStarts(b.ctx(), one))
	do(counter.ForgetStarts(b.ctx(), other))
	if b.Away == nil {
		return
	}
	b.Away(true)
	if err := counter.AddStart(b.ctx(), one); !errors.Is(err, resultbackend.ErrUnavailable) {
		b.Errorf("AddStart while the store is away: %v, want ErrUnavailable", err)
	}
	b.Away(false)
}
