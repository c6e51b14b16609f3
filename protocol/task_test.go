package protocol_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

func object(members ...any) *protocol.Object {
	o := &protocol.Object{}
	for i := 0; i < len(members); i += 2 {
		o.Set(members[i].(string), members[i+1])
	}
	return o
}

// message is a protocol 2 message with these headers beside task and id.
func message(body string, headers ...any) protocol.Message {
	return protocol.Message{
		Headers:    object(append([]any{"task", "t", "id", "i"}, headers...)...),
		Properties: protocol.Properties{ContentType: "application/json", ContentEncoding: "utf-8"},
		Body:       []byte(body),
		RoutingKey: "q",
	}
}

const nothing = `[[], {}, {}]`

func TestDecodeTaskHeaderTolerance(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		key   string
		value protocol.Value
		check func(*protocol.Task) bool
	}{
		{"retries null", "retries", nil, func(t *protocol.Task) bool { return t.Retries == 0 }},
		{"retries as a float", "retries", 3.0, func(t *protocol.Task) bool { return t.Retries == 3 }},
		{"limits as floats", "timelimit", []protocol.Value{2.5, nil}, func(t *protocol.Task) bool { return t.HardLimit == 2500*time.Millisecond && t.SoftLimit == 0 }},
		{"limit 0 is unset", "timelimit", []protocol.Value{int64(0), 0.0}, func(t *protocol.Task) bool { return t.HardLimit == 0 && t.SoftLimit == 0 }},
		{"hard limit first", "timelimit", []protocol.Value{int64(30), int64(20)}, func(t *protocol.Task) bool { return t.HardLimit == 30*time.Second && t.SoftLimit == 20*time.Second }},
		{"endless limit", "timelimit", []protocol.Value{int64(1) << 62, new(big.Int).Lsh(big.NewInt(1), 200)}, func(t *protocol.Task) bool { return t.HardLimit > 200*365*24*time.Hour && t.SoftLimit == t.HardLimit }},
		{"timelimit null", "timelimit", nil, func(t *protocol.Task) bool { return t.HardLimit == 0 }},
		{"timelimit []", "timelimit", []protocol.Value{}, func(t *protocol.Task) bool { return t.HardLimit == 0 }},
		{"eta as an AMQP timestamp", "eta", protocol.DateTime{Time: at, Naive: true}, func(t *protocol.Task) bool { return t.ETA.Equal(at) }},
		{"expires as an AMQP timestamp", "expires", protocol.DateTime{Time: at, Naive: true}, func(t *protocol.Task) bool {
			return t.Expires.Equal(at) && t.ExpiresText == "2026-01-02T03:04:05+00:00"
		}},
		{"naive eta is UTC", "eta", "2026-01-02T03:04:05", func(t *protocol.Task) bool { return t.ETA.Equal(at) }},
		{"RFC 3339 eta (gocelery)", "eta", "2026-01-02T05:04:05.000000000+02:00", func(t *protocol.Task) bool { return t.ETA.Equal(at) }},
		{"ignore_result null", "ignore_result", nil, func(t *protocol.Task) bool { return t.IgnoreResult == nil }},
		{"ignore_result false", "ignore_result", false, func(t *protocol.Task) bool { return t.IgnoreResult != nil && !*t.IgnoreResult }},
		{"ignore_result 1", "ignore_result", int64(1), func(t *protocol.Task) bool { return t.IgnoreResult != nil && *t.IgnoreResult }},
		{"group_index null", "group_index", nil, func(t *protocol.Task) bool { return t.GroupIndex == nil }},
		{"group_index as a float", "group_index", 1.5, func(t *protocol.Task) bool { return t.GroupIndex == 1.5 }},
		{"shadow is a number", "shadow", int64(5), func(t *protocol.Task) bool { return t.Display() == "t" }},
		{"shadow", "shadow", "s", func(t *protocol.Task) bool { return t.Display() == "s" && t.Name == "t" }},
		{"parent_id empty", "parent_id", "", func(t *protocol.Task) bool { return t.ParentID == "" }},
		{"stamps null", "stamps", nil, func(t *protocol.Task) bool { return t.Stamps.Len() == 0 && t.StampNames == nil }},
		{"headers no table", "headers", "x", func(t *protocol.Task) bool { return t.Custom.Len() == 0 }},
	} {
		got, err := protocol.DecodeTask(message(nothing, tt.key, tt.value), protocol.DecodeOptions{})
		if err != nil || !tt.check(got) {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

func TestDecodeTaskRefusesHeaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		part  string
		value protocol.Value
	}{
		{"headers.eta", int64(5)},
		{"headers.eta", ""},
		{"headers.eta", "soon"},
		{"headers.eta", protocol.Date{}},
		{"headers.expires", 0.0},
		{"headers.expires", ""},
		{"headers.expires", []protocol.Value{}},
		{"headers.timelimit", "x"},
		{"headers.timelimit", []protocol.Value{nil}},
		{"headers.timelimit", int64(5)},
		{"headers.timelimit[0]", []protocol.Value{"30", nil}},
		{"headers.timelimit[1]", []protocol.Value{nil, int64(-1)}},
		{"headers.timelimit[0]", []protocol.Value{nan(), nil}},
		{"headers.retries", "3"},
		{"headers.retries", int64(-1)},
		{"headers.retries", nan()},
		{"headers.retries", new(big.Int).Lsh(big.NewInt(1), 70)},
		{"headers.group", int64(5)},
		{"headers.root_id", object("a", nil)},
		{"headers.parent_id", []byte("x")},
		{"headers.group_index", "0"},
		{"headers.stamped_headers", "foo"},
		{"headers.stamped_headers[0]", []protocol.Value{int64(1)}},
		{"headers.compression", int64(1)},
	} {
		key, _, _ := strings.Cut(strings.TrimPrefix(tt.part, "headers."), "[")
		task, err := protocol.DecodeTask(message(nothing, key, tt.value), protocol.DecodeOptions{})
		part := (*protocol.DecodeError)(nil)
		if !errors.As(err, &part) || part.Part != tt.part || key != "compression" && !errors.Is(err, protocol.ErrInvalidTask) {
			t.Errorf("%s = %v: %v", key, tt.value, err)
		}
		if task == nil || task.ID != "i" || task.Name != "t" {
			t.Errorf("%s = %v: nobody can be told: %+v", key, tt.value, task)
		}
	}
}

func nan() float64 { var zero float64; return zero / zero }

func TestDecodeTaskIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []protocol.Value{nil, "", int64(5), protocol.UUID{}, strings.Repeat("x", 256), "\xff", "\xed\xa0\x80"} {
		m := message(nothing, "id", id)
		if task, err := protocol.DecodeTask(m, protocol.DecodeOptions{}); !errors.Is(err, protocol.ErrInvalidTask) || task != nil {
			t.Errorf("id %v: %+v, %v", id, task, err)
		}
	}
	long := strings.Repeat("é", 127) + "x" // 255 bytes
	if task, err := protocol.DecodeTask(message(nothing, "id", long), protocol.DecodeOptions{}); err != nil || task.ID != long {
		t.Errorf("an id of 255 bytes: %v", err)
	}
}

func TestDecodeTaskArguments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, args string }{
		{`[[1, "a"], {}, null]`, `[1, "a"]`},
		{`["h\u00e9\ud800", {}, {}]`, `["h", "\u00e9", "\ud800"]`},
		{`[{"b": 1, "a": 2}, {}, {}]`, `["b", "a"]`},
		{`["", {}, []]`, `[]`},
		{`[{"__type__": "bytes", "__value__": "ab"}, {}, false]`, `[97, 98]`},
	} {
		task, err := protocol.DecodeTask(message(tt.body), protocol.DecodeOptions{})
		if err != nil || kombu(t, task.Args) != tt.args {
			t.Errorf("%s: %+v, %v", tt.body, task, err)
		}
	}
	for _, tt := range []struct{ body, part string }{
		{`null`, "body"},
		{`[]`, "body"},
		{`[[], {}]`, "body"},
		{`{"a": 1}`, "body"},
		{`"abc"`, "body"},
		{`[[], {}, {}, {}]`, "body"},
		{`[null, {}, {}]`, "body[0]"},
		{`[5, {}, {}]`, "body[0]"},
		{`[[], null, {}]`, "body[1]"},
		{`[[], [], {}]`, "body[1]"},
		{`[[], {}, [1]]`, "body[2]"},
		{`[[], {}, {"chain": {"task": "x"}}]`, "body[2].chain"},
		{`[[], {}, {"callbacks": "x"}]`, "body[2].callbacks"},
	} {
		task, err := protocol.DecodeTask(message(tt.body), protocol.DecodeOptions{})
		part := (*protocol.DecodeError)(nil)
		if !errors.As(err, &part) || part.Part != tt.part || !errors.Is(err, protocol.ErrInvalidTask) || task == nil {
			t.Errorf("%s: %+v, %v", tt.body, task, err)
		}
	}
}

// What Celery accepts unseen, and what it dies of: neither may reach a handler.
func TestDecodeTaskContent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		content string
		accept  []string
		want    error
		says    string
	}{
		{"application/json", nil, nil, ""},
		{"application/json", []string{"application/json"}, nil, ""},
		{"application/json", []string{"yaml"}, protocol.ErrRefusedContent, `task "t" is sent as "application/json"; add it to accept_content (now yaml)`},
		{"application/json", []string{}, protocol.ErrRefusedContent, ""},
		{"application/json; charset=utf-8", nil, protocol.ErrRefusedContent, ""},
		{"Application/JSON", nil, protocol.ErrRefusedContent, ""},
		{"application/x-python-serialize", nil, protocol.ErrRefusedContent, `task "t" is sent as pickle`},
		{"application/x-python-serialize", []string{"pickle"}, protocol.ErrRefusedContent, "task_serializer = 'json'"},
		{"application/data", nil, protocol.ErrInvalidTask, ""},
		{"application/text", nil, protocol.ErrInvalidTask, ""},
		{"", nil, protocol.ErrInvalidTask, ""},
		{"text/plain", []string{"text/plain"}, protocol.ErrInvalidTask, "no reader"},
	} {
		m := message(nothing)
		m.Properties.ContentType = tt.content
		task, err := protocol.DecodeTask(m, protocol.DecodeOptions{Accept: tt.accept})
		if tt.want == nil && err != nil || !errors.Is(err, tt.want) || task == nil || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q, accepting %v: %v, want %v %q", tt.content, tt.accept, err, tt.want, tt.says)
		}
		m.Headers = nil // protocol 1, or so it looks
		if _, err := protocol.DecodeTask(m, protocol.DecodeOptions{Accept: tt.accept}); err == nil {
			t.Errorf("%q without headers: no error", tt.content)
		}
	}
}

func TestDecodeTaskLimits(t *testing.T) {
	t.Parallel()
	deep := `[[` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `], {}, {}]`
	if _, err := protocol.DecodeTask(message(deep), protocol.DecodeOptions{}); err != nil {
		t.Errorf("53 levels: %v", err)
	}
	if _, err := protocol.DecodeTask(message(deep), protocol.DecodeOptions{Limits: protocol.Limits{Depth: 20}}); !errors.Is(err, protocol.ErrTooLarge) {
		t.Errorf("53 levels with a limit of 20: %v", err)
	}
	packed, codec, err := protocol.Compress("gzip", []byte(`["`+strings.Repeat("x", 1<<20)+`", {}, {}]`))
	if err != nil {
		t.Fatal(err)
	}
	m := message(string(packed), "compression", codec)
	if _, err := protocol.DecodeTask(m, protocol.DecodeOptions{Limits: protocol.Limits{Inflated: 1 << 16}}); !errors.Is(err, protocol.ErrTooLarge) {
		t.Errorf("1 MiB inflated with a limit of 64 KiB: %v", err)
	}
}

// The old body does not overrule a header, and what it alone says is used.
func TestDecodeTaskHybrid(t *testing.T) {
	t.Parallel()
	m := message(`{"task": "other", "id": "j", "args": [1], "retries": 2, "eta": "2026-01-02", "taskset": "g", "callbacks": [{"task": "c"}], "chain": [1]}`)
	got, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Protocol != 1 || got.Name != "t" || got.ID != "i" || got.Retries != 2 || got.ETA.IsZero() || got.Group != "" || got.Chain != nil ||
		len(got.Callbacks) != 1 || got.Kwargs.Len() != 0 {
		t.Errorf("%+v", got)
	}
}

func TestEncodeOfAnEmptyTask(t *testing.T) {
	t.Parallel()
	m, err := (&protocol.Task{ID: "i", Name: "t", RoutingKey: "q"}).Encode(protocol.Encoding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const headers = `{"lang": "py", "task": "t", "id": "i", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, ` +
		`"retries": 0, "timelimit": [null, null], "root_id": "i", "parent_id": null, "argsrepr": "()", "kwargsrepr": "{}", "origin": null, ` +
		`"ignore_result": null, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}`
	if got := kombu(t, m.Headers); got != headers {
		t.Errorf("headers are %s", got)
	}
	if got := string(m.Body); got != `[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]` {
		t.Errorf("body is %s", got)
	}
	if p := m.Properties; p.CorrelationID != "i" || p.DeliveryMode != 2 || p.ContentType != "application/json" || p.Expiration != "" {
		t.Errorf("properties are %+v", p)
	}
}

func TestEncodeExpiration(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		in   time.Duration
		want string
	}{{time.Minute, "60000"}, {1500 * time.Microsecond, "1"}, {-time.Hour, "0"}, {0, "0"}} {
		task := protocol.Task{ID: "i", Name: "t", Expires: now.Add(tt.in)}
		m, err := task.Encode(protocol.Encoding{Zone: time.FixedZone("", 3600)}, now)
		if err != nil || m.Properties.Expiration != tt.want {
			t.Errorf("expires in %v: expiration %q, %v, want %q", tt.in, m.Properties.Expiration, err, tt.want)
		}
	}
}

// A custom header cannot take the place of one of ours.
func TestEncodeProtectsHeaders(t *testing.T) {
	t.Parallel()
	task := protocol.Task{ID: "i", Name: "t", Custom: object("id", "stolen", "task", "x", "compression", "y", "mine", int64(1))}
	m, err := task.Encode(protocol.Encoding{Compression: "gzip"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]protocol.Value{"id": "i", "task": "t", "compression": "application/x-gzip", "mine": int64(1)} {
		if got, _ := m.Headers.Get(key); got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
}

func TestRetried(t *testing.T) {
	t.Parallel()
	custom := object("keep", int64(1), "x-death", []protocol.Value{}, "x-first-death-queue", "q", "x-last-death-reason", "r", "redelivered", true)
	task := &protocol.Task{
		ID: "i", Name: "t", Args: []protocol.Value{int64(1)}, Kwargs: object("k", nil), Retries: 2, ETA: time.Unix(1, 0),
		ExpiresText: "2030-01-01T00:00:00", Group: "g", GroupIndex: int64(3), Chain: []protocol.Value{}, Chord: object("task", "c"),
		Custom: custom, CorrelationID: "c", ArgsRepr: "old", Protocol: 1, Exchange: "ex", RoutingKey: "rk",
	}
	next := task.Retried(time.Time{}, true)
	if next.Retries != 3 || !next.ETA.IsZero() || next.RootID != "i" || next.ParentID != "i" || !*next.IgnoreResult || next.Protocol != 2 ||
		next.ExpiresText != task.ExpiresText || next.Group != "g" || next.GroupIndex != int64(3) || next.Chain == nil || next.Chord == nil ||
		next.CorrelationID != "c" || next.ArgsRepr != "" || next.Exchange != "ex" || next.RoutingKey != "rk" {
		t.Errorf("%+v", next)
	}
	if got := kombu(t, next.Custom); got != `{"keep": 1}` {
		t.Errorf("custom headers are %s", got)
	}
	next.Args[0], next.Retries = "changed", 9
	next.Kwargs.Set("k", "changed")
	if task.Retries != 2 || kombu(t, task.Args) != `[1]` || kombu(t, task.Kwargs) != `{"k": null}` || task.Custom.Len() != 5 {
		t.Errorf("the task was changed: %+v", task)
	}
	again := (&protocol.Task{ID: "i", RootID: "r", ParentID: "p"}).Retried(time.Time{}, false)
	if again.RootID != "r" || again.ParentID != "p" {
		t.Errorf("root %q parent %q, want them kept", again.RootID, again.ParentID)
	}
}

// Unknown options and keys of signatures come through untouched, number texts included.
func TestSignaturesSurvive(t *testing.T) {
	t.Parallel()
	const body = `[[], {}, {"callbacks": [{"task": "c", "x": 123456789012345678901234567890, "options": {"new": [1.0, NaN], "task_id": "c1"}}], ` +
		`"errbacks": null, "chain": [{"odd": "\ud800"}, "junk"], "chord": {"task": "b", "options": {"task_id": "b1", "chord_size": 3}}}]`
	task, err := protocol.DecodeTask(message(body), protocol.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := task.Retried(time.Time{}, false).Encode(protocol.Encoding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(body, string(m.Body)); diff != "" {
		t.Error(diff)
	}
	ids := []string{protocol.SignatureID(task.Callbacks[0]), protocol.SignatureID(task.Chord), protocol.SignatureID(task.Chain[0]), protocol.SignatureID(task.Chain[1]), protocol.SignatureID(nil)}
	if diff := cmp.Diff([]string{"c1", "b1", "", "", ""}, ids); diff != "" {
		t.Error(diff)
	}
	if protocol.SignatureName(task.Chord) != "b" || protocol.SignatureName("junk") != "" {
		t.Error("SignatureName")
	}
}

// The old body may bring what the headers lack, the id included; errors name the old places.
func TestDecodeTaskOldBodies(t *testing.T) {
	t.Parallel()
	m := message(`{"task": "other", "id": "body-id", "args": [1], "kwargs": {}}`)
	m.Headers = object("task", "t")
	got, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
	if err != nil || got.ID != "body-id" || got.Name != "t" {
		t.Errorf("task header over an old body with the id: %+v, %v", got, err)
	}
	for _, tt := range []struct{ body, part string }{
		{`{"task": "t", "args": []}`, "body.id"},
		{`{"task": "t", "id": "i", "args": [], "eta": 5}`, "body.eta"},
		{`{"task": "t", "id": "i", "args": [], "timelimit": [1]}`, "body.timelimit"},
		{`{"task": "t", "id": "i", "args": null, "kwargs": {}}`, "body.args"},
		{`{"task": "t", "id": "i", "kwargs": []}`, "body.kwargs"},
		{`{"task": "t", "id": "i", "kwargs": {}, "callbacks": 1}`, "body.callbacks"},
		{`{"task": null, "id": "i", "kwargs": {}}`, "body.task"},
	} {
		m := message(tt.body)
		m.Headers = nil
		task, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
		part := (*protocol.DecodeError)(nil)
		if !errors.As(err, &part) || part.Part != tt.part || !errors.Is(err, protocol.ErrInvalidTask) || (task == nil) != (tt.part == "body.id") {
			t.Errorf("%s: %+v, %v", tt.body, task, err)
		}
	}
}

// Header texts from AMQP need not be text. What identifies is refused, what only people read is mended.
func TestDecodeTaskHeadersThatAreNotText(t *testing.T) {
	t.Parallel()
	task, err := protocol.DecodeTask(message(nothing, "argsrepr", "(\xff)", "origin", "\xff"), protocol.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := task.Encode(protocol.Encoding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.EncodeEnvelope(m, "tag"); err != nil {
		t.Errorf("cannot be sent on: %v", err)
	}
	if _, err := protocol.DecodeTask(message(nothing, "group", "\xff"), protocol.DecodeOptions{}); !errors.Is(err, protocol.ErrInvalidTask) {
		t.Errorf("group: %v", err)
	}
}
