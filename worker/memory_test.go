package worker

import (
	"regexp"
	"strings"
	"testing"
)

func TestHumanBytes(t *testing.T) {
	t.Parallel()
	// What celery.utils.debug.humanbytes prints.
	for n, want := range map[float64]string{0: "0b", 1: "1b", 1023: "1023b", 1024: "1KB", 1536: "1.5KB", 59826176: "57.055MB", 1 << 30: "1GB", 1234567890: "1.1498GB", 5 << 40: "5TB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("humanBytes(%v) = %s, want %s", n, got, want)
		}
	}
}

func TestMemoryIsSampledAndDumped(t *testing.T) {
	if _, ok := resident(); !ok {
		t.Skip("this system does not tell the resident memory")
	}
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, waiting())
		c := r.client()
		size := `[0-9.]+[KMG]B`
		for range 25 {
			if got := c.ask("memsample"); !regexp.MustCompile(`^"` + size + `"$`).MatchString(got) {
				t.Fatalf("memsample = %s", got)
			}
		}
		got := c.ask("memdump", arg("samples", int64(3)))
		if !regexp.MustCompile(`^"- rss \(sample\):\\n(-    > ` + size + `,\\n){10}- rss \(end\): ` + size + `\.\\n"$`).MatchString(got) {
			t.Errorf("memdump = %s", got)
		}
		if got := c.ask("memdump"); !strings.HasPrefix(got, `"- rss (end): `) {
			t.Errorf("the second memdump = %s", got)
		}
		c.want("objgraph", `{"error": "ImportError('Requires the objgraph library')"}`)
	})
}
