package command

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/handlers/demo"
	"github.com/stalkworker/stalk/worker"
)

// configure is the Config that a command line, an environment and the text of a settings file make.
func configure(t *testing.T, file string, environ []string, args ...string) (cfg worker.Config, notes []string) {
	t.Helper()
	if file != "" {
		args = append([]string{"--config", writeFile(t, "settings.yaml", file)}, args...)
	}
	ran := false
	program := &cli.Command{
		Name: "stalk", Flags: globalFlags(),
		Subcommands: []*cli.Command{{Name: "worker", Flags: append(workerFlags(), globalFlags()...), Action: func(c *cli.Context) error {
			ran = true
			s, more, err := prepare(c, environ)
			if err != nil {
				return err
			}
			reg, err := Program{Handlers: demo.Handlers()}.registry(choice{})
			if err != nil {
				return err
			}
			notes = more
			cfg, err = workerConfig(c, s, reg, newLog(&bytes.Buffer{}, 0))
			return err
		}}},
	}
	if err := (commandLine{}).run(t.Context(), program, nil, append([]string{"worker"}, args...)); err != nil || !ran {
		t.Fatalf("worker %q: %v", args, err)
	}
	return cfg, notes
}

// A command line wins over the environment, the environment over the file, the file over the default.
func TestPrecedence(t *testing.T) {
	file := "{broker_url: 'redis://file/1', result_backend: 'redis://file/2', worker_concurrency: 2, worker_prefetch_multiplier: 2, task_default_queue: file}"
	env := []string{
		"CELERY_BROKER_URL=redis://env/1", "CELERY_RESULT_BACKEND=redis://env/2", "CELERY_WORKER_CONCURRENCY=3", "CELERY_WORKER_QUEUES=a, b",
		"CELERY_WORKER_HOSTNAME=w9@env", "CELERY_WORKER_PREFETCH_MULTIPLIER=3", "CELERY_WORKER_SOFT_TIME_LIMIT=1.5", "CELERY_WORKER_TASK_EVENTS=yes", "STALK_GRACE=7",
	}
	type shown struct {
		broker, results, queues, node string
		concurrency, prefetch         int
		soft, grace                   time.Duration
		events                        bool
	}
	show := func(cfg worker.Config) shown {
		var queues []string
		for _, q := range cfg.Queues {
			queues = append(queues, q.Name)
		}
		return shown{
			broker: cfg.Transport.String(), results: cfg.Results.String(), queues: strings.Join(queues, " "), node: cfg.Node,
			concurrency: cfg.Concurrency, prefetch: cfg.Prefetch, soft: cfg.SoftLimit, grace: cfg.Grace, events: cfg.Events.Tasks,
		}
	}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want shown
	}{
		{
			"file", nil,
			[]string{"-n", "x@y"},
			shown{broker: "redis://:**@file:6379/1", results: "redis://file:6379/2", queues: "file", node: "x@y", concurrency: 2, prefetch: 2, grace: -1},
		},
		{
			"environment", env, nil,
			shown{broker: "redis://:**@env:6379/1", results: "redis://env:6379/2", queues: "a b", node: "w9@env", concurrency: 3, prefetch: 3, soft: 1500 * time.Millisecond, grace: 7 * time.Second, events: true},
		},
		{
			"command line", env,
			[]string{"-b", "redis://line/1", "--result-backend", "redis://line/2", "-c", "4", "-Q", "c", "-n", "w1@line", "--prefetch-multiplier", "4", "--soft-time-limit", "2", "--grace", "8"},
			shown{broker: "redis://:**@line:6379/1", results: "redis://line:6379/2", queues: "c", node: "w1@line", concurrency: 4, prefetch: 4, soft: 2 * time.Second, grace: 8 * time.Second, events: true},
		},
		{
			"key=value", env,
			[]string{"-n", "x@y", "-Q", "d", "task_soft_time_limit=9", ".prefetch_multiplier=6", "result_backend=redis://kv/2"},
			shown{broker: "redis://:**@env:6379/1", results: "redis://kv:6379/2", queues: "d", node: "x@y", concurrency: 3, prefetch: 3, soft: 1500 * time.Millisecond, grace: 7 * time.Second, events: true},
		},
		{
			"names without prefix win over prefixed ones", append([]string{"BROKER_URL=redis://bare/1", "RESULT_BACKEND=redis://bare/2", "CELERY_BROKER=redis://option/1"}, env...),
			[]string{"-n", "x@y", "-Q", "d"},
			shown{broker: "redis://:**@bare:6379/1", results: "redis://bare:6379/2", queues: "d", node: "x@y", concurrency: 3, prefetch: 3, soft: 1500 * time.Millisecond, grace: 7 * time.Second, events: true},
		},
		{
			"the URL to read from wins over that of both", append([]string{"CELERY_BROKER_READ_URL=redis://read/1", "CELERY_BROKER_WRITE_URL=redis://read/1"}, env...),
			[]string{"-n", "x@y", "-Q", "d"},
			shown{broker: "redis://:**@read:6379/1", results: "redis://env:6379/2", queues: "d", node: "x@y", concurrency: 3, prefetch: 3, soft: 1500 * time.Millisecond, grace: 7 * time.Second, events: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, notes := configure(t, file, tt.env, tt.args...)
			if got := show(cfg); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if len(notes) > 0 {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

// A variable that is a setting and an option at once has one meaning.
func TestVariableThatIsSettingAndOption(t *testing.T) {
	for text, want := range map[string]int{"7": 7, "auto": cpus(), "0": cpus()} {
		if cfg, _ := configure(t, "", []string{"CELERY_BROKER_URL=redis://", "CELERY_WORKER_CONCURRENCY=" + text}); cfg.Concurrency != want {
			t.Errorf("CELERY_WORKER_CONCURRENCY=%s: %d slots, want %d", text, cfg.Concurrency, want)
		}
	}
	cfg, notes := configure(t, "", []string{"CELERY_BROKER_URL=redis://", "CELERY_WORKER_POOL=prefork", "CELERY_WORKER_DISABLE_PREFETCH=1"})
	if cfg.Prefetch != 1 || len(notes) != 1 || notes[0] != "--pool has no effect: tasks run as goroutines" {
		t.Errorf("prefetch %d, notes %q", cfg.Prefetch, notes)
	}
}

func TestFlagsOfCeleryHaveAMeaningOrALine(t *testing.T) {
	cfg, notes := configure(t, "{task_send_sent_event: true, event_exchange: ev, event_serializer: msgpack}", []string{"CELERY_BROKER_URL=redis://", "CELERY_CONFIG_MODULE=proj.celeryconfig"},
		"-E", "--without-gossip", "--without-mingle", "--without-heartbeat", "--heartbeat-interval", "5", "-P", "solo", "--pool-start-method", "spawn", "-O", "fair",
		"--max-tasks-per-child", "5", "--max-memory-per-child", "5", "-I", "a,b", "-s", "f", "--scheduler", "x", "--executable", "y", "-A", "proj", "--loader", "x", "--skip-checks", "-C")
	e := cfg.Events
	if !e.Tasks || !e.Sent || !e.NoHeartbeat || !e.NoGossip || !e.NoMingle || e.Interval != 5*time.Second || e.Exchange != "ev" || e.Serializer != "msgpack" {
		t.Errorf("events %+v", e)
	}
	for _, flag := range []string{"pool", "pool-start-method", "optimization", "include", "schedule-filename", "scheduler", "executable", "app proj", "loader x"} {
		if n := strings.Count(strings.Join(notes, "\n"), "--"+flag+" has no effect"); n != 1 {
			t.Errorf("%d lines about --%s in %q", n, flag, notes)
		}
	}
	if len(notes) != 10 || cfg.Isolation.MaxTasks != 5 || cfg.Isolation.MaxMemory != 5<<10 || !strings.HasPrefix(notes[0], "CELERY_CONFIG_MODULE=proj.celeryconfig has no effect") {
		t.Errorf("notes %q", notes)
	}
}

// What is remembered is limited by variables only, as in Celery; the state file is named by flag or setting.
func TestWhatIsRemembered(t *testing.T) {
	cfg, _ := configure(t, "{worker_state_db: '/var/%n-%h-%d.state', worker_deduplicate_successful_tasks: true}", []string{
		"CELERY_BROKER_URL=redis://", "CELERY_WORKER_REVOKES_MAX= 10 ", "CELERY_WORKER_REVOKE_EXPIRES=1.5", "CELERY_WORKER_SUCCESSFUL_MAX=20", "CELERY_WORKER_SUCCESSFUL_EXPIRES=0",
	}, "-n", "w1@web.example.org")
	if cfg.State != "/var/w1-web.example.org-example.org.state" || !cfg.Deduplicate || cfg.RevokesMax != 10 || cfg.RevokeExpires != 1500*time.Millisecond || cfg.SuccessMax != 20 || cfg.SuccessExpires != -1 {
		t.Errorf("state %q, deduplicate %v, revoked %d for %v, successes %d for %v", cfg.State, cfg.Deduplicate, cfg.RevokesMax, cfg.RevokeExpires, cfg.SuccessMax, cfg.SuccessExpires)
	}
	cfg, _ = configure(t, "{worker_state_db: a}", []string{"CELERY_BROKER_URL=redis://", "CELERY_WORKER_STATEDB=b"}, "-S", "c%%")
	if cfg.State != "c%" || cfg.RevokesMax != 0 || cfg.RevokeExpires != 0 {
		t.Errorf("state %q", cfg.State)
	}
}

func TestAutoscaleTakesTwoNumbersInAnyOrder(t *testing.T) {
	for text, want := range map[string]worker.Autoscale{"10,3": {Max: 10, Min: 3}, "3,10": {Max: 10, Min: 3}, " 4 , 1 ": {Max: 4, Min: 1}, "10": {Max: 10}, "10,0": {Max: 10}, "": {}} {
		if got, err := autoscale(text); err != nil || got != want {
			t.Errorf("autoscale(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"1,2,3", "x", "1,y", "-1", "0", "0,0", ",", "1000000"} {
		if got, err := autoscale(text); err == nil {
			t.Errorf("autoscale(%q) = %+v, want an error", text, got)
		}
	}
	cfg, _ := configure(t, "", []string{"CELERY_BROKER_URL=redis://", "CELERY_WORKER_AUTOSCALE=5,2", "AUTOSCALE_KEEPALIVE=1.5"})
	if want := (worker.Autoscale{Max: 5, Min: 2, KeepAlive: 1500 * time.Millisecond}); cfg.Autoscale != want {
		t.Errorf("autoscale %+v", cfg.Autoscale)
	}
	if cfg, _ := configure(t, "", []string{"CELERY_BROKER_URL=redis://", "AUTOSCALE_KEEPALIVE=9"}); cfg.Autoscale != (worker.Autoscale{}) {
		t.Errorf("autoscale %+v without --autoscale", cfg.Autoscale)
	}
}
