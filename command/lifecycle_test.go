package command

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/worker"
)

func TestTheLifecycleIsReadFromFlagsAndSettings(t *testing.T) {
	no := false
	plain := worker.Connection{Retries: 100}
	for _, tt := range []struct {
		name, args string
		env        []string
		want       worker.Config
		err        string
	}{
		{"nothing", "", nil, worker.Config{Connection: plain}, ""},
		{"a multiplier", "", []string{"CELERY_WORKER_PREFETCH_MULTIPLIER=2"}, worker.Config{Prefetch: 2, Connection: plain}, ""},
		{"0 is without limit as a setting, and nothing as a flag", "--prefetch-multiplier 0 worker_prefetch_multiplier=0", nil, worker.Config{Prefetch: -1, Connection: plain}, ""},
		{"the flag wins", "--prefetch-multiplier 3 worker_prefetch_multiplier=0", nil, worker.Config{Prefetch: 3, Connection: plain}, ""},
		{"no multiplier of less", "worker_prefetch_multiplier=-1", nil, worker.Config{}, "worker_prefetch_multiplier is -1"},
		{"no flag of less", "--prefetch-multiplier -1", nil, worker.Config{}, "--prefetch-multiplier -1"},
		{"no prefetch", "--disable-prefetch --prefetch-multiplier 3", nil, worker.Config{Prefetch: 1, Connection: plain}, ""},
		{"a limit for eta tasks", "worker_eta_task_limit=7", nil, worker.Config{ETALimit: 7, Connection: plain}, ""},
		{"a soft shutdown", "worker_soft_shutdown_timeout=2.5 worker_enable_soft_shutdown_on_idle=true", nil, worker.Config{SoftShutdown: 2500 * time.Millisecond, SoftShutdownOnIdle: true, Connection: plain}, ""},
		{"no retries", "broker_connection_retry=false broker_connection_retry_on_startup=false", nil, worker.Config{Connection: worker.Connection{NoRetry: true, RetryAtStart: &no, Retries: 100}}, ""},
		{"null is as the other", "broker_connection_retry=false broker_connection_retry_on_startup=null", nil, worker.Config{Connection: worker.Connection{NoRetry: true, Retries: 100}}, ""},
		{"0 retries are without end", "broker_connection_max_retries=0", nil, worker.Config{Connection: worker.Connection{Retries: -1}}, ""},
		{"so is null", "broker_connection_max_retries=null", nil, worker.Config{Connection: worker.Connection{Retries: -1}}, ""},
		{"refusals and lost messages", "broker_channel_error_retry=false worker_cancel_long_running_tasks_on_connection_loss=true", nil, worker.Config{Connection: worker.Connection{Retries: 100, FailRefused: true, CancelLost: true}}, ""},
		{"a long timeout", "broker_connection_timeout=30", nil, worker.Config{Connection: worker.Connection{Retries: 100, Timeout: 30 * time.Second}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got worker.Config
			program := &cli.Command{Flags: append(workerFlags(), globalFlags()...), Action: func(c *cli.Context) error {
				s, _, err := prepare(c, tt.env)
				if err != nil {
					return err
				}
				return lifecycle(c, s, &got)
			}}
			err := commandLine{}.run(t.Context(), program, nil, strings.Fields(tt.args))
			switch {
			case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want %q", err, tt.err)
			case tt.err == "":
				if diff := cmp.Diff(tt.want.Connection, got.Connection); diff != "" {
					t.Error(diff)
				}
				if got.Prefetch != tt.want.Prefetch || got.ETALimit != tt.want.ETALimit || got.SoftShutdown != tt.want.SoftShutdown || got.SoftShutdownOnIdle != tt.want.SoftShutdownOnIdle {
					t.Errorf("prefetch %d, limit %d, soft %v %v", got.Prefetch, got.ETALimit, got.SoftShutdown, got.SoftShutdownOnIdle)
				}
			}
		})
	}
}
