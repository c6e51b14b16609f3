package redisbroker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/internal/redisopt"
	"github.com/stalkworker/stalk/transports"
)

func settingsOf(t *testing.T, url string, o map[string]any) *settings {
	t.Helper()
	conn, err := redisopt.Broker(url, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSettings(o, conn)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestStepKeys(t *testing.T) {
	t.Parallel()
	s := settingsOf(t, "redis://h/3", nil)
	for priority, want := range map[int]string{
		-5: "q", 0: "q", 2: "q", 3: "q\x06\x163", 5: "q\x06\x163", 6: "q\x06\x166", 8: "q\x06\x166", 9: "q\x06\x169", 70: "q\x06\x169",
	} {
		if got := s.listFor("q", priority); got != want {
			t.Errorf("priority %d: list %q, want %q", priority, got, want)
		}
	}
	s = settingsOf(t, "redis://h/3", map[string]any{"priority_steps": []any{3.0, "6"}, "sep": ":", "global_keyprefix": "P-"})
	if got := s.listFor("q", 1); got != "P-q:6" {
		t.Errorf("below the first step: %q, want the last step", got)
	}
	if d := cmp.Diff([]string{"P-q:3", "P-q:6"}, s.lists("q")); d != "" {
		t.Error(d)
	}
}

func TestPrefixIsOnKeysAndChannelsNeverInsideValues(t *testing.T) {
	t.Parallel()
	s := settingsOf(t, "redis://h/3", map[string]any{"global_keyprefix": "P-"})
	table, permanent := s.bindingKeys("e")
	if table != "P-_kombu.binding.e" || permanent != "P-_kombu.binding_permanent.e" {
		t.Errorf("binding keys %q, %q", table, permanent)
	}
	if d := cmp.Diff([]string{"P-/3.celery.pidbox"}, s.channels("celery.pidbox", "")); d != "" {
		t.Error(d)
	}
	if got := s.bindingMember(bound(transports.Queue{Name: "q"})); got != "q\x06\x16\x06\x16q" {
		t.Errorf("member %q", got)
	}
	if got := stashValue("{}", "q"); got != `[{}, "", "q"]` {
		t.Errorf("stash %q", got)
	}
}

func TestFanoutPrefixes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url  string
		o    map[string]any
		want []string
	}{
		{"redis://h/3", nil, []string{"/3.x/k"}},
		{"redis://h/3", map[string]any{"fanout_prefix": false}, []string{"x/k"}},
		{"redis://h/3", map[string]any{"fanout_prefix": "own.{db}."}, []string{"own.3.x/k"}},
		{"redis://h/3", map[string]any{"fanout_patterns": false}, []string{"/3.x"}},
		{"redis://h/3", map[string]any{"sentinel_fanout_compat": true}, []string{"/3.x/k"}},
		{"sentinel://h/3", map[string]any{"master_name": "m", "sentinel_fanout_compat": true}, []string{"/3.x/k", "/{db}.x/k"}},
	} {
		if d := cmp.Diff(tt.want, settingsOf(t, tt.url, tt.o).channels("x", "k")); d != "" {
			t.Errorf("%s %v: %s", tt.url, tt.o, d)
		}
	}
}

// The texts are what Kombu 5.7 stored.
func TestBindingMembersByteForByte(t *testing.T) {
	t.Parallel()
	s := settingsOf(t, "redis://h/0", nil)
	for _, tt := range []struct {
		q    transports.Queue
		want string
	}{
		{transports.Queue{Name: "celery"}, "celery\x06\x16\x06\x16celery"},
		{transports.Queue{Name: "tq", Exchange: "tex", Type: "topic", RoutingKey: "a.*.#"}, "a.*.#\x06\x16^a\\.[^\\.]+\\..*?$\x06\x16tq"},
		{transports.Queue{Name: "tq", Exchange: "tex", Type: "topic", RoutingKey: "a-b_c.ü"}, "a-b_c.ü\x06\x16^a\\-b\\_c\\.ü$\x06\x16tq"},
		{transports.Queue{Name: "w@h.celery.pidbox", Exchange: "celery.pidbox", Type: "fanout"}, "\x06\x16\x06\x16w@h.celery.pidbox"},
		{transports.Queue{Name: "ev", Exchange: "celeryev", Type: "fanout", RoutingKey: "worker.#"}, "worker.#\x06\x16\x06\x16ev"},
	} {
		if got := s.bindingMember(bound(tt.q)); got != tt.want {
			t.Errorf("%+v: member %q, want %q", tt.q, got, tt.want)
		}
	}
}

func TestRoutingIsKombusNotAMQPs(t *testing.T) {
	t.Parallel()
	s := settingsOf(t, "redis://h/0", nil)
	members := []string{
		"k\x06\x16\x06\x16direct",
		"a.#\x06\x16^a\\..*?$\x06\x16topic",
		"a.#\x06\x16^a\\..*?$\x06\x16topic", // one queue gets one copy
		"*.b\x06\x16^.*?[^\\.]\\.b$\x06\x16old",
		"*.b\x06\x16^[^\\.]+\\.b$\x06\x16new",
		"*.b\x06\x16^.*?[^\\.]\\.b$\x06\x16new", // both forms of one binding
		"x.☃\x06\x16^x\\.\\☃$\x06\x16snow",
		"no member", "bad\x06\x16(\x06\x16broken",
	}
	for key, want := range map[string][]string{
		"k":     {"direct"},
		"a":     nil, // in AMQP a.# matches a
		"a.c":   {"topic"},
		"x.b":   {"old", "new"},
		"x.y.b": {"old", "new"}, // the wider old pattern still matches
		"x.☃":   {"snow"},
		"bad":   nil,
	} {
		if d := cmp.Diff(want, s.route(members, key)); d != "" {
			t.Errorf("%s: %s", key, d)
		}
	}
}

func TestQueueNamesInTheStashAreASCIIJSON(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"q", `a"b\c`, "ü☃𝄞", "<&>", "\x01"} {
		text := jsonText(name)
		var back string
		if err := json.Unmarshal([]byte(text), &back); err != nil || back != name {
			t.Errorf("%q: %s reads as %q, %v", name, text, back, err)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r > 126 }) {
			t.Errorf("%q: %s is not ASCII", name, text)
		}
	}
}

func TestOptionsAreCheckedTogetherAndUnknownOnesIgnored(t *testing.T) {
	t.Parallel()
	s := settingsOf(t, "redis://h/0", map[string]any{
		"visibility_timeout": "7200", "unacked_restore_interval": 2, "unacked_restore_throttle": int64(3),
		"unacked_key": "U", "socket_timeout": nil, "polling_interval": 1, "whatever": []any{1},
	})
	if s.visibility.Seconds() != 7200 || s.restoreInterval.Seconds() != 2 || s.restoreThrottle != 3 || s.unacked != "U" {
		t.Errorf("%+v", s)
	}
	_, err := New(Config{URL: "redis://h/0", Options: map[string]any{
		"visibility_timeout": "soon", "queue_order_strategy": "random", "priority_steps": []any{}, "sep": "", "ack_emulation": false,
	}})
	for _, key := range []string{"visibility_timeout", "queue_order_strategy", "priority_steps", "sep", "ack_emulation"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v does not name %s", err, key)
		}
	}
}

func FuzzReadStash(f *testing.F) {
	f.Add(`[{"a": 1}, "", "q"]`)
	f.Add(`[null, null, null]`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, value string) {
		raw, _, _, err := readStash(value)
		if err == nil && !json.Valid(raw) {
			t.Errorf("%q: envelope %q is no JSON", value, raw)
		}
		_ = matches(value, value)
	})
}
