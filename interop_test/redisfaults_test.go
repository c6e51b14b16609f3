package interop_test

import (
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
)

// What becomes of a worker and its tasks when Redis fails, as broker and as result store. The servers are private;
// Python talks to them directly, the worker through a proxy.

// faulty is a setup on a private Redis, its worker behind a proxy for broker and results.
func faulty(t *testing.T, args ...string) (s, behind setup, server *testservers.Server, p *faultproxy.Proxy) {
	t.Helper()
	need(t)
	t.Parallel()
	if celeryInstead {
		t.Skip("Celery's worker ends at many of these")
	}
	server = testservers.Redis(t, args...)
	s = setup{name: "redis", broker: server.URL + "/0", backend: server.URL + "/1"}.rescuing()
	p = faultproxy.New(t, server.Addr)
	behind = s
	behind.broker, behind.backend = p.Through(t, s.broker), p.Through(t, s.backend)
	return s, behind, server, p
}

// results waits for all of ids in a session that was not disturbed by what happened.
func (s setup) results(t *testing.T, queue string, ids []string, want string) {
	t.Helper()
	s.python(t, queue).run(`assert [AsyncResult(i).get(timeout=90) for i in ids] == `+want, map[string]any{"ids": ids})
}

// TestRedisRestartsTwentyTimesUnderLoad: killed, with its data on disk. Nothing is lost, and each time the worker is
// back about a second after the port answers.
func TestRedisRestartsTwentyTimesUnderLoad(t *testing.T) {
	s, _, server, _ := faulty(t, "--appendonly", "yes", "--appendfsync", "always")
	queue := unique("twenty")
	p := s.python(t, queue)
	ids := p.strings(`value = [r.id for r in [sleep.apply_async((0.05,), queue=Q) for i in range(400)] + [retry.apply_async((1, 0.5), queue=Q) for i in range(20)]]`)
	w := s.stalk(t, queue)
	var worst, sum time.Duration
	for i := range 20 {
		w.waitLogs("succeeded in", 10*(i+1))
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		answered := time.Now()
		w.waitLogs("Connected to ", i+2)
		took := time.Since(answered)
		worst, sum = max(worst, took), sum+took
	}
	t.Logf("back after %v on average, %v at worst", (sum / 20).Round(time.Millisecond), worst.Round(time.Millisecond))
	if worst > time.Minute { // about a second, on a machine that has nothing else to do
		t.Errorf("it took %v to be back", worst)
	}
	s.results(t, queue, ids, `[0.05] * 400 + [1] * 20`)
	t.Logf("420 tasks: %d received, 0 lost", countLog(w, "] received"))
	p.run(`wait(lambda: app.control.ping(destination=[NODE], timeout=2), 40)`, map[string]any{"NODE": w.name + "@test"})
	w.stop()
}

// TestEveryFaultOfRedisPasses: one worker lives through all of them, and after each its tasks have their results, a new
// task is run, and remote control answers.
func TestEveryFaultOfRedisPasses(t *testing.T) {
	s, behind, server, proxy := faulty(t)
	queue := unique("faults")
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := s.python(t, queue)
	p.run(`
		import redis
		R = redis.Redis.from_url(SERVER)
		R.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
	`, map[string]any{"SERVER": "redis://" + u.Host + "/0"})
	for _, at := range []*string{&behind.broker, &behind.backend} {
		v, err := url.Parse(*at)
		if err != nil {
			t.Fatal(err)
		}
		v.User = url.UserPassword("app", "pw")
		*at = v.String()
	}
	w := behind.stalk(t, queue)
	names := map[string]any{"NODE": w.name + "@test"}
	python := func(code string) func() { return func() { p.run(code) } }
	pid := server.PID()
	for _, f := range []struct {
		name       string
		begin, end func()
		hold       time.Duration
	}{
		{"cut", proxy.Cut, nil, 0},
		{"half of a command", func() { proxy.CutAfter(faultproxy.ToServer, 50) }, nil, time.Second},
		{"half of an answer", func() { proxy.CutAfter(faultproxy.ToClient, 20) }, nil, time.Second},
		{"refused for a while", func() { proxy.Refuse(true) }, func() { proxy.Refuse(false) }, 2 * time.Second},
		{"slow", func() { proxy.Slow(8<<10, 20*time.Millisecond) }, func() { proxy.Slow(0, 0) }, 2 * time.Second},
		{"frozen to us", func() { proxy.Freeze(faultproxy.ToClient) }, proxy.Thaw, 8 * time.Second},
		{"frozen to the server", func() { proxy.Freeze(faultproxy.ToServer) }, proxy.Thaw, 8 * time.Second},
		{"stopped", func() { syscall.Kill(pid, syscall.SIGSTOP) }, func() { syscall.Kill(pid, syscall.SIGCONT) }, 8 * time.Second},
		{"OOM", python(`R.config_set("maxmemory", 1)`), python(`R.config_set("maxmemory", 0)`), 2 * time.Second},
		{"READONLY", python(`R.replicaof("127.0.0.1", 1)`), python(`R.replicaof("NO", "ONE")`), 2 * time.Second},
		{"NOREPLICAS", python(`R.config_set("min-replicas-to-write", 1)`), python(`R.config_set("min-replicas-to-write", 0)`), 2 * time.Second},
		{"NOPERM", python(`R.execute_command("ACL", "SETUSER", "app", "-@all", "+ping")`), python(`R.execute_command("ACL", "SETUSER", "app", "+@all")`), 2 * time.Second},
		{"WRONGPASS", python(`
			R.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
			R.client_kill_filter(user="app")
		`), python(`R.execute_command("ACL", "SETUSER", "app", ">pw")`), 2 * time.Second},
		{"CLIENT KILL", python(`R.client_kill_filter(user="app")`), nil, 0},
		{"CLIENT PAUSE", python(`R.execute_command("CLIENT", "PAUSE", 2000)`), nil, 2 * time.Second},
		{"maxclients", python(`R.config_set("maxclients", 3); R.client_kill_filter(user="app")`), python(`R.config_set("maxclients", 1000)`), 2 * time.Second},
		{"SCRIPT FLUSH", python(`R.script_flush()`), nil, 0},
	} {
		if f.name == "frozen to the server" && os.Getenv("STALK_LONG") == "" {
			continue // the driver's own tests have it
		}
		ids := p.strings(`value = [r.id for r in [sleep.apply_async((0.3,), queue=Q) for i in range(4)] + [retry.apply_async((1, 0.2), queue=Q) for i in range(2)]]`)
		p.run(`wait(lambda: any(AsyncResult(i).state != "PENDING" for i in ids) or R.hlen("unacked"), 40)`, map[string]any{"ids": ids})
		f.begin()
		time.Sleep(f.hold) // the fault's own length
		if f.end != nil {
			f.end()
		}
		began := time.Now()
		s.results(t, queue, append(ids, p.strings(`value = [add.apply_async((1,), queue=Q).id]`)...), `[0.3] * 4 + [1] * 2 + [2]`)
		served := time.Since(began)
		p.run(`wait(lambda: app.control.ping(destination=[NODE], timeout=1), 60)`, names)
		t.Logf("%s: all results %v after its end, remote control %v", f.name, served.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
	}
	w.stop()
}

// TestTheResultStoreHangsOrIsAwayForLong: results of that time are there afterwards, and no task is acknowledged before.
func TestTheResultStoreHangsOrIsAwayForLong(t *testing.T) {
	long := 12 * time.Second
	if os.Getenv("STALK_LONG") != "" {
		long = 30 * time.Second
	}
	for name, fault := range map[string]func(p *faultproxy.Proxy, on bool){
		"away": func(p *faultproxy.Proxy, on bool) { p.Refuse(on) },
		"hung": func(p *faultproxy.Proxy, on bool) {
			if p.Freeze(faultproxy.Both); !on {
				p.Thaw()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, behind, _, _ := faulty(t)
			store := testservers.Redis(t)
			s.backend = store.URL
			proxy := faultproxy.New(t, store.Addr)
			behind.broker, behind.backend = s.broker, proxy.Through(t, s.backend)
			queue := unique("store")
			p := s.python(t, queue)
			w := behind.stalk(t, queue)
			p.run(`
				import redis
				R = redis.Redis.from_url(SERVER)
				assert add.apply_async((0,), queue=Q).get(timeout=60) == 1
				wait(lambda: not R.hlen("unacked"), 40)
			`, map[string]any{"SERVER": s.broker})
			fault(proxy, true)
			const total = 200
			ids := p.strings(`value = [add.apply_async((i,), queue=Q).id for i in range(200)]`)
			w.waitLogs("result not stored yet", 1)
			time.Sleep(long)
			var unsettled int
			p.value(`value = R.llen(Q) + R.hlen("unacked")`, &unsettled)
			if unsettled != total {
				t.Errorf("%d of %d tasks are unsettled while no result could be stored", unsettled, total)
			}
			fault(proxy, false)
			began := time.Now()
			s.results(t, queue, ids, `list(range(1, 201))`)
			t.Logf("all %d results %v after the store was back; %d received", total, time.Since(began).Round(10*time.Millisecond), countLog(w, "] received"))
			w.stop()
		})
	}
}

// TestAShutdownWhileRedisIsAwayOrFrozenEnds: within its bounds, with the right code, and without a connection left.
func TestAShutdownWhileRedisIsAwayOrFrozenEnds(t *testing.T) {
	for name, fault := range map[string]func(p *faultproxy.Proxy){
		"away":   func(p *faultproxy.Proxy) { p.Refuse(true) },
		"frozen": func(p *faultproxy.Proxy) { p.Freeze(faultproxy.Both) },
	} {
		t.Run(name, func(t *testing.T) {
			s, behind, _, proxy := faulty(t)
			queue := unique("end")
			p := s.python(t, queue)
			w := behind.stalk(t, queue)
			ids := p.strings(`value = [r.id for r in [sleep.apply_async((1,), queue=Q) for i in range(6)]]`)
			w.waitActive(p)
			fault(proxy)
			w.signal(syscall.SIGTERM)
			began := time.Now()
			code := w.wait(90 * time.Second)
			t.Logf("ended with code %d after %v", code, time.Since(began).Round(10*time.Millisecond))
			if code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			proxy.Thaw()
			proxy.Refuse(false)
			for deadline := time.Now().Add(20 * time.Second); proxy.Conns() > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d connections are left", proxy.Conns())
				}
			}
			next := s.stalk(t, queue)
			s.results(t, queue, ids, `[1] * 6`)
			next.stop()
		})
	}
}
