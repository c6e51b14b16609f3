package metrics

import (
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"
)

// writeProcess writes the families of every Prometheus client about its process and about Go. Those of the process
// need Linux' /proc; elsewhere they are left out.
func writeProcess(t *text) {
	t.family("go_info", "gauge", "Information about the Go environment.")
	t.sample("go_info", 1, label{"version", runtime.Version()})
	t.gauge("go_goroutines", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	for _, m := range goMetrics {
		v := []metrics.Sample{{Name: m.source}}
		metrics.Read(v)
		if v[0].Value.Kind() == metrics.KindUint64 {
			t.family(m.name, m.kind, m.help)
			t.sample(m.name, float64(v[0].Value.Uint64()))
		}
	}
	writeProc(t)
}

var goMetrics = []struct{ name, kind, source, help string }{
	{"go_sched_gomaxprocs_threads", "gauge", "/sched/gomaxprocs:threads", "The current GOMAXPROCS."},
	{"go_gc_cycles_total", "counter", "/gc/cycles/total:gc-cycles", "Completed garbage collections."},
	{"go_memstats_heap_objects_bytes", "gauge", "/memory/classes/heap/objects:bytes", "Memory of live objects and of dead ones not yet collected."},
	{"go_memstats_alloc_bytes_total", "counter", "/gc/heap/allocs:bytes", "Memory allocated since the start, freed or not."},
	{"go_memstats_sys_bytes", "gauge", "/memory/classes/total:bytes", "Memory the Go runtime has mapped."},
	{"go_gc_gomemlimit_bytes", "gauge", "/gc/gomemlimit:bytes", "GOMEMLIMIT."},
}

// ticksPerSecond is Linux' USER_HZ, which is 100 on every architecture Go runs on.
const ticksPerSecond = 100

func writeProc(t *text) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return
	}
	// The name of the command, in parentheses, may hold anything; the fields after it are numbers. Field 3 of
	// proc(5) is fields[0] here.
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, '(')+1:], []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 22 {
		return
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(string(fields[i-3]), 64) //nolint:errcheck // the kernel writes numbers; 0 is harmless
		return n
	}
	t.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", (number(14)+number(15))/ticksPerSecond)
	t.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", number(23))
	t.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", number(24)*float64(os.Getpagesize()))
	t.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", float64(started.UnixMilli())/1e3)
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		t.gauge("process_open_fds", "Number of open file descriptors.", float64(len(files)-1)) // one was ours, to look
	}
	if soft, ok := maxFiles(); ok {
		t.gauge("process_max_fds", "Maximum number of open file descriptors.", soft)
	}
}

// started is near enough to the start of the process: it tells a restart from a reset.
var started = time.Now()

// maxFiles is the soft limit of open files.
func maxFiles() (float64, bool) {
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(limits) {
		if rest, ok := bytes.CutPrefix(line, []byte("Max open files")); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				n, err := strconv.ParseFloat(string(f[0]), 64)
				return n, err == nil
			}
		}
	}
	return 0, false
}
