package interop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSmallMessagesTakeBoundedMemory: what a few hundred kilobytes can grow to when they are read is bounded. Each bomb has a
// worker of its own, whose peak memory is looked at before and after; a good task behind the bomb is answered, and
// the bomb's caller is told. docs/limits.md has the table; POISON_LONG=1 runs all of
// it.
func TestSmallMessagesTakeBoundedMemory(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("these take Celery gigabytes")
		}
		s = s.with("accept_content", []string{"json", "msgpack", "yaml"})
		queue := unique("bombs")
		p := s.python(t, queue)
		p.run(`
			import base64, bz2, json, lzma, zlib
			client = app.backend.client
			def bomb(body, content_type="application/json", compression=None):
			    id = str(uuid.uuid4())
			    headers = {"task": "demo.add", "id": id, "lang": "py"}
			    if compression:
			        headers["compression"] = compression
			    client.lpush(Q, json.dumps({"body": base64.b64encode(body).decode(), "content-encoding": "utf-8", "content-type": content_type, "headers": headers,
			        "properties": {"body_encoding": "base64", "delivery_tag": id, "delivery_info": {"exchange": "", "routing_key": Q}}}))
			    good = app.send_task("demo.add", (1,), queue=Q)
			    assert good.get(timeout=100) == 2
			    state = wait(lambda: (AsyncResult(id).state != "PENDING") and AsyncResult(id).state, 100)
			    left = client.llen(Q + ".quarantine")
			    client.delete(Q + ".quarantine", "celery-task-meta-" + id)
			    return [len(body), state, left]
			def body(inner, n, last):
			    return b"[[" + (inner + b",") * n + last + b"],{},{}]"
			M = 1000000
		`)
		for _, tt := range []struct {
			name, code string
			slow       bool // only with POISON_LONG
		}{
			{"nothing", `b"[[1],{},{}]"`, false},
			{"zlib: a text of 120 MB", `zlib.compress(b'[["' + b"x" * (120 * M) + b'"],{},{}]', 9), compression="application/x-gzip"`, false},
			{"zlib: a text of 300 MB", `zlib.compress(b'[["' + b"x" * (300 * M) + b'"],{},{}]', 9), compression="application/x-gzip"`, true},
			{"zlib: 40 million empty lists", `zlib.compress(body(b"[]", 40 * M, b"[]"), 9), compression="application/x-gzip"`, true},
			{"zlib: 1.2 million empty objects", `zlib.compress(body(b"{}", 1200000, b"{}"), 9), compression="application/x-gzip"`, false},
			{"zlib: 4.9 million numbers", `zlib.compress(body(b"1.5", 4900000, b"1"), 9), compression="application/x-gzip"`, true},
			{"zlib: 3 million short texts", `zlib.compress(body(b'"ab"', 3000000, b"1"), 9), compression="application/x-gzip"`, true},
			{"zlib: 1 million keys", `zlib.compress(b"[[{" + b",".join(b'"%d":1' % i for i in range(M)) + b"}],{},{}]", 9), compression="application/x-gzip"`, true},
			{"bzip2: 127 MB", `bz2.compress(b'[["' + b"x" * (127 * M) + b'"],{},{}]'), compression="application/x-bz2"`, true},
			{"xz: 300 MB", `lzma.compress(b'[["' + b"x" * (300 * M) + b'"],{},{}]', preset=0), compression="application/x-lzma"`, true},
			{"plain: 2 million numbers", `body(b"7", 2 * M, b"7")`, false},
			{"yaml: laughs", `b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 110)), "application/x-yaml"`, false},
			{"yaml: 300 kB of lists", `b"- [" + b"[]," * 100000 + b"]\n- {}\n- {}\n", "application/x-yaml"`, false},
			{"msgpack: 4 billion declared", `b"\x93\xdd\xff\xff\xff\xff\x80\x80", "application/x-msgpack"`, false},
			{"msgpack: a million nulls", `b"\x93\xdd\x00\x0f\x42\x40" + b"\xc0" * M + b"\x80\x80", "application/x-msgpack"`, false},
		} {
			if tt.slow && os.Getenv("POISON_LONG") == "" {
				continue
			}
			w := s.startProgram(t, plain(t), queue, "-c", "1")
			w.waitReady()
			before := w.peakMemory()
			began := time.Now()
			told := string(p.runFor(5*time.Minute, "value = bomb("+tt.code+")"))
			grown := w.peakMemory() - before
			t.Logf("%-32s %-28s %4d MiB more than %d, %v", tt.name, told, grown>>20, before>>20, time.Since(began).Round(10*time.Millisecond))
			if grown > 1200<<20 {
				t.Errorf("%s: the worker grew by %d MiB", tt.name, grown>>20)
			}
			if strings.Contains(fmt.Sprint(told), "SUCCESS") && tt.name != "nothing" {
				t.Errorf("%s: %s", tt.name, told)
			}
			w.kill()
		}
	}, onRedis)
}

// TestAResultPastTheLimitIsAFailure: a result that is too large to be stored fails its task, and the caller reads why.
func TestAResultPastTheLimitIsAFailure(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery has no limit")
		}
		queue := unique("large")
		s.stalk(t, queue, "--max-result", "100k", "--max-body", "1M", "--max-values", "1000", "--max-depth", "20")
		s.python(t, queue).run(`
			assert echo.apply_async(("x" * 90000,), queue=Q).get(timeout=60)["args"] == ["x" * 90000]
			exc = raises("BackendStoreError", None, echo.apply_async(("x" * 200000,), queue=Q).get, timeout=60)
			assert "102400" in str(exc), exc
			for argument, limit in (("x" * 1100000, "1048576"), ([1] * 1000, "values"), ([[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]], "deep")):
			    exc = raises("DecodeError", None, echo.apply_async((argument,), queue=Q).get, timeout=60)
			    assert limit in str(exc), exc
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			wait(lambda: left(Q + ".quarantine") == 3)
		`)
	})
}
