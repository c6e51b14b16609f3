package canvas

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// The golden file is what real Celery published and stored, recorded by pyfixtures/canvas.py.

type goldenFile struct {
	Celery string
	Now    time.Time
	Cases  []*goldenCase
}

type goldenCase struct {
	name  string
	conf  map[string]any
	known map[string]TaskDefaults
	poll  bool
	steps []*protocol.Object
}

func goldenObject(t testing.TB) *protocol.Object {
	t.Helper()
	f, err := os.Open("testdata/canvas.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	// A line each: the head, the cases, the end.
	var head *protocol.Object
	var cases []protocol.Value
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if i == 0 {
			line += "]}"
		}
		if line == "]}" {
			break
		}
		v, err := protocol.ParseJSON([]byte(strings.TrimSuffix(line, ",")), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			head = v.(*protocol.Object)
			continue
		}
		cases = append(cases, v)
	}
	head.Set("cases", cases)
	return head
}

func golden(t testing.TB) goldenFile {
	t.Helper()
	o := goldenObject(t)
	var err error
	g := goldenFile{Celery: text(o, "celery")}
	if g.Now, err = time.Parse(time.RFC3339Nano, text(o, "now")); err != nil {
		t.Fatal(err)
	}
	cases, _ := o.Get("cases")
	for _, c := range cases.([]protocol.Value) {
		c := c.(*protocol.Object)
		gc := &goldenCase{name: text(c, "name"), known: map[string]TaskDefaults{}}
		poll, _ := c.Get("poll")
		gc.poll = poll.(bool)
		conf, _ := c.Get("conf")
		if err := json.Unmarshal(mustJSON(t, conf), &gc.conf); err != nil {
			t.Fatal(err)
		}
		known, _ := c.Get("known")
		for _, m := range known.(*protocol.Object).Members() {
			gc.known[m.Key] = knownTask(m.Value.(*protocol.Object))
		}
		steps, _ := c.Get("steps")
		for _, s := range steps.([]protocol.Value) {
			gc.steps = append(gc.steps, s.(*protocol.Object))
		}
		g.Cases = append(g.Cases, gc)
	}
	if len(g.Cases) < 100 {
		t.Fatalf("the golden file holds %d cases", len(g.Cases))
	}
	return g
}

// knownTask reads the options a task was registered with in Python.
func knownTask(o *protocol.Object) TaskDefaults {
	whole := func(key string) (int, bool) {
		v, _ := o.Get(key)
		n, ok := v.(int64)
		return int(n), ok
	}
	d := TaskDefaults{Queue: text(o, "queue"), Serializer: text(o, "serializer"), IgnoreResult: new(bool)}
	if v, ok := o.Get("ignore_result"); ok {
		*d.IgnoreResult = v.(bool)
	}
	if n, ok := whole("priority"); ok {
		d.Priority = &n
	}
	span := func(key string) time.Duration { n, _ := whole(key); return time.Duration(n) * time.Second }
	d.HardLimit, d.SoftLimit, d.Expires = span("time_limit"), span("soft_time_limit"), span("expires")
	return d
}

func mustJSON(t testing.TB, v protocol.Value) []byte {
	t.Helper()
	b, err := protocol.AppendJSON(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *goldenCase) env(t testing.TB, now time.Time, replyTo string) *Env {
	t.Helper()
	n := 0
	env := &Env{
		NewID: func() string { n++; return fmt.Sprintf("w-%d", n) },
		Now:   now, Tasks: c.known, ReplyTo: replyTo, Origin: "gen1@host", NativeChords: !c.poll,
	}
	env.InheritPriority, _ = c.conf["task_inherit_parent_priority"].(bool)
	env.AllowErrbackOnHeader, _ = c.conf["task_allow_error_cb_on_chord_header"].(bool)
	var err error
	if env.Routes, err = ParseRoutes(c.conf); err != nil {
		t.Fatal(err)
	}
	return env
}

// lenient are the cases in which Celery fails a task, or loses a key, over what can well be understood.
var lenient = map[string]string{
	"raw: chord, as a task with a group":          "the header may be a group",
	"raw: chord, as a task with a group, failing": "the header may be a group",
	"raw: unknown keys, after a task":             "a copy keeps keys that nobody here knows",
	"raw: null arguments, after a task":           "null arguments are none",
	"raw: null arguments, as a callback":          "null arguments are none",
	"raw: a null id, after a task":                "a null id is none",
	"raw: stamps without a value":                 "a stamp without a value is left out",
	"raw: stamps without a value, after a task":   "a stamp without a value is left out",
	"raw: stamps without a value, as a callback":  "a stamp without a value is left out",
}

func TestGolden(t *testing.T) {
	t.Parallel()
	g := golden(t)
	extras := map[string]bool{}
	for _, c := range g.Cases {
		t.Run(c.name, func(t *testing.T) {
			if why, ok := lenient[c.name]; ok {
				t.Skip("more lenient than Celery: " + why + " (TestLenient)")
			}
			for i, s := range c.steps {
				op := text(s, "op")
				got, want := runStep(t, c, g.Now, s), wanted(s)
				got, want, extra := withoutExtras(got, want, op)
				if extra {
					extras[fmt.Sprintf("%s #%d %s", c.name, i, op)] = true
				}
				if g, w := canonical(t, got), canonical(t, want); g != w {
					t.Fatalf("step %d (%s of %s), want -, got +:\n%s", i, op, subject(s), diff.Diff(w, g))
				}
			}
		})
	}
	t.Logf("Celery %s; steps in which more is told than Celery tells: %d", g.Celery, len(extras))
}

func subject(s *protocol.Object) string {
	m, _ := s.Get("message")
	if o, ok := m.(*protocol.Object); ok {
		h, _ := o.Get("headers")
		return text(h.(*protocol.Object), "task")
	}
	return "the canvas"
}

// An outcome is one step in a form that both sides have.
type outcome struct {
	effects  []protocol.Value
	children protocol.Value
	result   protocol.Value
}

func wanted(s *protocol.Object) outcome {
	var o outcome
	effects, _ := s.Get("effects")
	for _, e := range effects.([]protocol.Value) {
		if text(e.(*protocol.Object), "effect") != "broadcast" { // spec 05, R10: nothing could be revoked
			o.effects = append(o.effects, e)
		}
	}
	switch text(s, "op") {
	case "apply":
		o.result, _ = s.Get("result")
	case "success":
		o.children, _ = s.Get("children")
	case "builtin":
		o.children, _ = s.Get("children")
		m, _ := s.Get("message")
		h, _ := m.(*protocol.Object).Get("headers")
		if text(h.(*protocol.Object), "task") != "celery.accumulate" {
			o.result, _ = s.Get("value")
		}
	}
	return o
}

func runStep(t *testing.T, c *goldenCase, now time.Time, s *protocol.Object) outcome {
	t.Helper()
	var o outcome
	op := text(s, "op")
	if op == "apply" {
		env := c.env(t, now, "oid-client")
		wire, _ := s.Get("sig")
		var p Plan
		sig, err := Parse(wire)
		if err == nil {
			args, kwargs, options := callOf(s)
			p, err = Apply(sig, args, kwargs, options, env)
		}
		if failed, _ := s.Get("error"); failed != nil {
			if err == nil {
				t.Fatalf("no error, and Celery has %s", mustJSON(t, failed))
			}
			return wanted(s) // what Celery had sent before it noticed is not sent
		}
		if err != nil {
			t.Fatal(err)
		}
		o.effects, o.result = effectValues(t, env, p.Effects), p.Result
		return o
	}
	env := c.env(t, now, "oid-worker")
	if op == "body" || op == "chord_failed" {
		parent, _ := s.Get("parent")
		po := parent.(*protocol.Object)
		env.Parent = &Parent{ID: text(po, "id"), RootID: text(po, "root_id")}
		if n, ok := po.Get("priority"); ok && n != nil {
			i := int(n.(int64))
			env.Parent.Priority = &i
		}
		part := Part{}
		part.Body, _ = s.Get("body")
		if op == "body" {
			results, _ := s.Get("results")
			p, err := Body(part, results.([]protocol.Value), env)
			if err != nil {
				t.Fatal(err)
			}
			o.effects = effectValues(t, env, p.Effects)
			return o
		}
		cause, _ := s.Get("cause")
		co := cause.(*protocol.Object)
		args, _ := co.Get("args")
		exc := &protocol.Exception{Module: text(co, "module"), Type: text(co, "type"), Args: args.([]protocol.Value)}
		effects, err := ChordFailed(part, text(s, "text"), exc, env)
		if err != nil {
			t.Fatal(err)
		}
		o.effects = effectValues(t, env, effects)
		return o
	}
	task := taskOf(t, s)
	switch op {
	case "success":
		value, _ := s.Get("value")
		effects, children, err := AfterSuccess(task, value, env)
		if failed, _ := s.Get("error"); failed != nil {
			if err == nil {
				t.Fatalf("no error, and Celery has %s", mustJSON(t, failed))
			}
			return wanted(s)
		}
		if err != nil {
			t.Fatal(err)
		}
		if part, ok := PartOf(task); ok && env.NativeChords {
			part.State = protocol.Success
			effects = append(effects, part)
		}
		o.effects = effectValues(t, env, effects)
		if v, _ := s.Get("children"); v != nil { // an ignored result has none
			o.children = slices.Concat([]protocol.Value{}, children)
		}
	case "failure":
		effects, err := AfterFailure(task, protocol.NewException("ValueError", "x", 42), "tb", env, true)
		if err != nil {
			t.Fatal(err)
		}
		o.effects = effectValues(t, env, effects)
	case "builtin":
		value, _ := s.Get("value")
		if task.Name == "celery.accumulate" {
			got, err := Accumulate(task)
			if err != nil {
				t.Fatal(err)
			}
			if !equal(got, value) {
				t.Fatalf("accumulate = %s, want %s", mustJSON(t, got), mustJSON(t, value))
			}
			effects, children, err := AfterSuccess(task, value, env)
			if err != nil {
				t.Fatal(err)
			}
			if part, ok := PartOf(task); ok && env.NativeChords {
				part.State = protocol.Success
				effects = append(effects, part)
			}
			o.effects, o.children = effectValues(t, env, effects), slices.Concat([]protocol.Value{}, children)
			return o
		}
		p, ok, err := ApplyBuiltin(task, env)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		o.effects, o.result, o.children = effectValues(t, env, p.Effects), p.Result, slices.Concat([]protocol.Value{}, p.Children)
	case "unlock":
		u, err := ParseUnlock(task)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := s.Get("states")
		states := v.(*protocol.Object)
		j := u.Check(func(id string) (protocol.Result, bool) { return stateOf(states, id) })
		env.Parent = ParentOf(task)
		var effects []Effect
		switch {
		case !j.Ready: // Celery asks again
			want := wanted(s)
			retry := want.effects[0].(*protocol.Object)
			headers, _ := retry.Get("headers")
			if n, _ := headers.(*protocol.Object).Get("retries"); text(headers.(*protocol.Object), "task") != task.Name || n == int64(0) {
				t.Fatalf("the header is not ready: %v of %s", u.IDs(), mustJSON(t, states))
			}
			return want
		case j.Exception != nil:
			effects, err = ChordFailed(u.Part(), PollDependencyText(j.Exception), j.Exception, env)
		default:
			var p Plan
			p, err = Body(u.Part(), j.Results, env)
			effects = p.Effects
		}
		if err != nil {
			t.Fatal(err)
		}
		o.effects = effectValues(t, env, effects)
	case "replace", "add_to_chord":
		wire, _ := s.Get("sig")
		sig, err := Parse(wire)
		if err != nil {
			t.Fatal(err)
		}
		do := Replace
		if op == "add_to_chord" {
			do = AddToChord
		}
		p, err := do(task, sig, env)
		if err != nil {
			t.Fatal(err)
		}
		o.effects = effectValues(t, env, p.Effects)
	default:
		t.Fatalf("unknown step %q", op)
	}
	return o
}

func stateOf(states *protocol.Object, id string) (protocol.Result, bool) {
	v, ok := states.Get(id)
	if !ok {
		return protocol.Result{}, false
	}
	o := v.(*protocol.Object)
	r := protocol.Result{TaskID: id, Status: protocol.State(text(o, "state"))}
	r.Value, _ = o.Get("result")
	if e, ok := r.Value.(*protocol.Object); ok && r.Status != protocol.Success {
		args, _ := e.Get("args")
		r.Exception = &protocol.Exception{Module: text(e, "module"), Type: text(e, "type"), Args: args.([]protocol.Value)}
	}
	return r, true
}

func callOf(s *protocol.Object) (args []protocol.Value, kwargs, options *protocol.Object) {
	call, _ := s.Get("call")
	o := call.(*protocol.Object)
	if v, ok := o.Get("args"); ok {
		args = v.([]protocol.Value)
	}
	if v, ok := o.Get("kwargs"); ok {
		kwargs = v.(*protocol.Object)
	}
	if v, ok := o.Get("options"); ok {
		options = v.(*protocol.Object)
	}
	return args, kwargs, options
}

// taskOf reads the recorded message as a worker does.
func taskOf(t *testing.T, s *protocol.Object) *protocol.Task {
	t.Helper()
	v, _ := s.Get("message")
	o := v.(*protocol.Object)
	headers, _ := o.Get("headers")
	body, _ := o.Get("body")
	data, kind, encoding, err := protocol.Serialize("json", body)
	if err != nil {
		t.Fatal(err)
	}
	m := protocol.Message{
		Headers: headers.(*protocol.Object), Body: data, Exchange: text(o, "exchange"), RoutingKey: text(o, "routing_key"),
		Properties: protocol.Properties{
			ContentType: kind, ContentEncoding: encoding, CorrelationID: text(o, "correlation_id"), ReplyTo: text(o, "reply_to"),
		},
	}
	if p, _ := o.Get("priority"); p != nil {
		n := int(p.(int64))
		m.Properties.Priority = &n
	}
	task, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func effectValues(t *testing.T, env *Env, effects []Effect) []protocol.Value {
	t.Helper()
	var out []protocol.Value
	object := func(kind string, kv ...any) {
		o := protocol.ObjectOf(protocol.Member{Key: "effect", Value: kind})
		for i := 0; i < len(kv); i += 2 {
			v := kv[i+1]
			if s, ok := v.(string); ok && s == "" {
				v = nil
			}
			o.Set(kv[i].(string), v)
		}
		out = append(out, o)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case Send:
			m, err := e.Task.Encode(protocol.Encoding{Serializer: e.Serializer, Compression: e.Compression}, env.Now)
			if err != nil {
				t.Fatal(err)
			}
			body, err := protocol.Deserialize(m.Properties.ContentType, m.Body, protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			declare := []protocol.Value{}
			if e.Queue != nil {
				declare = append(declare, e.Queue.Name)
			}
			var priority protocol.Value
			if m.Properties.Priority != nil {
				priority = int64(*m.Properties.Priority)
			}
			object("send", "exchange", e.Task.Exchange, "routing_key", e.Task.RoutingKey, "declare", declare,
				"serializer", cmp.Or(e.Serializer, "json"), "compression", e.Compression, "delivery_mode", int64(cmp.Or(e.DeliveryMode, 2)),
				"priority", priority, "expiration", m.Properties.Expiration, "correlation_id", m.Properties.CorrelationID,
				"reply_to", m.Properties.ReplyTo, "headers", m.Headers, "body", body)
			out[len(out)-1].(*protocol.Object).Set("exchange", e.Task.Exchange)
		case ChordBegin:
			object("chord_begin", "group", e.GroupID, "record", e.Record)
		case ChordSize:
			object("chord_size", "group", e.GroupID, "n", int64(e.N))
		case ChordGrow:
			object("chord_grow", "group", e.GroupID)
		case Part:
			object("part", "id", e.TaskID, "group", e.GroupID, "index", e.Index, "body", e.Body, "state", string(e.State))
		case StoreFailure:
			var name protocol.Value
			if e.Extended != nil {
				name = e.Extended.Name
			}
			object("store", "id", e.TaskID, "group", e.GroupID, "parent", e.ParentID, "exception", protocol.ObjectOf(
				protocol.Member{Key: "module", Value: e.Exception.Module},
				protocol.Member{Key: "type", Value: e.Exception.Type},
				protocol.Member{Key: "args", Value: e.Exception.Args}), "traceback", e.Traceback != "", "name", name)
		default:
			t.Fatalf("unknown effect %T", e)
		}
	}
	return out
}

// withoutExtras drops what is told beyond Celery: failures and parts of steps that Celery leaves pending.
//
// The part of a step that is a group is told member by member, as they are counted; Celery tells one, under
// the group's id, and its chord never completes.
func withoutExtras(got, want outcome, op string) (outcome, outcome, bool) {
	if op != "failure" && op != "chord_failed" && op != "unlock" {
		return got, want, false
	}
	groups := map[string]bool{}
	for _, e := range want.effects {
		if o := e.(*protocol.Object); text(o, "name") == "celery.group" {
			groups[text(o, "id")] = true
		}
	}
	want.effects = slices.DeleteFunc(want.effects, func(e protocol.Value) bool {
		o := e.(*protocol.Object)
		return text(o, "effect") == "part" && groups[text(o, "id")]
	})
	have := map[string]bool{}
	key := func(e protocol.Value) string {
		o := e.(*protocol.Object)
		return text(o, "effect") + " " + text(o, "id") + " " + text(o, "group")
	}
	for _, e := range want.effects {
		have[key(e)] = true
	}
	n := len(got.effects)
	got.effects = slices.DeleteFunc(got.effects, func(e protocol.Value) bool {
		kind := text(e.(*protocol.Object), "effect")
		return (kind == "store" || kind == "part") && !have[key(e)]
	})
	return got, want, len(got.effects) != n
}

var madeID = regexp.MustCompile(`\bw-\d+`)

// canonical is a text in which equal outcomes are equal: ids numbered as they appear, the brackets of
// argsrepr (a matter of which kind of Python sequence it was) made alike. Keys keep their order.
func canonical(t *testing.T, o outcome) string {
	t.Helper()
	var b strings.Builder
	for _, e := range append(o.effects, "children", o.children, "result", o.result) {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, mustJSON(t, alike(e)), "", " "); err != nil {
			t.Fatal(err)
		}
		b.Write(pretty.Bytes())
		b.WriteString("\n")
	}
	seen := map[string]string{}
	return madeID.ReplaceAllStringFunc(b.String(), func(id string) string {
		if _, ok := seen[id]; !ok {
			seen[id] = fmt.Sprintf("new-%d", len(seen)+1)
		}
		return seen[id]
	})
}

var brackets = strings.NewReplacer(",)", ")", "[", "(", "]", ")", ", ", "")

func alike(v protocol.Value) protocol.Value {
	switch v := v.(type) {
	case []protocol.Value:
		out := make([]protocol.Value, len(v))
		for i, e := range v {
			out[i] = alike(e)
		}
		return out
	case *protocol.Object:
		members := slices.Clone(v.Members())
		out := &protocol.Object{}
		for _, m := range members {
			if s, ok := m.Value.(string); ok && (m.Key == "argsrepr" || m.Key == "kwargsrepr") {
				m.Value = brackets.Replace(s)
			}
			out.Set(m.Key, alike(m.Value))
		}
		return out
	}
	return v
}
