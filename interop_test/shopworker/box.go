package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
)

type boxed struct {
	How  string `json:"how"`
	Path string `json:"path,omitzero"`
}

// boxTasks are isolated: each does to its process what no worker survives.
func boxTasks() []handlers.Handler {
	yes, one := true, 1
	return []handlers.Handler{
		handlers.Func("shop.box", box).With(handlers.Options{Isolate: true, MemoryCap: 400 << 20}),
		handlers.Func("shop.box.requeued", box).With(handlers.Options{Isolate: true, RejectOnLost: &yes}),
		handlers.Func("shop.box.retried", box).With(handlers.Options{Isolate: true, RetryOnLost: &yes, Retry: handlers.RetryPolicy{Delay: time.Second, Max: &one}}),
	}
}

func box(ctx context.Context, in boxed) (any, error) {
	if in.Path != "" { // only the first time
		if _, err := os.Stat(in.Path); err == nil {
			return "second", nil
		}
		if err := os.WriteFile(in.Path, nil, 0o600); err != nil {
			return nil, err
		}
	}
	switch in.How {
	case "exit":
		os.Exit(3)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "deaf":
		if err := handlers.Progress(ctx, os.Getpid()); err != nil {
			return nil, err
		}
		for {
			time.Sleep(time.Hour)
		}
	case "nap": // to its end, whatever its context says
		if err := handlers.Progress(ctx, os.Getpid()); err != nil {
			return nil, err
		}
		time.Sleep(3 * time.Second)
	case "map":
		m := map[int]int{}
		for range 4 {
			go func() {
				for i := 0; ; i++ {
					m[i%2] = i
				}
			}()
		}
		select {}
	case "overflow":
		return overflow(0), nil
	case "memory":
		var all [][]byte
		for len(all) < 512 {
			b := make([]byte, 8<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		return len(all), nil
	case "progress":
		for i := range 3 {
			if err := handlers.Progress(ctx, map[string]any{"done": i}); err != nil {
				return nil, err
			}
		}
	case "spawn":
		i, _ := handlers.InfoFrom(ctx)
		sent, err := handlers.Spawn(ctx, canvas.New("demo.add", 20, 22).Queue(i.RoutingKey))
		return sent.ID, err
	case "retry":
		if i, _ := handlers.InfoFrom(ctx); i.Retries < 2 {
			return nil, handlers.Retry(fmt.Errorf("not yet"), 0)
		}
		return "third", nil
	case "soft":
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return in.How, nil
}

//lint:ignore SA5007 that is the fault
func overflow(n int) int { return overflow(n+1) + 1 }
