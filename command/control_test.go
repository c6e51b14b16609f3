package command

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestRemoteControlSwitch(t *testing.T) {
	broker := "CELERY_BROKER_URL=redis://"
	for _, tt := range []struct {
		file          string
		env, args     []string
		off, readOnly bool
	}{
		{},
		{args: []string{"--remote-control", "full"}},
		{args: []string{"--remote-control", "read-only"}, readOnly: true},
		{args: []string{"--remote-control", "off"}, off: true},
		{env: []string{"STALK_REMOTE_CONTROL=read-only"}, readOnly: true},
		{file: "{worker_enable_remote_control: false}", off: true},
	} {
		cfg, _ := configure(t, tt.file, append(tt.env, broker), tt.args...)
		if cfg.Control.Off != tt.off || cfg.Control.ReadOnly != tt.readOnly {
			t.Errorf("%v %v %s: %+v", tt.env, tt.args, tt.file, cfg.Control)
		}
	}
}

func TestRemoteControlIsOneOfThree(t *testing.T) {
	var stderr strings.Builder
	args := []string{"stalk", "worker", "--demo", "--remote-control", "maybe"}
	code := run(t.Context(), Program{}, args, process{stdout: io.Discard, stderr: &stderr, environ: []string{"CELERY_BROKER_URL=redis://"}})
	if code == 0 || !strings.Contains(stderr.String(), `--remote-control "maybe": want full, read-only or off`) {
		t.Errorf("code %d, %s", code, stderr.String())
	}
}

func TestDeclaredQueuesAreThoseOfTheSettings(t *testing.T) {
	cfg, _ := configure(t, "{task_queues: {a: {exchange: x, routing_key: k}, b: {}}, task_default_queue: a}", []string{"CELERY_BROKER_URL=redis://"}, "-Q", "b")
	if len(cfg.Queues) != 1 || len(cfg.Declared) != 2 || cfg.Declared[0].Exchange != "x" || cfg.Declared[0].RoutingKey != "k" {
		t.Errorf("queues %+v, declared %+v", cfg.Queues, cfg.Declared)
	}
}

// TestTheMailboxFollowsTheSettings: control_exchange and control_queue_*; the mailbox that no restart of the broker
// ends is our own affair, but together with an exclusive one it is refused, as in Celery.
func TestTheMailboxFollowsTheSettings(t *testing.T) {
	cfg, _ := configure(t, "{control_exchange: mine, control_queue_ttl: 5, control_queue_expires: 90.5, control_queue_exclusive: false, control_queue_durable: true}",
		[]string{"CELERY_BROKER_URL=redis://"})
	if c := cfg.Control; c.Exchange != "mine" || c.TTL != 5*time.Second || c.Expires != 90500*time.Millisecond || c.Exclusive == nil || *c.Exclusive {
		t.Errorf("%+v", cfg.Control)
	}
	for _, exclusive := range []string{"", ", control_queue_exclusive: true"} {
		var stderr strings.Builder
		file := writeFile(t, "settings.yaml", "{control_queue_durable: true"+exclusive+"}")
		args := []string{"stalk", "--config", file, "worker", "--demo"}
		code := run(t.Context(), Program{}, args, process{stdout: io.Discard, stderr: &stderr, environ: []string{"CELERY_BROKER_URL=redis://"}})
		if code == 0 || !strings.Contains(stderr.String(), "control_queue_durable needs control_queue_exclusive: false") {
			t.Errorf("%q: code %d, %s", exclusive, code, stderr.String())
		}
	}
}
