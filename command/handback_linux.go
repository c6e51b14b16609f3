package command

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// handBack takes the pages of the program's file, code and constants, out of the process's memory: a start maps 15 MB of them, and a
// worker that waits needs five. What is needed again comes back from the system's page cache, in less than a millisecond in all.
func handBack() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer smaps.Close()
	for _, s := range unchanged(smaps, exe) {
		// An error means that they stay, as if nothing was asked.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, s.start, s.end-s.start, syscall.MADV_DONTNEED)
	}
}

// span is a range of addresses.
type span struct{ start, end uintptr }

// unchanged are the mappings of the file that cannot be written to and hold what the file holds. Pages of others would be lost: a
// debugger may have written to code, and the loader to the constants of a program that can stand at any address.
func unchanged(smaps io.Reader, file string) []span {
	var out []span
	var current span // nothing: it is another file's, or can be written to
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 6 && slices.Contains([]string{"r-xp", "r--p"}, fields[1]) && fields[5] == file:
			from, to, _ := strings.Cut(fields[0], "-")
			start, err1 := strconv.ParseUint(from, 16, strconv.IntSize)
			end, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
			if err1 == nil && err2 == nil && start < end {
				current = span{uintptr(start), uintptr(end)}
			}
		case len(fields) > 0 && !strings.HasSuffix(fields[0], ":"): // another mapping
			current = span{}
		case len(fields) > 1 && fields[0] == "Anonymous:" && fields[1] != "0":
			current = span{}
		case len(fields) > 1 && fields[0] == "Swap:": // changed pages that are not in memory; comes after Anonymous
			if fields[1] == "0" && current != (span{}) {
				out = append(out, current)
			}
			current = span{}
		}
	}
	return out
}
