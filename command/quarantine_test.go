package command

import (
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// setAside puts messages into the quarantine of the queue "q", as a worker would: three tasks and what no worker
// could read.
func setAside(t *testing.T, url string) {
	t.Helper()
	b, err := dial.Broker(url, dial.BrokerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := b.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var ms []protocol.Message
	for _, id := range []string{"one", "two", "three"} {
		task := protocol.Task{ID: id, Name: "hello", Args: []protocol.Value{id}, Kwargs: &protocol.Object{}}
		m, err := task.Encode(protocol.Encoding{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	ms[2].Body = []byte("\x80\x02}q\x00.")
	ms[2].Properties.ContentType = "application/x-python-serialize"
	for _, m := range ms {
		if err := conn.Publish(t.Context(), transports.Publishing{RoutingKey: "q.quarantine", Message: m}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuarantineFromTheCommandLine(t *testing.T) {
	s := startDemo(t)
	setAside(t, s.url)
	listed := func(n string) {
		t.Helper()
		wantRun(t, s.url, "quarantine list -j -Q q", 0, `{"queues": [{"messages": `+n+`, "quarantine": "q.quarantine", "queue": "q"}]}`+"\n", "")
	}
	wantRun(t, s.url, "quarantine list -Q q,celery", 0,
		"Queue                        Quarantine                   Messages\n"+
			"----------------             ----------------             ----------------\n"+
			"q                            q.quarantine                 3\n"+
			"celery                       celery.quarantine            0\n", "")

	code, out, errs := stalk(t, s.url, "quarantine show -Q q")
	for _, want := range []string{
		"* one hello [q]\n    reason: not in the message; the worker's log of the time says why\n    deliveries: 0, redelivered: False\n    args: ('one',) kwargs: {}\n    headers: {'lang': ",
		"* three hello [q]\n    reason: protocol: ", "application/x-python-serialize", `b'\x80\x02}q\x00.'`,
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("show: code %d, %s; no %q in\n%s", code, errs, want, out)
		}
	}
	code, out, _ = stalk(t, s.url, "quarantine show -Q q -j two")
	v, err := protocol.ParseJSON([]byte(strings.TrimSpace(out)), protocol.Limits{})
	if err != nil || code != 0 {
		t.Fatalf("show -j: code %d, %v\n%s", code, err, out)
	}
	shown, _ := v.(*protocol.Object).Get("messages")
	if list := shown.([]protocol.Value); len(list) != 1 {
		t.Errorf("show two shows %d messages", len(list))
	} else {
		var keys []string
		for _, m := range list[0].(*protocol.Object).Members() {
			keys = append(keys, m.Key)
		}
		if got := strings.Join(keys, " "); got != "queue id name reason deliveries redelivered content_type args kwargs headers size body" {
			t.Errorf("the keys are %s", got)
		}
	}
	if _, out, _ = stalk(t, s.url, "quarantine show -Q q -n 1"); strings.Count(out, "* ") != 1 {
		t.Errorf("show -n 1 prints\n%s", out)
	}
	listed("3") // all still there

	wantRun(t, s.url, "quarantine replay -Q q two", 0, "Replayed 1 message.\n", "")
	listed("2")
	wantRun(t, s.url, "quarantine replay -Q q two", 1, "", "Error: no message of that id is in quarantine\n")
	wantRun(t, s.url, "quarantine show -Q q two", 1, "", "Error: no message of that id is in quarantine\n")
	wantRun(t, s.url, "purge -f -Q q", 0, "Purged 1 message from 1 known task queue.\n", "") // it came back to q

	code, out, errs = stalk(t, s.url, "quarantine drop -Q q three")
	if code != 1 || !strings.HasPrefix(out, "WARNING: this deletes messages from the quarantine of q: three.") || errs != "Aborted!\n" {
		t.Errorf("drop without an answer: code %d, %q %q", code, out, errs)
	}
	listed("2")
	wantRun(t, s.url, "quarantine drop -f -Q q three", 0, "Dropped 1 message.\n", "")
	listed("1")
	wantRun(t, s.url, "quarantine replay --all -j -Q q,celery", 0, `{"messages": 1, "queues": [{"messages": 1, "queue": "q"}]}`+"\n", "")
	listed("0")
	wantRun(t, s.url, "quarantine replay --all -j -Q q", 0, `{"messages": 0, "queues": []}`+"\n", "")
	wantRun(t, s.url, "quarantine show -Q q", 0, "- empty -\n", "")

	for _, tt := range []struct{ line, want string }{
		{"quarantine replay", "replay: name the ids of messages, or give --all"},
		{"quarantine drop --all x", "drop: name the ids of messages, or give --all"},
		{"quarantine list x", "choose queues with -Q"},
		{"quarantine show -n 0", "--limit 0: want 1 to 100000"},
	} {
		if code, _, errs := stalk(t, s.url, tt.line); code != 2 || !strings.Contains(errs, tt.want) {
			t.Errorf("stalk %s: code %d, %q; want 2 and %q", tt.line, code, errs, tt.want)
		}
	}
}

// A poisoned message that was mended is tried again: the worker takes it from its own queue.
func TestAReplayedTaskRuns(t *testing.T) {
	s := startDemo(t)
	setAside(t, s.url)
	wantRun(t, s.url, "quarantine replay -Q q --all", 0, "Replayed 3 messages.\n", "")
	wantRun(t, s.url, "control add_consumer q -t 0.3", 0, "->  demo@localhost: OK\n        add consumer q\n", "")
	wantRun(t, s.url, "result --timeout 20 one", 0, "hello one\n", "")
	wantRun(t, s.url, "result --timeout 20 two", 0, "hello two\n", "")
	// What is still broken is set aside again, and not lost.
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, out, _ := stalk(t, s.url, "quarantine list -j -Q q")
		if strings.Contains(out, `"messages": 1,`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the unreadable message is not back in quarantine: %s", out)
		}
	}
}
