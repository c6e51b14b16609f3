package interop_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestADamagedResultStoreDeafensNobody: where a task's record or the keys of its chord are to be stands something else, of
// every type and text. Results replace what is no record; a chord that cannot be counted fails, and its caller is told. There
// are more of each than places for finished tasks: one that waited for better would leave the worker deaf.
func TestADamagedResultStoreDeafensNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery's callers wait for ever")
		}
		queue := unique("damaged")
		w := s.startProgram(t, plain(t), queue)
		w.waitReady()
		p := s.python(t, queue)
		p.runFor(5*time.Minute, `
			import json
			client = app.backend.client
			types = [
			    ("list", lambda k: client.rpush(k, "x")), ("hash", lambda k: client.hset(k, "a", "b")), ("set", lambda k: client.sadd(k, "x")), ("zset", lambda k: client.zadd(k, {"x": 1})),
			    ("stream", lambda k: client.xadd(k, {"a": "b"})), ("bits", lambda k: client.setbit(k, 1000, 1)),
			]
			texts = [b"", b"null", b"[]", b"5", b"{}", b"{", b"\xff\xfe", b'{"status": 5}', b'{"status": null, "result": null}', b'{"status": "NONSENSE", "result": 1}', b"[" * 10000, b'{"status": "STARTED"', b'"SUCCESS"',
			         b'{"status": "PENDING", "result": {}, "traceback": 5, "children": "x", "date_done": {}}', b"x" * 1000000]
			places = types + [(repr(text[:30]), lambda k, text=text: client.set(k, text)) for text in texts]

			records = []
			for what, damage in places:
			    id = str(uuid.uuid4())
			    damage("celery-task-meta-" + id)
			    records.append((what, app.send_task("diff.add", (1, 2), queue=Q, task_id=id)))
			def replaced(r):
			    try:
			        return client.type("celery-task-meta-" + r.id) == b"string" and r.status == "SUCCESS"
			    except Exception:  # what stands there is still the damage, which Celery's reader does not survive
			        return False
			for what, r in records:
			    assert wait(lambda: replaced(r), 60), what
			    assert r.get(timeout=60) == 3, what

			chords = []
			for suffix in (".j", ".d", ".t", ".s", ".c", ""):
			    for what, damage in places:
			        gid, bid = str(uuid.uuid4()), str(uuid.uuid4())
			        key = "celery-taskset-meta-" + gid
			        body = signature("diff.add", args=(1,), kwargs={}, immutable=True, queue=Q, task_id=bid)
			        body["chord_size"] = 2
			        client.set(key + ".s", 2)
			        client.delete(key + suffix)
			        damage(key + suffix)
			        parts = [app.send_task("diff.add", (i, 1), queue=Q, group_id=gid, group_index=i, chord=body) for i in range(2)]
			        chords.append((suffix, what, parts, AsyncResult(bid), key))
			told = {}
			for suffix, what, parts, result, key in chords:
			    assert [r.get(timeout=60) for r in parts] == [1, 2], (suffix, what)
			def states():
			    return {(suffix, what): result.state for suffix, what, parts, result, key in chords}
			# Numbers that are none leave a header that is never complete, as with Celery; every other damage is told.
			wait(lambda: all(state != "PENDING" for (suffix, what), state in states().items() if what in dict(types) and what != "bits" and suffix), 60)
			from collections import Counter
			tallies = {k: Counter(s for (suffix, what), s in states().items() if suffix == k) for k in (".j", ".d", ".t", ".s", ".c", "")}
			assert app.send_task("diff.add", (2, 3), queue=Q).get(timeout=60) == 5
			for suffix, what, parts, result, key in chords:
			    client.delete(*(key + x for x in (".j", ".d", ".t", ".s", ".c", "")))
		`)
		t.Logf("bodies by damaged key: %s", p.run(`value = {k: dict(v) for k, v in tallies.items()}`))
		w.stop()
		if log := string(w.output()); strings.Contains(log, "panic:") {
			t.Error("the worker's log has a panic")
		}
	})
}

// TestADamagedStateFileIsPutAside: the worker starts beside whatever stands in its state file, or refuses to start and
// leaves it alone; it never loses somebody's file and never panics.
func TestADamagedStateFileIsPutAside(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery has a state file of its own kind")
		}
		good := `{"stalk_state":1,"node":"w","saved":"2026-11-21T00:00:00Z","clock":7,"revoked":[{"id":"a","at":"2026-11-21T00:00:00Z"}]}`
		for name, tt := range map[string]struct {
			text   string
			starts bool
		}{
			"cut":            {good[:60], true},
			"zeros":          {strings.Repeat("\x00", 4096), true},
			"another shape":  {`{"stalk_state":1,"revoked":{"a":5}}`, true},
			"no number":      {`{"stalk_state":"one","revoked":[]}`, true},
			"huge clock":     {`{"stalk_state":1,"clock":9223372036854775807,"revoked":[]}`, true},
			"long id":        {`{"stalk_state":1,"revoked":[{"id":"` + strings.Repeat("x", 100000) + `","at":"2026-11-21T00:00:00Z"}]}`, true},
			"deep":           {`{"stalk_state":1,"revoked":` + strings.Repeat("[", 100000), true},
			"newer version":  {`{"stalk_state":99,"revoked":[]}`, false},
			"somebody's":     {"import os\n", false},
			"Python's gdbm":  {"\xce\x9a\x57\x13" + strings.Repeat("\x00", 100), false},
			"Python's shelf": {"SQLite format 3\x00", false},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "state")
				if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
					t.Fatal(err)
				}
				queue := unique("state")
				w := s.startProgram(t, plain(t), queue, "--statedb", path)
				if tt.starts {
					w.waitReady()
					s.python(t, queue).run(`assert app.send_task("diff.add", (2, 3), queue=Q).get(timeout=60) == 5`)
					w.stop()
				} else if code := w.wait(time.Minute); code == 0 {
					t.Error("it ended well")
				}
				kept := 0
				for _, p := range []string{path, path + ".damaged"} {
					if b, err := os.ReadFile(p); err == nil && string(b) == tt.text {
						kept++
					}
				}
				if name != "huge clock" && name != "long id" && kept != 1 {
					t.Error("what stood in the file is gone")
				}
				if log := string(w.output()); strings.Contains(log, "panic:") {
					t.Error("the worker's log has a panic")
				}
			})
		}
	}, onRedis)
}
