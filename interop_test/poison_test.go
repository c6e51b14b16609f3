package interop_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMalformedMessagesHarmNobody: hundreds of malformed messages on each broker (pyfixtures/poison.py), a good task
// after each through the same queue. Every good task is answered. Every malformed message is kept whole in quarantine, or
// its caller is told how it ended: which, for each, stands in pyfixtures/poison.tsv. Nothing panics, nothing goes round, memory
// stays bounded. POISON_WRITE=1 writes the table anew.
func TestMalformedMessagesHarmNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("several of these messages end a Python worker")
		}
		s = s.with("accept_content", []string{"json", "msgpack", "yaml"})
		queue := unique("poison")
		w := s.startProgram(t, plain(t), queue, "-c", "4")
		w.waitReady()
		p := s.python(t, queue)
		p.run(`
			import sys
			if FIXTURES not in sys.path:
			    sys.path.insert(0, FIXTURES)
			import poison
			attack = poison.Attack(app, BROKER, Q, RUN)
		`, map[string]any{"FIXTURES": filepath.Join(root, "pyfixtures"), "BROKER": s.broker, "RUN": unique("p")})
		began := time.Now()
		var sent int
		p.value(`value = attack.everything()`, &sent)
		if s.name == "redis" { // a list of the queue's that is none; Kombu itself cannot send beside it
			p.run(`app.backend.client.set(Q + "\x06\x166", "no list")`)
		}
		p.runFor(6*time.Minute, `attack.answers(300)`)
		if s.name == "redis" {
			p.run(`app.backend.client.delete(Q + "\x06\x166")`)
		}
		// What the last messages cause besides is settled beside the good tasks.
		p.run(`
			wait(lambda: left(Q) == 0, 60)
			wait(lambda: app.control.inspect(destination=[NODE], timeout=60).active()[NODE] == [], 60)
			assert app.send_task("diff.add", (2, 3), queue=Q).get(timeout=60) == 5
		`, map[string]any{"NODE": w.name + "@test"})
		t.Logf("%d malformed messages and their good tasks took %v", sent, time.Since(began).Round(100*time.Millisecond))
		if sent < 800 {
			t.Errorf("%d malformed messages were sent, want 800", sent)
		}
		peak := w.peakMemory()
		t.Logf("the worker took %d MiB at most", peak>>20)
		if peak > 700<<20 {
			t.Errorf("the worker took %d MiB", peak>>20)
		}
		w.stop()
		var got struct {
			Outcomes map[string]string
			Strange  []string
			Refused  []string
		}
		p.value(`value = attack.outcomes()`, &got)
		for _, m := range got.Strange {
			t.Errorf("in quarantine, and not as it was sent: %s", m)
		}
		t.Logf("the client or the broker refused %d: %.1000q", len(got.Refused), got.Refused)
		compareOutcomes(t, s.name, got.Outcomes)
		log := string(w.output())
		for _, word := range []string{"panic:", "goroutine ", "fatal error"} {
			if strings.Contains(log, word) {
				t.Errorf("the worker's log has %q", word)
			}
		}
		if s.name == "redis" {
			p.run(`
				client = app.backend.client
				held = [v for v in client.hvals("unacked") if Q.encode() in v]
				assert not held, held
				client.delete(Q, Q + ".quarantine")
			`)
		}
	})
}

// poisonTable is pyfixtures/poison.tsv: name, outcome on Redis, outcome on RabbitMQ; two of them with a bar between them
// where versions of the broker differ. RabbitMQ 4 writes headers anew, and keeps one of two with the same name.
const poisonTable = "pyfixtures/poison.tsv"

func compareOutcomes(t *testing.T, broker string, got map[string]string) {
	t.Helper()
	column := slices.Index([]string{"redis", "rabbitmq"}, broker)
	path := filepath.Join(root, poisonTable)
	want := map[string][2]string{}
	f, err := os.Open(path)
	if err == nil {
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if parts := strings.Split(lines.Text(), "\t"); len(parts) == 3 {
				want[parts[0]] = [2]string{parts[1], parts[2]}
			}
		}
		f.Close()
	}
	counts := map[string]int{}
	for name, outcome := range got {
		counts[outcome]++
		if outcome == "-" && !strings.HasPrefix(name, "header ignore_result") { // who ignores the result is told nothing
			t.Errorf("%s: neither kept nor told", name)
		}
		// Another version of the client may be able to send what the one could not that wrote the table.
		if known := want[name][column]; os.Getenv("POISON_WRITE") == "" && known != "" && !slices.Contains(strings.Split(known, "|"), outcome) {
			t.Errorf("%s: %s, want %q", name, outcome, want[name][column])
		}
	}
	text, err := json.Marshal(counts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("outcomes: %s", text)
	if os.Getenv("POISON_WRITE") == "" {
		return
	}
	for name, outcome := range got {
		row := want[name]
		if !slices.Contains(strings.Split(row[column], "|"), outcome) {
			row[column] = outcome
		}
		want[name] = row
	}
	var rows []string
	for name, row := range want {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\n", name, row[0], row[1]))
	}
	slices.Sort(rows)
	if err := os.WriteFile(path, []byte(strings.Join(rows, "")), 0o644); err != nil {
		t.Fatal(err)
	}
}
