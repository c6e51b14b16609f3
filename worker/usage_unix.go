//go:build unix

package worker

import (
	"syscall"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// usage is getrusage of this process, with Python's names.
func usage() protocol.Value {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return "N/A"
	}
	cpu := func(t syscall.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }
	out := protocol.ObjectOf(protocol.Member{Key: "utime", Value: cpu(u.Utime)}, protocol.Member{Key: "stime", Value: cpu(u.Stime)})
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"maxrss", int64(u.Maxrss)},
		{"ixrss", int64(u.Ixrss)},
		{"idrss", int64(u.Idrss)},
		{"isrss", int64(u.Isrss)},
		{"minflt", int64(u.Minflt)},
		{"majflt", int64(u.Majflt)},
		{"nswap", int64(u.Nswap)},
		{"inblock", int64(u.Inblock)},
		{"oublock", int64(u.Oublock)},
		{"msgsnd", int64(u.Msgsnd)},
		{"msgrcv", int64(u.Msgrcv)},
		{"nsignals", int64(u.Nsignals)},
		{"nvcsw", int64(u.Nvcsw)},
		{"nivcsw", int64(u.Nivcsw)},
	} {
		out.Set(f.name, f.value)
	}
	return out
}
