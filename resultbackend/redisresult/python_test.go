package redisresult_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// python runs a program with an app of the same backend and prefix, and gives its lines as they come.
func python(t *testing.T, url, prefix, settings, program string) *bufio.Scanner {
	t.Helper()
	bin := os.Getenv("STALK_PYTHON")
	if bin == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("STALK_PYTHON is not set")
		}
		t.Skip("STALK_PYTHON is not set: a Python with Celery")
	}
	head := fmt.Sprintf(`
import sys
from celery import Celery
app = Celery(backend=%q, broker='memory://', set_as_current=True)
app.conf.result_backend_transport_options = {'global_keyprefix': %q}
%s
def say(text):
    print(text, flush=True)
`, url, prefix, settings)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	cmd := exec.CommandContext(ctx, bin, "-c", head+program)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", bin, err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("python said:\n%s", errors.String())
		}
	})
	return bufio.NewScanner(out)
}

func line(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	if !s.Scan() {
		t.Fatalf("python ended: %v", s.Err())
	}
	return s.Text()
}

// A .get() that waits on pub/sub is woken by the final state, and only by it.
func TestPythonWaits(t *testing.T) {
	url := realURL(t)
	b, client, key := open(t, url, redisresult.Config{})
	prefix := strings.TrimSuffix(key, "celery-task-meta-")
	said := python(t, url, prefix, "", `
for tid in ('ok', 'bad', 'revoked', 'early'):
    say('waiting')
    try:
        say(repr(app.AsyncResult(tid).get(timeout=30)))
    except Exception as exc:
        say('%s.%s: %s' % (type(exc).__module__, type(exc).__name__, exc))
`)
	done := time.Now()
	for _, tt := range []struct {
		id   string
		last protocol.Result
		want string
	}{
		{"ok", protocol.Result{Status: protocol.Success, Value: protocol.ObjectOf(protocol.Member{Key: "n", Value: 3.0})}, "{'n': 3.0}"},
		{"bad", protocol.Result{Status: protocol.Failure, Exception: &protocol.Exception{
			Module: "builtins", Type: "ValueError", Args: []protocol.Value{"boom"},
		}}, "builtins.ValueError: boom"},
		{"revoked", protocol.Result{Status: protocol.Revoked, Exception: &protocol.Exception{
			Module: "celery.exceptions", Type: "TaskRevokedError", Args: []protocol.Value{"expired"},
		}}, "celery.exceptions.TaskRevokedError: expired"},
	} {
		if got := line(t, said); got != "waiting" {
			t.Fatalf("python says %q", got)
		}
		for deadline := time.Now().Add(20 * time.Second); client.PubSubNumSub(t.Context(), key+tt.id).Val()[key+tt.id] == 0; {
			if time.Now().After(deadline) {
				t.Fatal("python does not subscribe")
			}
			time.Sleep(5 * time.Millisecond)
		}
		for _, r := range []protocol.Result{
			{Status: protocol.Started, Value: protocol.ObjectOf(protocol.Member{Key: "pid", Value: int64(1)})},
			{Status: protocol.Progress, Value: "half"},
			tt.last,
		} {
			r.TaskID = tt.id
			if r.Status.Ready() {
				r.DateDone = done
			}
			if err := b.Store(t.Context(), resultbackend.Record{Result: r}); err != nil {
				t.Fatalf("Store: %v", err)
			}
		}
		if got := line(t, said); got != tt.want {
			t.Errorf("get() of %s: %s, want %s", tt.id, got, tt.want)
		}
		if tt.id == "revoked" { // the next get() finds its result there already
			r := protocol.Result{TaskID: "early", Status: protocol.Success, Value: int64(7), DateDone: done}
			if err := b.Store(t.Context(), resultbackend.Record{Result: r}); err != nil {
				t.Fatalf("Store: %v", err)
			}
		}
	}
	if got := line(t, said) + " " + line(t, said); got != "waiting 7" {
		t.Errorf("a get() after the fact: %q, want 7", got)
	}
}

// What Python stored, read and stored again by us, is the same bytes with the same lifetime; what it
// compressed reads the same.
func TestPythonBytes(t *testing.T) {
	url := realURL(t)
	for _, serializer := range []string{"json", "msgpack", "yaml"} {
		t.Run(serializer, func(t *testing.T) {
			expires, failures := time.Hour, 50*time.Second
			b, client, key := open(t, url, redisresult.Config{
				Expires: &expires, FailureExpires: &failures,
				Encoding: protocol.Encoding{Serializer: serializer},
			})
			prefix := strings.TrimSuffix(key, "celery-task-meta-")
			said := python(t, url, prefix, fmt.Sprintf(`
app.conf.update(result_serializer=%q, accept_content=['json', 'msgpack', 'yaml'], result_expires=3600, result_failure_expires=50)
`, serializer), `
import json
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
stored = {
    'int': (3, 'SUCCESS', {}),
    'float': (1e16, 'SUCCESS', {}),
    'none': (None, 'SUCCESS', {}),
    'text': ('caf\xe9 \U0001F600 <&> "\\', 'SUCCESS', {}),
    'nested': ({'z': [1, 2.5, {'a': None}], 'a': True}, 'SUCCESS', {}),
    'group': (1, 'SUCCESS', {'group': 'g', 'parent_id': 'p'}),
    'children': (1, 'SUCCESS', {'_children': [app.AsyncResult('c')]}),
    'started': ({'pid': 5, 'hostname': 'w@h'}, 'STARTED', {}),
    'progress': ({'done': 1}, 'PROGRESS', {}),
    'retry': (ValueError('again'), 'RETRY', {}),
    'bad': (ValueError('boom', 42), 'FAILURE', {}),
    'revoked': (TaskRevokedError('revoked'), 'REVOKED', {}),
}
if app.conf.result_serializer == 'json':
    stored['nan'] = (float('nan'), 'SUCCESS', {})
    stored['big'] = (10 ** 30, 'SUCCESS', {})
for tid, (value, state, request) in stored.items():
    app.backend.store_result(tid, value, state, traceback='TB' if state in ('RETRY', 'FAILURE') else None, request=Context(request))
app.backend.compression = None
say(json.dumps(list(stored)))
app2 = Celery(backend=app.conf.result_backend, broker='memory://')
app2.conf.update(app.conf.changes)
app2.conf.result_compression = 'gzip'
for tid, (value, state, request) in stored.items():
    app2.backend.store_result('gz-' + tid, value, state, traceback='TB' if state in ('RETRY', 'FAILURE') else None, request=Context(request))
say('done')
`)
			var ids []string
			if err := json.Unmarshal([]byte(line(t, said)), &ids); err != nil || len(ids) < 10 {
				t.Fatalf("python says %q: %v", ids, err)
			}
			if got := line(t, said); got != "done" {
				t.Fatalf("python says %q", got)
			}
			for _, id := range ids {
				wrote := client.Get(t.Context(), key+id).Val()
				ttl := client.TTL(t.Context(), key+id).Val()
				r, err := b.Load(t.Context(), id)
				if err != nil {
					t.Errorf("%s: Load: %v", id, err)
					continue
				}
				client.Del(t.Context(), key+id)
				if err := b.Store(t.Context(), resultbackend.Record{Result: r}); err != nil {
					t.Errorf("%s: Store: %v", id, err)
				}
				again := client.Get(t.Context(), key+id).Val()
				if serializer == "yaml" { // Python reads ours, which is not laid out as its own
					if !sameDocument(t, serializer, again, wrote) {
						t.Errorf("%s: Python wrote\n%q\nwe mean\n%q", id, wrote, again)
					}
				} else if again != wrote {
					t.Errorf("%s: Python wrote\n%q\nwe write\n%q", id, wrote, again)
				}
				if again := client.TTL(t.Context(), key+id).Val(); again.Round(30*time.Second) != ttl.Round(30*time.Second) {
					t.Errorf("%s: TTL %v, Python's %v", id, again, ttl)
				}
				packed, err := b.Load(t.Context(), "gz-"+id)
				if err != nil {
					t.Errorf("gz-%s: Load: %v", id, err)
					continue
				}
				if raw := client.Get(t.Context(), key+"gz-"+id).Val(); !strings.HasPrefix(raw, "\x00celery-compressed\x00") {
					t.Errorf("gz-%s is not compressed: %q", id, raw)
				}
				packed.TaskID, packed.DateDone = r.TaskID, r.DateDone
				if one, two := document(t, r), document(t, packed); one != two {
					t.Errorf("gz-%s reads as\n%s\nwant\n%s", id, two, one)
				}
			}
		})
	}
}

func sameDocument(t *testing.T, serializer string, docs ...string) bool {
	t.Helper()
	var read [2]string
	for i, doc := range docs {
		r, err := protocol.DecodeResult(serializer, []byte(doc), protocol.Limits{})
		if err != nil {
			t.Fatalf("DecodeResult(%q): %v", doc, err)
		}
		read[i] = document(t, r)
	}
	return read[0] == read[1]
}

func document(t *testing.T, r protocol.Result) string {
	t.Helper()
	data, err := r.Encode(protocol.Encoding{})
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	return string(data)
}
