package canvas_test

import (
	"fmt"
	"time"

	"github.com/stalkworker/stalk/canvas"
)

// A chain whose middle is a group becomes a chord; applying it publishes the first step, which carries the rest.
func ExampleApply() {
	n := 0
	env := &canvas.Env{
		NewID:        func() string { n++; return fmt.Sprint("id-", n) },
		Now:          time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		NativeChords: true,
	}
	resize := canvas.New("images.resize").Queue("images").TimeLimit(time.Minute, 0)
	report := canvas.Chain(
		canvas.New("reports.collect", 2026),
		canvas.Group(resize, canvas.New("reports.count")),
		canvas.New("reports.publish").LinkError(canvas.New("reports.failed")),
	)
	plan, err := canvas.Apply(report, nil, nil, nil, env)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range plan.Effects {
		if send, ok := e.(canvas.Send); ok {
			fmt.Println("send", send.Task.Name, "to", send.Queue.Name, "with", len(send.Task.Chain), "to come")
			effects, _, _ := canvas.AfterSuccess(send.Task, "rows", env)
			for _, e := range effects {
				switch e := e.(type) {
				case canvas.ChordBegin:
					fmt.Println("then a chord begins")
				case canvas.Send:
					fmt.Println("then send", e.Task.Name, "to", e.Queue.Name)
				case canvas.ChordSize:
					fmt.Println("then expect", e.N, "parts")
				}
			}
		}
	}
	// Output:
	// send reports.collect to celery with 1 to come
	// then a chord begins
	// then send images.resize to images
	// then expect 2 parts
	// then send reports.count to celery
}

// Mistakes in building come out when a signature is applied, with the part that has them.
func ExampleSignature_Err() {
	s := canvas.Chain(canvas.New("a"), canvas.New("b").Priority(1000))
	fmt.Println(s.Err())
	// Output: canvas: chain: part 1: canvas: b: priority 1000 is not between 0 and 255
}
