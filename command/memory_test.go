package command

import (
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
)

func TestMemoryOfTheContainer(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	meminfo := file("MemTotal:       16384 kB\nMemFree:        100 kB\n")
	for _, tt := range []struct {
		name      string
		root      fstest.MapFS
		container int64
		least     int64
	}{
		{"nothing is known", fstest.MapFS{}, 0, 0},
		{"no limit", fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/user.slice\n"), "sys/fs/cgroup/user.slice/memory.max": file("max\n")}, 0, 16 << 20},
		{"version 2", fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("8388608\n")}, 8 << 20, 8 << 20},
		{"the least of those above", fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/pod/box\n"), "sys/fs/cgroup/pod/memory.max": file("4194304"), "sys/fs/cgroup/pod/box/memory.max": file("8388608"),
		}, 4 << 20, 4 << 20},
		{"version 1, and its word for none", fstest.MapFS{
			"proc/self/cgroup": file("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": file("2097152\n"),
		}, 2 << 20, 2 << 20},
		{"version 1 in a container that sees its host's path", fstest.MapFS{
			"proc/self/cgroup": file("4:memory:/docker/abc\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("2097152\n"),
		}, 2 << 20, 2 << 20},
		{"more than there is", fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("83886080\n")}, 80 << 20, 16 << 20},
		{"garbage", fstest.MapFS{"proc/meminfo": file("MemTotal: x kB\n"), "proc/self/cgroup": file("0::../../..\n:::\n\n"), "sys/fs/cgroup/memory.max": file("-5\n")}, 0, 0},
	} {
		m := memoryOf(tt.root)
		if m.container != tt.container || m.least() != tt.least {
			t.Errorf("%s: %+v, least %d; want %d, least %d", tt.name, m, m.least(), tt.container, tt.least)
		}
	}
}

func TestMemoryBudget(t *testing.T) {
	m := memory{container: 1 << 30}
	for text, want := range map[string]int64{"": 768 << 20, "auto": 768 << 20, "none": 0, "0": 0, "512M": 512 << 20, "1.5GiB": 1536 << 20, "2g": 2 << 30, "4096": 4096, "64 KB": 64 << 10} {
		if got, err := m.budget(text); got != want || err != nil {
			t.Errorf("--memory-budget %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "much", "12X", "1e40", "NaN", "M", "2MM"} {
		if got, err := m.budget(text); err == nil || !strings.Contains(err.Error(), "--memory-budget") {
			t.Errorf("--memory-budget %q: %d, %v; want a refusal", text, got, err)
		}
	}
	if n := m.limitHeap(process{own: true, environ: []string{"GOMEMLIMIT=1GiB"}}); n != 0 {
		t.Errorf("GOMEMLIMIT is set, and %d is set over it", n)
	}
	if n := m.limitHeap(process{}); n != 0 {
		t.Errorf("the process is not ours, and its heap is limited to %d", n)
	}
}

func TestTheCollectorIsEasedUnlessTheUserSaysOtherwise(t *testing.T) {
	was := ballast
	defer func() { ballast = was }()
	ballast = nil
	easeCollector(process{})
	easeCollector(process{own: true, environ: []string{"GOGC=50"}})
	if ballast != nil {
		t.Error("it is eased where that is not ours to do")
	}
	next := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NextGC
	}
	before := next()
	easeCollector(process{own: true})
	if after := next(); after < before+ballastSize {
		t.Errorf("the next collection is at %d bytes, before it was at %d", after, before)
	}
}
