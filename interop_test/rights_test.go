package interop_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// documented is what docs/security.md tells the owner of a server to write, with the queue's name put in.
func documented(t *testing.T, what, queue string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- " + regexp.QuoteMeta(what) + " -->\n+```\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("docs/security.md has no block %q", what)
	}
	return strings.Fields(strings.ReplaceAll(string(m[1]), "QUEUE", queue))
}

// redisCommand sends one command and returns the reply as it came.
func redisCommand(t *testing.T, addr string, args ...string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if line[0] == '*' && line != "*0\r\n" { // for a person to read
		c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		more, _ := io.ReadAll(r)
		line += string(more)
	}
	return strings.TrimSpace(line)
}

// everything is a day of a worker and its callers: results, retries, times, chains, chords, commands, events, what is
// broken and what fails. W is the worker's node.
const everything = `
	from celery import chord
	import threading
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
	assert [add.apply_async((i,), queue=Q).get(timeout=60) for i in range(3)] == [1, 2, 3]
	assert retry.apply_async((2, 0), queue=Q).get(timeout=60) == 2
	assert add.apply_async((1,), queue=Q, countdown=1).get(timeout=60) == 2
	raises(ValueError, "boom", fail.apply_async(queue=Q).get, timeout=60)
	on = lambda s: s.set(queue=Q)
	assert (on(add.s(1)) | on(add.s()) | on(add.s())).apply_async().get(timeout=60) == 4
	if not app.conf.result_backend.startswith("rpc"):
	    c = chord([on(add.s(i)) for i in range(3)], on(echo.s())).apply_async()
	    assert c.get(timeout=60)["args"] == [[1, 2, 3]]
	    p = progress.apply_async((2, 0.1), queue=Q)
	    p.get(timeout=60)
	i = app.control.inspect(timeout=60, destination=[W])
	assert i.ping() == {W: {"ok": "pong"}}
	assert i.stats() and i.conf() and i.active_queues()
	with app.connection_for_write() as connection:
	    connection.Producer().publish("no task", routing_key=Q)
	wait(lambda: left(Q + ".quarantine") == 1, 40)
	wait(lambda: [e for e in seen if e["type"] == "task-succeeded" and e["hostname"] == W], 40)
	wait(lambda: [e for e in seen if e["type"] == "worker-heartbeat" and e["hostname"] == W], 40)
`

func TestTheDocumentedRightsOnRedisSuffice(t *testing.T) {
	need(t)
	t.Parallel()
	if celeryInstead {
		t.Skip("about Stalk's rights")
	}
	server := testservers.Redis(t)
	queue := unique("acl")
	for _, user := range []string{"worker", "producer"} {
		args := append([]string{"ACL", "SETUSER", user, "on", ">secret"}, documented(t, "redis "+user, queue)...)
		if got := redisCommand(t, server.Addr, args...); got != "+OK" {
			t.Fatalf("%s: %s", user, got)
		}
	}
	// redis-py introduces itself, from Redis 7.2 on, and takes a refusal, which would stand in the log below. Older
	// servers refuse this line: they have no such command.
	redisCommand(t, server.Addr, "ACL", "SETUSER", "producer", "+client|setinfo")
	as := func(user string) setup {
		url := "redis://" + user + ":secret@" + server.Addr + "/0"
		return setup{name: user, broker: url, backend: url}
	}
	w := as("worker").stalk(t, queue, "-E")
	names := map[string]any{"W": w.name + "@test"}
	// Monitors and whoever steers workers have more to do than a producer: the default user plays them.
	everybody := setup{name: "all", broker: server.URL + "/0", backend: server.URL + "/0"}
	everybody.python(t, queue).run(everything, names)
	// What comes again, as after the death of a worker, has its starts counted.
	everybody.python(t, queue).run(`
		import json
		R = app.backend.client
		r = add.apply_async((7,), queue=Q + "-again")
		m = json.loads(R.rpop(Q + "-again"))
		m["headers"]["redelivered"] = m["properties"]["delivery_info"]["redelivered"] = True
		m["properties"]["delivery_info"]["routing_key"] = Q
		R.lpush(Q, json.dumps(m))
		assert r.get(timeout=60) == 8
	`)
	as("producer").python(t, queue).run(`
		assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
		assert AsyncResult(add.apply_async((2,), queue=Q, countdown=1).id).get(timeout=60) == 3
		assert (add.s(1).set(queue=Q) | add.s().set(queue=Q)).apply_async().get(timeout=60) == 3
		from celery import chord
		assert chord([add.s(1).set(queue=Q)] * 2, echo.s().set(queue=Q)).apply_async().get(timeout=60)["args"] == [[2, 2]]
		r = sleep.apply_async((0,), queue=Q)
		r.get(timeout=60)
		r.forget()
	`)
	w.stop()
	if log := redisCommand(t, server.Addr, "ACL", "LOG"); log != "*0" {
		t.Errorf("Redis refused something:\n%s", strings.ReplaceAll(log, "\r\n", " "))
	}
	if bytes := string(w.output()); strings.Contains(bytes, "NOPERM") {
		t.Error("the worker met a right that is missing")
	}
}

// A right that is missing is one the owner forgot: the worker says which, does not flood the log, and what could not
// be done meanwhile is done once the right is there. STALK_RIGHTS=all tries every right of the document.
func TestAMissingRightOnRedisIsNamedAndLosesNothing(t *testing.T) {
	need(t)
	if celeryInstead {
		t.Skip("about Stalk's rights")
	}
	rights := documented(t, "redis worker", "QUEUE")
	for _, right := range rights {
		if right == "-@all" || right == "resetchannels" || os.Getenv("STALK_RIGHTS") != "all" && !chosenRights[right] {
			continue
		}
		t.Run(strings.Map(func(r rune) rune {
			if strings.ContainsRune("~&+*?|/", r) {
				return '_'
			}
			return r
		}, right), func(t *testing.T) {
			t.Parallel()
			server, queue := testservers.Redis(t), unique("less")
			var less []string
			for _, r := range rights {
				if r != right {
					less = append(less, strings.ReplaceAll(r, "QUEUE", queue))
				}
			}
			grant := func(rights []string) {
				if got := redisCommand(t, server.Addr, append([]string{"ACL", "SETUSER", "worker", "reset", "on", ">secret"}, rights...)...); got != "+OK" {
					t.Fatal(got)
				}
			}
			grant(less)
			url := server.URL + "/0"
			p := setup{name: "all", broker: url, backend: url}.python(t, queue)
			limited := "redis://worker:secret@" + server.Addr + "/0"
			w := setup{name: "worker", broker: limited, backend: limited}.startStalk(t, queue, "-E", "--heartbeat-interval", "1")
			p.run(`sent = [add.apply_async((i,), queue=Q) for i in range(5)]; slow = retry.apply_async((1, 0), queue=Q)`)
			refused := func() int { return strings.Count(string(w.output()), "NOPERM") }
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && refused() == 0; {
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(time.Second) // how much more it says
			n := refused()
			grant(documented(t, "redis worker", queue))
			p.run(`
				assert [r.get(timeout=60) for r in sent] == [1, 2, 3, 4, 5]
				assert slow.get(timeout=60) == 1
				assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			`)
			t.Logf("%s: named %d times", right, n)
			if n > 20 {
				t.Errorf("without %s the log says so %d times in seconds", right, n)
			}
			w.stop()
		})
	}
}

// chosenRights are those tried when not all are.
var chosenRights = map[string]bool{
	"+evalsha": true, "+lpush": true, "+blmove": true, "+publish": true, "+psubscribe": true, "+set": true,
	"~QUEUE": true, "~unacked": true, "~_kombu.binding.*": true, "~celery-task-meta-*": true, "&/0.celery.pidbox": true,
}

// rabbitUser is a user of RabbitMQ with the documented rights.
func rabbitUser(t *testing.T, who, queue string) testservers.RabbitMQUser {
	p := documented(t, "rabbitmq "+who, queue)
	if len(p) != 3 {
		t.Fatalf("%d patterns for %s, want configure, write and read", len(p), who)
	}
	return testservers.RabbitMQUser{Name: who, Password: "secret", Configure: p[0], Write: p[1], Read: p[2]}
}

func TestTheDocumentedRightsOnRabbitMQSuffice(t *testing.T) {
	need(t)
	t.Parallel()
	if celeryInstead {
		t.Skip("about Stalk's rights")
	}
	queue := unique("perm")
	full := rabbitUser(t, "worker", queue)
	lacking := map[string]testservers.RabbitMQUser{}
	for name, change := range map[string]func(*testservers.RabbitMQUser){
		"configure": func(u *testservers.RabbitMQUser) { u.Configure = "^$" },
		"write":     func(u *testservers.RabbitMQUser) { u.Write = "^$" },
		"read":      func(u *testservers.RabbitMQUser) { u.Read = "^$" },
		"pidbox": func(u *testservers.RabbitMQUser) {
			for _, p := range []*string{&u.Configure, &u.Write, &u.Read} {
				*p = strings.ReplaceAll(*p, `|.*celery\.pidbox`, "")
			}
		},
		"celeryev": func(u *testservers.RabbitMQUser) {
			for _, p := range []*string{&u.Configure, &u.Write, &u.Read} {
				*p = strings.ReplaceAll(*p, `|celeryev.*`, "")
			}
		},
		"write.default": func(u *testservers.RabbitMQUser) { u.Write = strings.ReplaceAll(u.Write, `amq\.default|`, "") },
	} {
		q := unique("less")
		u := rabbitUser(t, "worker", q)
		u.Name = q
		change(&u)
		lacking[name] = u
	}
	o := testservers.RabbitMQOptions{Users: []testservers.RabbitMQUser{full, rabbitUser(t, "producer", queue)}}
	for _, u := range lacking {
		o.Users = append(o.Users, u)
	}
	server := testservers.RabbitMQWith(t, o)
	as := func(user, backend string) setup {
		return setup{name: user, broker: "amqp://" + user + ":secret@" + server.Addr + "//", backend: backend}
	}
	guest := setup{name: "guest", broker: server.URL, backend: redisURL}
	t.Run("all of them", func(t *testing.T) {
		t.Parallel()
		w := as("worker", redisURL).stalk(t, queue, "-E")
		guest.python(t, queue).run(everything, map[string]any{"W": w.name + "@test"})
		w.stop()
		if log := string(w.output()); strings.Contains(log, "ACCESS_REFUSED") {
			t.Error("the worker met a right that is missing")
		}
		w = as("worker", "rpc://").stalk(t, queue)
		as("producer", "rpc://").python(t, queue).run(`
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			assert (add.s(1).set(queue=Q) | add.s().set(queue=Q)).apply_async().get(timeout=60) == 3
		`)
		w.stop()
	})
	for name, u := range lacking {
		t.Run("without "+name, func(t *testing.T) {
			t.Parallel()
			w := as(u.Name, redisURL).startStalk(t, u.Name, "-E", "--heartbeat-interval", "1")
			p := guest.python(t, u.Name)
			p.run(`sent = [add.apply_async((i,), queue=Q) for i in range(5)]; slow = retry.apply_async((1, 0), queue=Q)`)
			w.waitLog("ACCESS_REFUSED")
			time.Sleep(3 * time.Second) // how much more it says
			if n := strings.Count(string(w.output()), "ACCESS_REFUSED"); n > 30 {
				t.Errorf("the log says %d times in seconds that a right is missing", n)
			} else {
				t.Logf("said %d times", n)
			}
			right := rabbitUser(t, "worker", u.Name)
			if _, err := server.Ctl(t.Context(), "set_permissions", u.Name, right.Configure, right.Write, right.Read); err != nil {
				t.Fatal(err)
			}
			p.run(`
				assert [r.get(timeout=90) for r in sent] == [1, 2, 3, 4, 5]
				assert slow.get(timeout=90) == 1
				assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			`)
			w.stop()
		})
	}
}
