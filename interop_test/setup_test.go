package interop_test

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/url"
	"strings"
	"testing"
)

// A setup is one pair of broker and result backend, with Celery settings that both sides share.
type setup struct {
	name     string
	broker   string
	backend  string
	settings map[string]any // Celery's lower-case names; given to Python and, as --config, to Stalk
	client   map[string]any // the same, for Python alone
	env      []string       // further environment of workers
}

// withEnv returns the setup whose workers have one more variable, NAME=value.
func (s setup) withEnv(v string) setup {
	s.env = append(s.env[:len(s.env):len(s.env)], v)
	return s
}

// with returns the setup with one more setting.
func (s setup) with(name string, value any) setup {
	m := maps.Clone(s.settings)
	if m == nil {
		m = map[string]any{}
	}
	m[name] = value
	s.settings = m
	return s
}

// withClient returns the setup with one more setting that only Python knows.
func (s setup) withClient(name string, value any) setup {
	m := maps.Clone(s.client)
	if m == nil {
		m = map[string]any{}
	}
	m[name] = value
	s.client = m
	return s
}

// rescuing returns the setup with what makes workers take over from each other within seconds on Redis; on
// RabbitMQ they do so at once. On Redis it moves to a database of its own: a sweep is for everybody there, and what other
// tests' workers hold for longer than two seconds would be run again.
func (s setup) rescuing() setup {
	if s.broker == redisURL {
		if s.broker = rescueURL(); s.backend == redisURL {
			s.backend = s.broker
		}
	}
	return s.with("broker_transport_options", map[string]any{
		"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1, "unacked_mutex_expire": 5,
	}).with("task_acks_late", true)
}

// rescueURL is the shared Redis with another database, unless somebody has chosen one.
func rescueURL() string {
	u, err := url.Parse(redisURL)
	if err != nil || strings.Trim(u.Path, "/0") != "" {
		return redisURL
	}
	u.Path = "/15"
	return u.String()
}

// pythonSettings is the JSON object of both.
func (s setup) pythonSettings() string {
	all := maps.Clone(s.settings)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, s.client)
	b, err := json.Marshal(all) // maps are written in the order of their keys
	if err != nil {
		panic(err) // a test's own mistake
	}
	return string(b)
}

// key names what a driver process must agree in.
func (s setup) key() string { return s.broker + " " + s.backend + " " + s.pythonSettings() }

func onRedis() setup    { return setup{name: "redis", broker: redisURL, backend: redisURL} }
func onRabbitMQ() setup { return setup{name: "rabbitmq", broker: amqpURL, backend: redisURL} }
func onRPC() setup      { return setup{name: "rabbitmq+rpc", broker: amqpURL, backend: "rpc://"} }

// onAll runs a test once on each broker and result backend, side by side.
func onAll(t *testing.T, test func(t *testing.T, s setup)) { on(t, test, onRedis, onRabbitMQ, onRPC) }

// onBoth runs a test once on each broker, with results in Redis: for what does not depend on the backend.
func onBoth(t *testing.T, test func(t *testing.T, s setup)) { on(t, test, onRedis, onRabbitMQ) }

func on(t *testing.T, test func(t *testing.T, s setup), setups ...func() setup) {
	need(t)
	t.Parallel()
	for _, make := range setups {
		s := make()
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// unique returns a name nobody else uses, for a queue or a worker.
func unique(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }
