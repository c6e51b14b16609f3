package redisresult_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// pyChord is Celery's own backend object at the same keys: it starts chords and reports parts, and tells
// which bodies that published.
const pyChord = `
import json, sys
from celery import Celery
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
import celery

settings = json.loads(sys.argv[1])
app = Celery(backend=settings.pop('url'), broker='memory://', set_as_current=True)
app.conf.update(settings)
app.conf.task_publish_retry = False
backend = app.backend

@app.task(name='body')
def body(results): pass

class Died(BaseException): pass

def published():
    out = []
    with app.connection() as conn:
        queue = conn.SimpleQueue('celery')
        try:
            while True:
                message = queue.get(block=False)
                out.append([message.headers['id'], message.payload[0]])
                message.ack()
        except queue.Empty:
            pass
        finally:
            queue.close()
    return out

def tree(node):
    if isinstance(node, list):
        return app.GroupResult(node[0], [tree(n) for n in node[1:]])
    return app.AsyncResult(node)

class Ops:
    def version(self): return celery.__version__
    def start(self, gid, header):
        ids = [tree(n) for n in header]
        backend.apply_chord((gid, ids), body.s())
    def size(self, gid, n): backend.set_chord_size(gid, n)
    def add(self, gid): backend.add_to_chord(gid, None)
    def part(self, gid, tid, index, state, value, die=False):
        if state != 'SUCCESS':
            value = {'FAILURE': ValueError, 'REVOKED': TaskRevokedError}[state](*value)
        request = Context({'id': tid, 'group': gid, 'group_index': index, 'chord': body.s().set(task_id='body-of-' + gid)})
        if die:
            def dies(*args, **kwargs): raise Died()
            backend.__dict__['_chord_claim_extend_script'] = dies
        try:
            backend.on_chord_part_return(request, state, value)
        except Died:
            return 'died'
        finally:
            backend.__dict__.pop('_chord_claim_extend_script', None)
        return published()
    def storm(self, parts):
        out = []
        for gid, tid, index in parts:
            out += self.part(gid, tid, index, 'SUCCESS', tid)
        return out
    def store(self, tid, value): backend.store_result(tid, value, 'SUCCESS')
    def fail(self, tid, text): backend.store_result(tid, ValueError(text), 'FAILURE', traceback='TB')
    def values(self, gid):
        """Reports one part of each value; gives what the parts are."""
        values = [None, True, 0, -7, 2 ** 40, 1.0, -0.0, 1e15, 1e16, 1e-5, 0.1, '', 'text', 'caf\xe9 \U0001F600 <&> "\\\n\t\x7f', [], {}, [1, [2.5, None]],
                  {'b': 1, 'a': {'z': 'x'}}, [{'exc_type': 'x'}]]
        if app.conf.result_serializer == 'json':
            import datetime, decimal, uuid
            values += [10 ** 30, float('inf'), b'x', b'\xff\x00', datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
                       datetime.date(2026, 1, 2), decimal.Decimal('1.10'), uuid.UUID(int=7), '\ud800', (1, 2)]
        failures = [ValueError('bad', 42), ValueError(), KeyError('k'), ZeroDivisionError("division by zero"), OSError(2, 'no'), TaskRevokedError('expired')]
        for i, v in enumerate(values):
            backend.on_chord_part_return(Context({'id': 't-%d' % i, 'group': gid, 'group_index': i, 'chord': body.s()}), 'SUCCESS', v)
        for i, e in enumerate(failures, len(values)):
            state = 'REVOKED' if isinstance(e, TaskRevokedError) else 'FAILURE'
            backend.on_chord_part_return(Context({'id': 't-%d' % i, 'group': gid, 'group_index': i, 'chord': body.s()}), state, e)
        return len(values) + len(failures)

ops = Ops()
for line in sys.stdin:
    name, *args = json.loads(line)
    print(json.dumps(getattr(ops, name)(*args)), flush=True)
`

// A pyBackend is that program at work.
type pyBackend struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Scanner
	version string
}

func newPyBackend(t *testing.T, url, prefix string, settings map[string]any) *pyBackend {
	t.Helper()
	bin := os.Getenv("STALK_PYTHON")
	if bin == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("STALK_PYTHON is not set")
		}
		t.Skip("STALK_PYTHON is not set: a Python with Celery")
	}
	options := map[string]any{"global_keyprefix": prefix}
	all := map[string]any{"url": url, "result_backend_transport_options": options, "accept_content": []string{"json", "msgpack", "yaml"}}
	for k, v := range settings {
		if k == "result_chord_ordered" {
			options[k] = v
			continue
		}
		all[k] = v
	}
	arg, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	cmd := exec.CommandContext(ctx, bin, "-c", pyChord, string(arg))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", bin, err)
	}
	t.Cleanup(func() {
		in.Close()
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("python said:\n%s", stderr.String())
		}
	})
	p := &pyBackend{t: t, in: in, out: bufio.NewScanner(out)}
	p.version = p.call("version").(string)
	return p
}

// old reports whether it is a Celery before 5.7, which knows neither .d nor .c.
func (p *pyBackend) old() bool {
	return strings.HasPrefix(p.version, "5.6.") || strings.HasPrefix(p.version, "5.5.")
}

func (p *pyBackend) call(op string, args ...any) any {
	p.t.Helper()
	data, err := json.Marshal(append([]any{op}, args...))
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(data, '\n')); err != nil {
		p.t.Fatalf("python is gone: %v", err)
	}
	var answer any
	if err := json.Unmarshal([]byte(line(p.t, p.out)), &answer); err != nil {
		p.t.Fatalf("python says %q: %v", p.out.Text(), err)
	}
	return answer
}

// A mixed is a chord counted by both.
type mixed struct {
	*testing.T
	b      *redisresult.Backend
	py     *pyBackend
	client *redis.Client
	key    string
}

func newMixed(t *testing.T, settings map[string]any) *mixed {
	url := realURL(t)
	cfg := redisresult.Config{Options: map[string]any{}}
	if v, given := settings["result_chord_ordered"]; given {
		cfg.Options["result_chord_ordered"] = v
	}
	cfg.Encoding.Serializer, _ = settings["result_serializer"].(string)
	b, client, key := open(t, url, cfg)
	return &mixed{t, b, newPyBackend(t, url, strings.TrimSuffix(key, "celery-task-meta-"), settings), client, key}
}

func (m *mixed) group(g string) string { return chordKey(m.key, g) }

// part reports a part on that side ("go", "py"). It returns the values of the body that this published, as
// JSON, or "".
func (m *mixed) part(side, g, id string, index int, value any) string {
	m.Helper()
	if side == "py" {
		return m.bodies(g, m.py.call("part", g, id, index, "SUCCESS", value))
	}
	t := m.count(g, id, index, value)
	if t.State != resultbackend.Claimed {
		return ""
	}
	return m.publish(t.Claim)
}

func (m *mixed) count(g, id string, index int, value any) resultbackend.Tally {
	m.Helper()
	v, err := protocol.FromGo(value)
	if err != nil {
		m.Fatal(err)
	}
	t, err := m.b.Count(m.Context(), resultbackend.Member{GroupID: g, TaskID: id, Index: int64(index), State: protocol.Success, Value: v})
	if err != nil {
		m.Fatalf("Count: %v", err)
	}
	return t
}

func (m *mixed) publish(c resultbackend.Claim) string {
	m.Helper()
	h, err := c.Results(m.Context())
	if err != nil || h.Failed != nil {
		m.Fatalf("Results: %+v, %v", h, err)
	}
	if err := c.Renew(m.Context()); err != nil {
		m.Fatalf("Renew: %v", err)
	}
	if err := c.Finish(m.Context()); err != nil {
		m.Fatalf("Finish: %v", err)
	}
	data, err := protocol.AppendJSON(nil, h.Values)
	if err != nil {
		m.Fatal(err)
	}
	return string(data)
}

// bodies reads what Python published.
func (m *mixed) bodies(g string, answer any) string {
	m.Helper()
	list, _ := answer.([]any)
	switch {
	case len(list) == 0:
		return ""
	case len(list) > 1:
		m.Fatalf("python published %v", list)
	}
	pair := list[0].([]any)
	if pair[0] != "body-of-"+g {
		m.Errorf("python published the body %v of another chord", pair[0])
	}
	v, err := protocol.FromGo(pair[1].([]any)[0])
	if err != nil {
		m.Fatal(err)
	}
	data, _ := protocol.AppendJSON(nil, v)
	return strings.ReplaceAll(string(data), ".0", "") // encoding/json has floats only
}

// leftovers are the chord's keys, by suffix.
func (m *mixed) leftovers(g string) []string {
	keys := m.client.Keys(m.Context(), m.group(g)+"*").Val()
	for i, k := range keys {
		keys[i] = strings.TrimPrefix(k, m.group(g))
	}
	slices.Sort(keys)
	return keys
}
