package command

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// memory is what a machine tells of the memory that a process may use, in bytes; 0: not known, or no limit.
type memory struct {
	container int64 // the least limit of the control groups that the process is in
	machine   int64 // what is built in
}

// memoryOf reads Linux's files below root; elsewhere there are none, and nothing is known.
func memoryOf(root fs.FS) memory {
	var m memory
	least := func(file string) {
		if n, ok := bytesIn(root, file); ok && (m.container == 0 || n < m.container) {
			m.container = n
		}
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path; inside a container the path may be that of the host, which is not there: then the
		// files at the top are the container's own.
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for p := path.Clean("/" + part[2]); ; p = path.Dir(p) {
			switch {
			case part[0] == "0" && part[1] == "":
				least(path.Join("sys/fs/cgroup", p, "memory.max"))
				least(path.Join("sys/fs/cgroup/unified", p, "memory.max"))
			case part[1] == "memory":
				least(path.Join("sys/fs/cgroup/memory", p, "memory.limit_in_bytes"))
			}
			if p == "/" {
				break
			}
		}
	}
	info, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			n, _ := strconv.ParseInt(f[1], 10, 54)
			m.machine = n << 10
		}
	}
	return m
}

// bytesIn reads one limit; "max", and version 1's number for it, are none.
func bytesIn(root fs.FS, file string) (int64, bool) {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil && n > 0 && n < 1<<60
}

// least is what the process can have at most; 0: not known.
func (m memory) least() int64 {
	if m.container > 0 && (m.machine == 0 || m.container < m.machine) {
		return m.container
	}
	return m.machine
}

// budget is --memory-budget: a size, none, or auto, which leaves a quarter of what there is to everything else.
func (m memory) budget(text string) (int64, error) {
	switch text {
	case "", "auto":
		return m.least() / 4 * 3, nil
	case "none", "0":
		return 0, nil
	}
	n, err := parseSize(text)
	if err != nil {
		return 0, fmt.Errorf("--memory-budget %w, none, or auto", err)
	}
	return n, nil
}

// limitHeap lets Go's collector work harder rather than pass the container's limit, unless GOMEMLIMIT says otherwise. It returns the
// limit that it set; 0: none.
func (m memory) limitHeap(p process) int64 {
	if !p.own || p.env("GOMEMLIMIT") != "" || m.container == 0 {
		return 0
	}
	n := m.container / 10 * 9
	debug.SetMemoryLimit(n)
	return n
}

// ballast makes the heap look larger than it is. Nothing is ever written there, so it takes no memory, only addresses.
var ballast []byte

const ballastSize = 4 << 20

// easeCollector has Go collect half as often, unless GOGC says otherwise. A worker keeps two megabytes and goes through two hundred
// a second when tasks are small: at Go's own measure it looked through the stacks of all its goroutines fifty times a second. A
// larger GOGC would do the same, but give a heap of hundreds of megabytes hundreds more.
func easeCollector(p process) {
	if p.own && p.env("GOGC") == "" && ballast == nil {
		ballast = make([]byte, ballastSize)
	}
}

// parseSize reads a number of bytes such as 512M or 2GiB. Units are powers of 1024.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "KMGTkmgtiBb")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text[len(number):]), "B"), "I")
	shift, known := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[unit]
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !known || !(f > 0) || f*math.Pow(2, float64(shift)) >= 1<<62 {
		return 0, fmt.Errorf("%q: want a size such as 512M or 2G", text)
	}
	return int64(f * math.Pow(2, float64(shift))), nil
}

func megabytes(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }
