package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/demo"
	"github.com/stalkworker/stalk/handlers/images"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// runWorker is `stalk worker`.
func runWorker(c *cli.Context, g Program, p process) (err error) {
	notes, err := checkFlags(c)
	if err != nil {
		return err
	}
	if dir, ok := given(c, "workdir"); ok {
		if err := os.Chdir(dir); err != nil {
			return usageError{fmt.Errorf("--workdir: %w", err)}
		}
	}
	if name, ok := given(c, "app"); ok {
		notes = append(notes, fmt.Sprintf("--app %s has no effect: there is no Python app to load; give its settings with --config", name))
	}
	file, _ := given(c, "config")
	s, err := loadSettings(file, p.environ)
	if err != nil {
		return usageError{err}
	}
	reg, err := registry(g.Handlers, c.Bool("demo"), c.String("media-root"), list(c.StringSlice("serve")), c.StringSlice("alias"))
	if err != nil {
		return usageError{err}
	}
	log, closeLog, err := openLog(c.String("loglevel"), c.String("logfile"), p.stderr)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, closeLog()) }()

	cfg, err := workerConfig(c, s, reg, log)
	if err != nil {
		return usageError{err}
	}
	cfg.Control.Commands = g.Control
	if names := s.unread(); len(names) > 0 {
		notes = append(notes, "settings without effect here: "+strings.Join(names, ", "))
	}
	remove, err := writePidfile(c.String("pidfile"))
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, remove()) }()

	if !givenBool(c, "quiet") {
		results := "disabled://"
		if cfg.Results != nil {
			results = cfg.Results.String()
		}
		banner(p.stdout, cfg.Node, cfg.Transport.String(), results, cfg.Concurrency, cfg.Queues, reg, time.Now())
	}
	for _, n := range notes {
		log.Warn(n)
	}
	return supervise(c.Context, cfg, p)
}

// supervise runs the worker until a signal or ctx ends it: the first asks for a warm shutdown, the second, or
// a SIGQUIT, ends the running tasks.
func supervise(ctx context.Context, cfg worker.Config, p process) error {
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	over := make(chan struct{})
	go func() { // ends with over; waited for below
		defer close(watched)
		for count := 0; ; count++ {
			var sig os.Signal
			select {
			case sig = <-p.signals:
			case <-over:
				return
			}
			if count == 0 && sig != syscall.SIGQUIT {
				fmt.Fprint(p.stdout, "\nworker: Warm shutdown (MainProcess)\n")
				cancel()
			} else {
				fmt.Fprint(p.stdout, "\nworker: Cold shutdown (MainProcess)\n")
				w.StopNow()
				cancel()
			}
		}
	}()
	err = w.Run(ctx)
	close(over)
	<-watched
	if cfg.Results != nil {
		err = errors.Join(err, cfg.Results.Close())
	}
	return err
}

// registry is the set of tasks to serve: the program's own and the stock ones, with aliases added and then
// only those selected.
func registry(hs []handlers.Handler, withDemo bool, mediaRoot string, serve, aliases []string) (*handlers.Registry, error) {
	all := slices.Clone(hs)
	if withDemo {
		all = append(all, demo.Handlers()...)
	}
	if mediaRoot != "" {
		stock, err := images.Handlers(images.Config{Root: mediaRoot})
		if err != nil {
			return nil, fmt.Errorf("--media-root: %w", err)
		}
		all = append(all, stock...)
	}
	var errs []error
	for _, a := range aliases {
		name, old, ok := strings.Cut(a, "=")
		i := slices.IndexFunc(all, func(h handlers.Handler) bool { return h.Name() == old })
		switch {
		case !ok || name == "" || old == "":
			errs = append(errs, fmt.Errorf("--alias %q: want NEW=NAME, such as myapp.tasks.make_thumbnail=stalk.images.thumbnail", a))
		case i < 0:
			errs = append(errs, fmt.Errorf("--alias %q: there is no task %q; there are: %s", a, old, names(all)))
		default:
			all = append(all, all[i].As(name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(serve) > 0 {
		var kept []handlers.Handler
		for _, pattern := range serve {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("--serve %q: %w", pattern, err)
			}
			found := false
			for _, h := range all {
				if ok, _ := path.Match(pattern, h.Name()); ok {
					found = true
					if !slices.ContainsFunc(kept, func(k handlers.Handler) bool { return k.Name() == h.Name() }) {
						kept = append(kept, h)
					}
				}
			}
			if !found {
				return nil, fmt.Errorf("--serve %q names no task; there are: %s", pattern, names(all))
			}
		}
		all = kept
	}
	if len(all) == 0 {
		return nil, errors.New("there is no task to serve: build your own program with command.Main(handlers...), or add --demo or --media-root FOLDER")
	}
	return handlers.NewRegistry(all...)
}

func names(hs []handlers.Handler) string {
	if len(hs) == 0 {
		return "none (--demo and --media-root add some)"
	}
	var out []string
	for _, h := range hs {
		out = append(out, h.Name())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// workerConfig builds the worker's Config from flags over settings over defaults.
func workerConfig(c *cli.Context, s *settings, reg *handlers.Registry, log *slog.Logger) (worker.Config, error) {
	cfg := worker.Config{Handlers: reg, Logger: log, Grace: -1}
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	var err error

	cfg.Node, err = nodeName(c.String("hostname"))
	try(err)
	amount := c.String("concurrency")
	if v, ok := s.get("worker_concurrency"); ok && amount == "" {
		amount = fmt.Sprint(v)
	}
	cfg.Concurrency, err = concurrency(amount)
	try(err)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, cpus())
	cfg.Prefetch = s.whole("worker_prefetch_multiplier", 0)
	if isSet(c, "prefetch-multiplier") {
		cfg.Prefetch = c.Int("prefetch-multiplier")
	}
	switch o := c.String("optimization"); {
	case o != "" && o != "default" && o != "fair":
		try(fmt.Errorf("-O %q: want default or fair", o))
	case o == "fair", c.Bool("disable-prefetch"), s.flag("worker_disable_prefetch", false):
		cfg.Prefetch = 1
	}
	if d, err := graceful(c.String("grace")); err != nil {
		try(err)
	} else if d > 0 {
		cfg.Grace = d
	}

	cfg.SoftLimit = s.seconds("task_soft_time_limit", 0)
	if isSet(c, "soft-time-limit") {
		cfg.SoftLimit, err = flagSeconds(c, "soft-time-limit")
		try(err)
	}
	cfg.HardLimit = s.seconds("task_time_limit", 0)
	if isSet(c, "time-limit") {
		cfg.HardLimit, err = flagSeconds(c, "time-limit")
		try(err)
	}
	either := s.maybe("task_acks_on_failure_or_timeout")
	cfg.AckOnFailure = cmp.Or(s.maybe("task_acks_on_failure"), either)
	cfg.AckOnTimeout = cmp.Or(s.maybe("task_acks_on_timeout"), either)
	cfg.TrackStarted = s.flag("task_track_started", false)
	cfg.IgnoreResult = s.flag("task_ignore_result", false)
	cfg.StoreErrors = s.flag("task_store_errors_even_if_ignored", false)
	cfg.Extended = s.flag("result_extended", false)
	cfg.NoRates = s.flag("worker_disable_rate_limits", false)
	if late := s.maybe("task_acks_late"); late != nil && !*late {
		log.Info("task_acks_late is false: Stalk acknowledges late all the same, unless a handler asks for EarlyAck")
	}

	cfg.Control = remoteControl(s)
	cfg.Settings = shownSettings(c, s)

	cfg.Accept = s.texts("accept_content", ",")
	zone, err := location(s.text("timezone", ""), s.flag("enable_utc", true))
	try(err)
	cfg.Encoding = protocol.Encoding{Serializer: s.text("task_serializer", ""), Compression: s.text("task_compression", ""), Zone: zone}
	for _, name := range append(slices.Clone(cfg.Accept), cfg.Encoding.Serializer) {
		try(checkSerializer(name))
	}

	if cfg.Routes, err = routes(s); err != nil {
		try(err)
	} else {
		cfg.Queues, err = selected(cfg.Routes, list(c.StringSlice("queues")), list(c.StringSlice("exclude-queues")))
		try(err)
	}
	cfg.InheritPriority = s.flag("task_inherit_parent_priority", false)
	cfg.HeaderErrbacks = s.flag("task_allow_error_cb_on_chord_header", false)

	transport, err := broker(c, s, cfg.Node, log)
	try(err)
	cfg.Transport = transport
	if transport != nil {
		cfg.Results, err = results(c, s, transport, protocol.Encoding{Serializer: s.text("result_serializer", ""), Zone: zone})
		try(err)
	}
	errs = append(errs, s.errs...)
	return cfg, errors.Join(errs...)
}

// broker is the transport of -b, CELERY_BROKER_URL or broker_url.
func broker(c *cli.Context, s *settings, node string, log *slog.Logger) (transports.Transport, error) {
	urls := s.texts("broker_url", "")
	if read := s.texts("broker_read_url", ""); read != nil {
		urls = read
	}
	if u, ok := given(c, "broker"); ok {
		urls = []string{u}
	}
	if len(urls) == 0 {
		return nil, errors.New("no broker: give -b URL, CELERY_BROKER_URL, or broker_url in --config")
	}
	if write := s.texts("broker_write_url", ""); write != nil && !slices.Equal(write, urls) {
		return nil, errors.New("broker_write_url differs from the broker to read from: one broker for both is what Stalk can do")
	}
	ssl, _ := s.get("broker_use_ssl")
	return dial.Broker(strings.Join(urls, ";"), dial.BrokerOptions{
		Transport:      s.mapping("broker_transport_options"),
		SSL:            ssl,
		Heartbeat:      s.seconds("broker_heartbeat", 0),
		ConnectTimeout: s.seconds("broker_connection_timeout", 0),
		Failover:       s.text("broker_failover_strategy", ""),
		Node:           node,
		Logger:         log,
	})
}

// results is the backend of --result-backend, CELERY_RESULT_BACKEND or result_backend; nil when there is none.
func results(c *cli.Context, s *settings, t transports.Transport, e protocol.Encoding) (resultbackend.Backend, error) {
	url := s.text("result_backend", "")
	if u, ok := given(c, "result-backend"); ok {
		url = u
	}
	e.Compression = s.text("result_compression", "") // only readers of Celery 5.7 understand it: off unless asked for
	if accept := s.texts("result_accept_content", ","); len(accept) > 0 && !slices.Contains(accept, cmp.Or(e.Serializer, "json")) {
		return nil, fmt.Errorf("result_accept_content %v does not hold result_serializer %q: no client could read the results", accept, cmp.Or(e.Serializer, "json"))
	}
	if err := checkSerializer(e.Serializer); err != nil {
		return nil, fmt.Errorf("result_serializer: %w", err)
	}
	return dial.Results(url, dial.ResultOptions{
		Transport:      s.mapping("result_backend_transport_options"),
		SSL:            s.mapping("redis_backend_use_ssl"),
		Expires:        s.lifetime("result_expires"),
		FailureExpires: ownLifetime(s, "result_failure_expires"),
		ChordExpires:   ownLifetime(s, "result_chord_expires"),
		JoinTimeout:    s.seconds("result_chord_join_timeout", 0),
		Persistent:     s.flag("result_persistent", false),
		Encoding:       e,
		Broker:         t,
	})
}

// ownLifetime is a lifetime that is result_expires' when it is null (nil).
func ownLifetime(s *settings, name string) *time.Duration {
	if _, given := s.get(name); !given {
		return nil
	}
	return s.lifetime(name)
}

// graceful reads --grace: seconds, or a duration such as 1m30s.
func graceful(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("--grace %q: want seconds, or a duration such as 90s or 2m; 0 is as long as the tasks need", text)
	}
	return d, nil
}

// checkSerializer refuses the names of serializers that are not spoken here. "" is json.
func checkSerializer(name string) error {
	if name == "" {
		return nil
	}
	if _, usable := protocol.ContentType(name); !usable {
		return fmt.Errorf("serializer %q: json, msgpack and yaml are spoken here (pickle runs code when it is read); change task_serializer, result_serializer and accept_content", name)
	}
	return nil
}

// location is the timezone in which dates are written: timezone, else UTC, else the host's own when
// enable_utc is false.
func location(name string, utc bool) (*time.Location, error) {
	switch {
	case name != "":
		l, err := time.LoadLocation(name)
		if err != nil {
			return nil, fmt.Errorf("timezone %q: %w", name, err)
		}
		return l, nil
	case !utc:
		return time.Local, nil
	}
	return nil, nil
}

func openLog(level, file string, stderr io.Writer) (*slog.Logger, func() error, error) {
	l, err := parseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	if file == "" {
		return newLog(stderr, l), func() error { return nil }, nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("--logfile: %w", err)
	}
	return newLog(f, l), f.Close, nil
}

// writePidfile writes our process id, refuses the file of a process that lives, and returns what removes it.
func writePidfile(file string) (remove func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	if old, err := os.ReadFile(file); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(old))); err == nil && pid != os.Getpid() && alive(pid) {
			return nil, fmt.Errorf("--pidfile %s: process %d is running; stop it or remove the file", file, pid)
		}
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("--pidfile: %w", err)
	}
	return func() error { return os.Remove(file) }, nil
}
