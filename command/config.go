package command

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// workerConfig builds the worker's Config from flags over settings over defaults.
func workerConfig(c *cli.Context, s *settings, reg *handlers.Registry, log *slog.Logger) (worker.Config, error) {
	cfg := worker.Config{Handlers: reg, Logger: log, Grace: -1}
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	var err error

	cfg.Node, err = nodeName(c.String("hostname"))
	try(err)
	amount := c.String("concurrency")
	if v, ok := s.get("worker_concurrency"); ok && (amount == "" || amount == "0") {
		amount = fmt.Sprint(v)
	}
	cfg.Concurrency, err = concurrency(amount)
	try(err)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, cpus())
	cfg.Autoscale, err = autoscale(c.String("autoscale"))
	try(err)
	cfg.Autoscale.KeepAlive, err = s.expiry("AUTOSCALE_KEEPALIVE")
	if try(err); cfg.Autoscale.KeepAlive < 0 {
		try(fmt.Errorf("invalid value for AUTOSCALE_KEEPALIVE: want seconds, more than 0"))
	}
	if cfg.Autoscale.Max == 0 {
		cfg.Autoscale.KeepAlive = 0
	}
	try(lifecycle(c, s, &cfg))
	try(isolation(c, s, &cfg))
	if d, err := graceful(c.String("grace")); err != nil {
		try(err)
	} else if d > 0 {
		cfg.Grace = d
	}

	if cfg.Deliveries = c.Int("max-deliveries"); cfg.Deliveries < 1 || cfg.Deliveries > 1_000_000 {
		try(fmt.Errorf("--max-deliveries %d: want 1 to 1000000", cfg.Deliveries))
	}

	cfg.Limits, err = messageLimits(c)
	try(err)
	most, err := resultLimit(c)
	try(err)

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
	if rate, ok := s.get("task_default_rate_limit"); ok {
		cfg.Rate = fmt.Sprint(rate) // a bare number is per second
		if _, err := handlers.ParseRate(cfg.Rate); err != nil {
			try(fmt.Errorf("%s: task_default_rate_limit: %w", s.source["task_default_rate_limit"], err))
		}
	}
	cfg.NoRates = s.flag("worker_disable_rate_limits", false)
	if late := s.maybe("task_acks_late"); late != nil && !*late {
		log.Info("task_acks_late is false: Stalk acknowledges late all the same, unless a handler asks for EarlyAck")
	}

	try(remembered(c, s, &cfg))
	cfg.Control, err = remoteControl(c, s)
	try(err)
	cfg.Events, err = events(c, s)
	try(err)
	cfg.Settings = shownSettings(c, s)

	cfg.Accept = s.texts("accept_content", ",")
	zone, err := location(s.text("timezone", ""), s.flag("enable_utc", true))
	try(err)
	if os.Getenv("TZ") == "" { // else that is where this process lives, and nobody knows better
		cfg.Events.Zone = zone // a Django process lives in its TIME_ZONE
	}
	cfg.Encoding = protocol.Encoding{Serializer: s.text("task_serializer", ""), Compression: s.text("task_compression", ""), Zone: zone}
	for _, name := range append(slices.Clone(cfg.Accept), cfg.Encoding.Serializer) {
		try(checkSerializer(name))
	}
	cfg.Encoding.Seal, err = keyring(s)
	try(err)

	if cfg.Routes, err = routes(s); err != nil {
		try(err)
	} else {
		cfg.Queues, err = selected(cfg.Routes, list(c.StringSlice("queues")), list(c.StringSlice("exclude-queues")))
		try(err)
		for _, q := range cfg.Routes.Queues() {
			cfg.Declared = append(cfg.Declared, declared(q))
		}
		if s.flag("worker_direct", false) {
			cfg.Queues = append(cfg.Queues, directQueue(cfg.Node))
		}
	}
	cfg.InheritPriority = s.flag("task_inherit_parent_priority", false)
	cfg.HeaderErrbacks = s.flag("task_allow_error_cb_on_chord_header", false)

	transport, err := broker(c, s, cfg.Node, cfg.Limits, log)
	try(err)
	cfg.Transport = transport
	cfg.NativeDelay = nativeDelay(append(slices.Clone(cfg.Declared), cfg.Queues...))
	if transport != nil {
		cfg.Results, err = results(c, s, transport, protocol.Encoding{Serializer: s.text("result_serializer", ""), Zone: zone, Seal: cfg.Encoding.Seal}, most)
		try(err)
		if b, ok := cfg.Results.(interface{ Warnings() []string }); ok {
			for _, text := range b.Warnings() {
				log.Warn("result_backend: " + text)
			}
		}
	}
	errs = append(errs, s.errs...)
	return cfg, errors.Join(errs...)
}

// events says what monitors are told: -E, --without-* and their settings.
func events(c *cli.Context, s *settings) (worker.Events, error) {
	e := worker.Events{
		Tasks:       s.flag("worker_send_task_events", false),
		Sent:        s.flag("task_send_sent_event", false),
		NoHeartbeat: c.Bool("without-heartbeat"),
		NoMingle:    c.Bool("without-mingle"),
		NoGossip:    c.Bool("without-gossip"),
		Exchange:    s.text("event_exchange", ""),
		Serializer:  s.text("event_serializer", ""),
		Version:     Version,
	}
	if isSet(c, "task-events") {
		e.Tasks = c.Bool("task-events")
	}
	n := c.Int("heartbeat-interval")
	if n < 0 || n > 86400 {
		return e, usageError{fmt.Errorf("--heartbeat-interval %d: want seconds, up to a day", n)}
	}
	e.Interval = time.Duration(n) * time.Second
	if err := checkSerializer(e.Serializer); err != nil {
		return e, fmt.Errorf("event_serializer: %w", err)
	}
	return e, nil
}

// broker is the transport of -b, CELERY_BROKER_URL or broker_url.
func broker(c *cli.Context, s *settings, node string, limits protocol.Limits, log *slog.Logger) (transports.Transport, error) {
	urls := s.texts("broker_url", "")
	if read := s.texts("broker_read_url", ""); read != nil { // wins over CELERY_BROKER_URL too, as in Celery
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
		DelayQueueType: s.text("broker_native_delayed_delivery_queue_type", ""),
		Limits:         limits,
		Node:           node,
		Logger:         log,
	})
}

// results is the backend of --result-backend, CELERY_RESULT_BACKEND or result_backend; nil when there is none.
func results(c *cli.Context, s *settings, t transports.Transport, e protocol.Encoding, most int) (resultbackend.Backend, error) {
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
		Most:           most,
	})
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
	if name == "" || signed(name) { // keyring looks after that
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
