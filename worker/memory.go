package worker

import (
	"bytes"
	"context"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/stalkworker/stalk/protocol"
)

// memory keeps the samples of `inspect memsample` for memdump.
type memory struct {
	mu      sync.Mutex
	samples []string // oldest first
}

// samplesMax bounds them; Celery has no bound.
const samplesMax = 1000

// memsample is the resident memory in words, null where it cannot be known.
func memsample(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	size, ok := resident()
	if !ok {
		return nil, nil
	}
	n.memory.mu.Lock()
	defer n.memory.mu.Unlock()
	if len(n.memory.samples) == samplesMax {
		n.memory.samples = n.memory.samples[1:]
	}
	n.memory.samples = append(n.memory.samples, size)
	return size, nil
}

// memdump lists ten of the samples since the last dump, and what memory is left in use. As in Celery the argument
// samples changes nothing.
func memdump(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	return n.memory.dump(), nil
}

func (m *memory) dump() string {
	const most = 10
	m.mu.Lock()
	all := m.samples
	m.samples = nil
	m.mu.Unlock()
	shown := all
	if len(all) > most {
		shown = nil
		for i := range most {
			shown = append(shown, all[i*(len(all)/most)])
		}
	}
	debug.FreeOSMemory()
	end, ok := resident()
	if !ok {
		return "- rss: (psutil not installed).\n"
	}
	var b strings.Builder
	if len(shown) > 0 {
		b.WriteString("- rss (sample):\n")
		for _, s := range shown {
			b.WriteString("-    > " + s + ",\n")
		}
	}
	b.WriteString("- rss (end): " + end + ".\n")
	return b.String()
}

// resident is the resident set of this process; false where the system does not tell it this way.
func resident() (string, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return "", false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return "", false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return "", false
	}
	return humanBytes(float64(pages) * float64(os.Getpagesize())), true
}

// humanBytes is celery.utils.debug.humanbytes: "57.055MB".
func humanBytes(n float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 40, "TB"}, {1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "KB"}, {1, "b"}} {
		if n < u.size && u.size > 1 {
			continue
		}
		f := n / u.size
		if f == math.Trunc(f) {
			return strconv.FormatInt(int64(f), 10) + u.name
		}
		return strconv.FormatFloat(f, 'g', 5, 64) + u.name
	}
	return "0b"
}

// objgraph draws Python objects; there are none.
func objgraph(context.Context, *Node, *protocol.Object) (any, error) {
	return nil, protocol.NewException("ImportError", "Requires the objgraph library")
}
