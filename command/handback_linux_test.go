package command

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Only what is as it is in the file may be unmapped; anything else would come back as the file has it.
func TestHandingBackLeavesWhatWasWrittenTo(t *testing.T) {
	const smaps = `00400000-00cd7000 r-xp 00000000 fe:00 1051 /bin/stalk
Size:               9052 kB
Rss:                7896 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
00cd7000-015fe000 r--p 008d7000 fe:00 1051 /bin/stalk
Rss:                7512 kB
Anonymous:             4 kB
Swap:                  0 kB
015fe000-016d2000 rw-p 011fe000 fe:00 1051 /bin/stalk
Anonymous:             0 kB
Swap:                  0 kB
016d2000-0371d000 rw-p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 77 /lib/other
Anonymous:             0 kB
Swap:                  0 kB
7f0000002000-7f0000003000 r--p 00000000 fe:00 1051 /bin/stalk
Anonymous:             0 kB
Swap:                  0 kB
7f0000003000-7f0000004000 r-xp 00000000 fe:00 9 /bin/stalk (deleted)
Anonymous:             0 kB
Swap:                  0 kB
7f0000005000-7f0000006000 r--p 00000000 fe:00 1051 /bin/stalk
Anonymous:             0 kB
Swap:                  4 kB
7ffe7feb9000-7ffe7feda000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
Swap:                  0 kB
`
	got := unchanged(strings.NewReader(smaps), "/bin/stalk")
	if want := []span{{0x400000, 0xcd7000}, {0x7f0000002000, 0x7f0000003000}}; !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := unchanged(strings.NewReader("\n-\nx-y r-xp 0 0 0 /bin/stalk\nAnonymous: 0 kB\nSwap: 0 kB\n"), "/bin/stalk"); len(got) != 0 {
		t.Errorf("from nonsense: %x", got)
	}
}

func TestHandingBackMakesTheProcessSmaller(t *testing.T) {
	resident := func() (kB int) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Skip(err)
		}
		for line := range strings.Lines(string(status)) {
			if n, _ := fmt.Sscanf(line, "RssFile: %d", &kB); n == 1 {
				return kB
			}
		}
		t.Skip("this kernel does not tell")
		return 0
	}
	before := resident()
	handBack()
	if after := resident(); after >= before {
		t.Errorf("%d kB of the program are mapped, %d before", after, before)
	}
}
