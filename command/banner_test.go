package command

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/worker"
)

// The banner is that of Celery 5.7.0 for the same worker, but for who and where.
func TestBannerIsCelerys(t *testing.T) {
	const celery = ` 
 -------------- w1@web1 v5.7.0 (collider)
--- ***** ----- 
-- ******* ---- Linux-6.1-x86_64-with-glibc2.36 2026-11-21 06:41:06
- *** --- * --- 
- ** ---------- [config]
- ** ---------- .> app:         proj:0x7f06a241d1d0
- ** ---------- .> transport:   amqp://guest:**@127.0.0.1:5672//
- ** ---------- .> results:     redis://:**@127.0.0.1:6379/1
- *** --- * --- .> concurrency: {min=1, max=4} (prefork)
-- ******* ---- .> task events: ON
--- ***** ----- 
 -------------- [queues]
                .> celery           exchange=celery(direct) key=celery
                .> mail             exchange=post(topic) key=mail.#
                

[tasks]
  . demo.add
`
	cfg, _ := configure(t, "{task_queues: [celery, {name: mail, exchange: post, exchange_type: topic, routing_key: 'mail.#'}]}", nil,
		"-b", "amqp://guest:secret@127.0.0.1//", "--result-backend", "redis://:secret@127.0.0.1:6379/1", "-n", "w1@web1", "--autoscale", "1,4", "-E")
	print := func(cfg worker.Config, tasks bool) string {
		var out bytes.Buffer
		banner(&out, cfg, tasks, time.Date(2026, 11, 21, 6, 41, 6, 0, time.Local))
		return out.String()
	}
	ours := print(cfg, true)
	ours = regexp.MustCompile(`v[0-9.]+ \(stalk\)`).ReplaceAllString(ours, "v5.7.0 (collider)")
	ours = regexp.MustCompile(`(linux|darwin)-\S+ `).ReplaceAllString(ours, "Linux-6.1-x86_64-with-glibc2.36 ")
	ours = strings.NewReplacer("stalk\n", "proj:0x7f06a241d1d0\n", "goroutines", "prefork").Replace(ours)
	trim := func(text string) []string {
		var lines []string
		for line := range strings.Lines(text) {
			if line = strings.TrimRight(line, " \n"); line != "" {
				lines = append(lines, line)
			}
			if line == "  . demo.add" {
				break
			}
		}
		return lines
	}
	if d := cmp.Diff(trim(celery), trim(ours)); d != "" {
		t.Errorf("(-celery +ours)\n%s", d)
	}
	cfg.Autoscale, cfg.Events.Tasks, cfg.Concurrency = worker.Autoscale{}, false, 2
	quiet := print(cfg, false)
	for _, want := range []string{".> concurrency: 2 (goroutines)\n", ".> task events: OFF (enable -E to monitor tasks in this worker)\n"} {
		if !strings.Contains(quiet, want) {
			t.Errorf("no %q in\n%s", want, quiet)
		}
	}
	if strings.Contains(quiet, "[tasks]") || strings.Contains(quiet+ours, "secret") {
		t.Errorf("it tells too much:\n%s", quiet)
	}
}
