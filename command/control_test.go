package command

import (
	"io"
	"strings"
	"testing"
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
