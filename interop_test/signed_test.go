package interop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

var canSign = sync.OnceValue(func() error { return exec.Command(python, "-c", "import cryptography").Run() })

// signing returns the setup whose messages, results, events and commands are signed: by us with one key, by Python
// with another. A third key, known to both, is called known, and stranger is one that nobody knows.
func (s setup) signing(t *testing.T) (both setup, known, stranger testservers.Certificate) {
	t.Helper()
	need(t)
	since(t, 5, "the form of signed messages that is spoken here")
	if err := canSign(); err != nil {
		if os.Getenv("INTEROP") == "required" {
			t.Fatalf("no cryptography in %s: %v", python, err)
		}
		t.Skipf("no cryptography in %s: %v", python, err)
	}
	ca, far := testservers.NewAuthority(t), testservers.NewAuthority(t)
	ours, theirs := ca.IssueRSA("store-ours", 24*time.Hour), ca.IssueRSA("store-theirs", 24*time.Hour)
	known, stranger = ca.IssueRSA("store-known", 24*time.Hour), far.IssueRSA("stranger", 24*time.Hour)
	for name, v := range map[string]any{
		"task_serializer": "auth", "result_serializer": "auth", "event_serializer": "auth", "accept_content": []string{"auth"},
		"security_key": ours.Key, "security_certificate": ours.Cert,
		"security_cert_store": filepath.Join(filepath.Dir(ours.Cert), "store-*.pem"),
		// Workers that know no signatures stumble over commands and events that are signed.
		"control_exchange": unique("signed"), "event_exchange": unique("signedev"),
	} {
		s = s.with(name, v)
	}
	return s.withClient("security_key", theirs.Key).withClient("security_certificate", theirs.Cert), known, stranger
}

func TestSignedMessagesBothWays(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		s, _, _ = s.signing(t)
		queue, other := unique("signed"), unique("signed-py")
		w := s.stalk(t, queue, "-E")
		s.celery(t, other)
		p := s.python(t, queue)
		p.run(`
			import threading
			assert app.conf.task_serializer == "auth"
			seen, ready = [], threading.Event()
			def capture():
			    with app.connection_for_read() as connection:
			        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
			        it = receiver.itercapture(wakeup=False)
			        next(it)
			        ready.set()
			        for _ in it: pass
			threading.Thread(target=capture, daemon=True).start()
			assert ready.wait(60)
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			assert retry.apply_async((1, 1), queue=Q).get(timeout=60) == 1
			# Go's follow-up goes to Python, Python's to Go.
			there = (add.s(1).set(queue=Q) | add.s().set(queue=P) | add.s().set(queue=Q)).apply_async()
			assert there.get(timeout=60) == 4
			assert app.control.inspect(timeout=60, destination=[W]).ping() == {W: {"ok": "pong"}}
			wait(lambda: [e for e in seen if e["type"] == "task-succeeded" and e["hostname"] == W], 40)
		`, map[string]any{"P": other, "W": w.name + "@test"})
		if !strings.HasPrefix(s.backend, "rpc") {
			p.run(`
				from celery import chord
				c = chord([add.s(i).set(queue=q) for i in range(4) for q in (Q, P)], echo.s().set(queue=Q)).apply_async()
				assert c.get(timeout=60) == {"args": [[1, 1, 2, 2, 3, 3, 4, 4]], "kwargs": {}}, c.get()
			`, map[string]any{"P": other})
			got := s.commandLine(t, "call", "demo.add", "--args", "[41]", "--queue", other)
			p.run(`assert AsyncResult(i).get(timeout=60) == 42`, map[string]any{"i": strings.TrimSpace(got.out)})
			if got := s.commandLine(t, "inspect", "ping", "-t", "20", "-d", w.name+"@test"); got.code != 0 {
				t.Errorf("stalk inspect: %+v", got)
			}
		}
		w.stop()
	})
}

func TestWhatIsNotSignedByAKnownKeyIsRefusedKeptAndTold(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery's worker acknowledges and drops such a message")
		}
		s, known, stranger := s.signing(t)
		queue := unique("unsigned")
		w := s.stalk(t, queue)
		s.python(t, queue).run(`
			import base64
			from celery.security.certificate import Certificate, FSCertStore
			from celery.security.key import PrivateKey
			from celery.security.serialization import SecureSerializer
			from kombu.serialization import registry, dumps

			def sign(key, cert):
			    s = SecureSerializer(PrivateKey(open(key).read()), Certificate(open(cert).read()), None)
			    return s.serialize([[1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])

			def send(body, content_type="application/data"):
			    id = str(uuid.uuid4())
			    with app.connection_for_write() as connection:
			        connection.Producer().publish(body, routing_key=Q, content_type=content_type, content_encoding="utf-8",
			            headers={"lang": "py", "task": "demo.add", "id": id, "root_id": id, "parent_id": None, "group": None}, correlation_id=id)
			    return AsyncResult(id)

			good = sign(*known)
			raw = base64.b64decode(good)
			cases = {
			    "unsigned json": (send('[[1], {}, {}]', "application/json"), "ContentDisallowed", "demo.add"),
			    "unsigned in disguise": (send('[[1], {}, {}]'), "SecurityError", "not signed"),
			    "another body": (send(base64.b64encode(raw.replace(b"[[1]", b"[[9]")).decode()), "SecurityError", "does not fit"),
			    "unknown signer": (send(sign(*stranger)), "SecurityError", "unknown signer"),
			    "another key": (send(sign(stranger[0], known[1])), "SecurityError", "does not fit"),
			    "cut": (send(good[:-400]), "SecurityError", ""),
			}
			for name, (result, kind, word) in cases.items():
			    exc = raises(kind, None, result.get, timeout=60)
			    assert word in str(exc), "%s: %r" % (name, exc)
			assert send(good).get(timeout=60) == 2 # who may write to the broker may send again what somebody signed
			wait(lambda: left(Q + ".quarantine") == len(cases))
		`, map[string]any{"known": []string{known.Key, known.Cert}, "stranger": []string{stranger.Key, stranger.Cert}})
		w.waitLog("unknown signer")
		w.stop()
	})
}
