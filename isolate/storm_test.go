package isolate

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// TestAStormOfCrashes: children end in every way at once, beside tasks that do not; each run ends as its own child did,
// and afterwards there is no process, file or goroutine of theirs. Not parallel: it counts them.
func TestAStormOfCrashes(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(entries)
	}
	rounds := 12
	if os.Getenv("STALK_LONG") != "" {
		rounds = 250
	}
	before := files()
	b := newBench(t, Config{Slots: func() int { return 4 }, MaxTasks: 3})
	b.host.heard = nil
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range rounds {
				l := b.pool.Leash()
				if _, err := l.Acquire(t.Context()); err != nil {
					t.Error(err)
					return
				}
				ctx := l.Context(t.Context())
				name, want := "pid", ""
				switch i % 6 {
				case 0:
					name, want = "exit", "exitcode 3"
				case 1:
					name, want = "kill", "signal 9 (SIGKILL)"
				case 2:
					name, want = "deaf", "signal 9 (SIGKILL)"
					time.AfterFunc(time.Duration(i)*time.Millisecond, func() { l.Kill() })
				case 3:
					name, want = "deaf", "signal "
					time.AfterFunc(time.Duration(i)*time.Millisecond, func() { l.Terminate(int(syscall.SIGTERM)) })
				}
				_, err := b.call(ctx, name)
				l.Release()
				var lost *LostError
				switch killed := errors.Is(err, handlers.ErrTerminated); {
				case want == "" && err != nil, want != "" && !killed && (!errors.As(err, &lost) || !strings.HasPrefix(lost.Status, want)):
					t.Errorf("%s: %v, want %q", name, err, want)
				case killed && name != "deaf":
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := b.call(t.Context(), "echo", protocol.Value("x")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	b.pool.Close()
	eventually(t, fmt.Sprintf("no more open files than %d", before), func() bool { return files() <= before })
	eventually(t, "no goroutine of a child", func() bool {
		buf := make([]byte, 1<<20)
		return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "isolate.(*child)")
	})
}
