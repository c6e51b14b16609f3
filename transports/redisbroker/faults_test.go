package redisbroker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// Faults of the server itself, on servers of the test's own. What the network does to us is tested beside them.

// privateRig is a rig on a server that nobody else uses.
func privateRig(t *testing.T, args ...string) (*rig, *testservers.Server) {
	t.Helper()
	s := testservers.Redis(t, args...)
	return rigOn(t, s.Addr, "", 0), s
}

// besideRig is for tests that run beside others.
func besideRig(t *testing.T) *rig {
	t.Helper()
	addr, password, db := server(t)
	return bareRig(t, addr, password, db)
}

// proxied puts a proxy between the rig's transports and its server.
func (r *rig) proxied() *faultproxy.Proxy {
	p := faultproxy.New(r.T, r.raw.Options().Addr)
	r.url = fmt.Sprintf("redis://%s/%d", p.Addr(), r.db)
	return p
}

func (r *rig) config(name, value string) {
	r.Helper()
	if err := r.raw.ConfigSet(r.ctx, name, value).Err(); err != nil {
		r.Fatal(err)
	}
}

// said is how often a warning has the text.
func (r *rig) said(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, w := range r.warns {
		if strings.Contains(w, text) {
			n++
		}
	}
	return n
}

func (r *rig) done(c transports.Conn, what string) {
	r.Helper()
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		r.Fatalf("%s is not noticed", what)
	}
}

// A frozen peer is noticed by a ping each second, which has five for its answer; so within 6 seconds, whichever way is
// blocked. The test allows more for a machine that is busy.
func TestAFrozenServerIsNoticedWithinSeconds(t *testing.T) {
	for name, d := range map[string]faultproxy.Direction{"both": faultproxy.Both, "to the server": faultproxy.ToServer, "to us": faultproxy.ToClient} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := besideRig(t)
			p := r.proxied()
			c := r.connect(r.transport(nil))
			k := r.consume(c, 2, queue("q"))
			got := make(chan error, 1)
			go func() { _, err := k.Receive(r.ctx); got <- err }()
			p.Freeze(d)
			began := time.Now()
			r.done(c, "a frozen peer")
			t.Logf("noticed after %v", time.Since(began).Round(10*time.Millisecond))
			if err := <-got; !errors.Is(err, transports.ErrDisconnected) {
				t.Errorf("Receive: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// A server that answers slowly is no broken one.
func TestASlowServerIsNotGivenUp(t *testing.T) {
	t.Parallel()
	r := besideRig(t)
	p := r.proxied()
	c := r.connect(r.transport(nil))
	p.Slow(4<<10, 50*time.Millisecond)
	k := r.consume(c, 4, queue("q"))
	for i := range 6 {
		r.send(c, "q", fmt.Sprint(i))
		r.settle(r.receive(k).Receipt.Ack(r.ctx))
	}
	select {
	case <-c.Done():
		t.Errorf("given up: %v", c.Err())
	default:
	}
}

// Half of what is said, in the middle of each operation in turn: nothing is lost, and only a publish may be doubled.
func TestHalfOfACommandAndHalfOfAnAnswer(t *testing.T) {
	for _, way := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		for _, at := range []int{1, 7, 40, 150, 400, 900} {
			t.Run(fmt.Sprintf("way %d, %d bytes", way, at), func(t *testing.T) {
				r := newRig(t)
				p := r.proxied()
				tr := r.transport(map[string]any{"unacked_restore_interval": 0.2})
				const total = 6
				for i := range total {
					r.raw.LPush(r.ctx, r.prefix+"q", envelope(fmt.Sprint(i), "", "q", 0))
				}
				seen := map[string]int{}
				sent := 0
				for n := 0; (len(seen) < total+3 || len(r.stash()) > 0) && r.ctx.Err() == nil; n++ {
					c, err := tr.Connect(r.ctx)
					if err != nil {
						continue
					}
					k, err := c.Consume(r.ctx, []transports.Queue{queue("q")}, 2)
					if n < 8 {
						p.CutAfter(way, at+n*11)
					}
					for err == nil && len(seen) < total+3 {
						for ; sent < 3 && err == nil; sent++ {
							if err = c.Publish(r.ctx, transports.Publishing{RoutingKey: "q", Message: message(fmt.Sprint("sent", sent))}); err != nil {
								sent--
							}
						}
						var d *transports.Delivery
						ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
						if d, err = k.Receive(ctx); err == nil {
							seen[d.Message.Properties.CorrelationID]++
							go func() { _ = d.Receipt.Ack(r.ctx) }()
						}
						cancel()
					}
					r.until("all is settled, or waits for the next connection", func() bool {
						if k != nil && len(seen) == total+3 { // a doubled publish
							ctx, cancel := context.WithTimeout(r.ctx, 10*time.Millisecond)
							defer cancel()
							if d, err := k.Receive(ctx); err == nil {
								seen[d.Message.Properties.CorrelationID]++
								go func() { _ = d.Receipt.Ack(r.ctx) }()
							}
						}
						select {
						case <-c.Done():
							return true
						default:
							return len(seen) < total+3 || len(r.stash()) == 0
						}
					})
					_ = c.Close()
				}
				for i := range total {
					if n := seen[fmt.Sprint(i)]; n != 1 {
						t.Errorf("message %d was delivered %d times", i, n)
					}
				}
			})
		}
	}
}

// What was sent over a connection that we gave up may still arrive, when the path comes back: a take, too.
func TestATakeThatHappensLateIsGivenBack(t *testing.T) {
	t.Parallel()
	r := bareRig(t, testservers.Redis(t).Addr, "", 0)
	first, second := faultproxy.New(t, r.raw.Options().Addr), faultproxy.New(t, r.raw.Options().Addr)
	r.url = fmt.Sprintf("redis://%s/%d;redis://%s/%d", first.Addr(), r.db, second.Addr(), r.db)
	tr := r.transport(map[string]any{"unacked_restore_interval": 0.2})
	c := r.connect(tr)
	k := r.consume(c, 4, queue("q"))
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
	_, _ = k.Receive(ctx) // it waits in a BLMOVE by now
	cancel()
	first.Freeze(faultproxy.ToServer)
	go func() { _, _ = k.Receive(r.ctx) }()
	r.raw.LPush(r.ctx, r.prefix+"q", envelope("a", "", "q", 0))
	r.done(c, "a frozen peer")
	_ = c.Close()
	short, stop := context.WithTimeout(r.ctx, time.Second)
	if _, err := tr.Connect(short); err == nil {
		t.Fatal("connected through a frozen proxy")
	}
	stop()
	r.raw.Del(r.ctx, r.prefix+"q")
	next := r.connect(tr)
	k = r.consume(next, 1, queue("other"))
	go func() { _, _ = k.Receive(r.ctx) }()
	r.raw.LPush(r.ctx, r.prefix+"q", envelope("a", "", "q", 0))
	first.Thaw()
	r.until("the late take has happened and was given back", func() bool {
		return len(r.list("q")) == 1 && len(r.stash()) == 0 && late(r) > 0
	})
}

// late is how often a message was pushed back.
func late(r *rig) int { return r.calls("rpush") }

// calls is how often the server has run a command.
func (r *rig) calls(command string) int {
	for line := range strings.Lines(r.raw.Info(r.ctx, "commandstats").Val()) {
		if calls, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			n := 0
			fmt.Sscanf(calls, "%d", &n)
			return n
		}
	}
	return 0
}

// A restart with its data: what was delivered stays ours, what waits is served.
func TestARestartKeepsWhatIsOurs(t *testing.T) {
	r, s := privateRig(t, "--appendonly", "yes", "--appendfsync", "always")
	tr := r.transport(nil)
	c := r.connect(tr)
	r.send(c, "q", "a", "b")
	k := r.consume(c, 1, queue("q"))
	d := r.receive(k)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	r.done(c, "the end of the server")
	_ = c.Close()
	if err := s.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	c = r.connect(tr)
	k = r.consume(c, 2, queue("q"))
	r.settle(d.Receipt.Ack(r.ctx))
	if b := r.receive(k); b.Message.Properties.CorrelationID != "b" {
		t.Errorf("received %q, want b", b.Message.Properties.CorrelationID)
	}
	if n := r.said("without its data"); n != 0 {
		t.Error("the loss of data is told, but nothing is lost")
	}
}

// A restart without data is told of, loudly, and what is sent afterwards is served.
func TestARestartWithoutDataIsToldOf(t *testing.T) {
	r, s := privateRig(t)
	tr := r.transport(nil)
	c := r.connect(tr)
	r.send(c, "q", "a", "b")
	k := r.consume(c, 1, queue("q"))
	d := r.receive(k)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	r.done(c, "the end of the server")
	_ = c.Close()
	if err := s.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	c = r.connect(tr)
	select {
	case <-d.Receipt.Lost():
	default:
		t.Error("the delivery is not said to be lost")
	}
	if err := d.Receipt.Ack(r.ctx); !errors.Is(err, transports.ErrLost) {
		t.Errorf("Ack: %v, want ErrLost", err)
	}
	k = r.consume(c, 1, queue("q"))
	r.send(c, "q", "c")
	if got := r.receive(k); got.Message.Properties.CorrelationID != "c" {
		t.Errorf("received %q", got.Message.Properties.CorrelationID)
	}
	for _, text := range []string{"does not know what it had delivered to us", "has restarted without its data"} {
		if r.said(text) != 1 {
			t.Errorf("%q is said %d times", text, r.said(text))
		}
	}
}

// FLUSHDB under a living connection: told, healed, served.
func TestAFlushedDatabaseIsHealed(t *testing.T) {
	r, _ := privateRig(t)
	tr := r.transport(map[string]any{"visibility_timeout": 0.4})
	redisbroker.SetHealing(tr, 100*time.Millisecond)
	c := r.connect(tr)
	r.send(c, "q", "a")
	k := r.consume(c, 2, queue("q"))
	d := r.receive(k)
	r.raw.FlushDB(r.ctx)
	<-d.Receipt.Lost()
	r.until("the bindings are healed and that is told", func() bool {
		return r.raw.SCard(r.ctx, r.prefix+"_kombu.binding.q").Val() == 1 && r.said("had vanished") == 1
	})
	r.send(c, "q", "b")
	r.settle(r.receive(k).Receipt.Ack(r.ctx))
}

// A replica takes us in and refuses each write: that is no connection. As a master again it is.
func TestAReplicaIsNoBroker(t *testing.T) {
	r, _ := privateRig(t)
	tr := r.transport(nil)
	c := r.connect(tr)
	r.send(c, "q", "a")
	d := r.receive(r.consume(c, 1, queue("q")))
	r.raw.Do(r.ctx, "REPLICAOF", "127.0.0.1", "1")
	if err := c.Publish(r.ctx, transports.Publishing{RoutingKey: "q", Message: message("x")}); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Publish: %v, want ErrDisconnected", err)
	}
	r.done(c, "READONLY")
	_ = c.Close()
	if _, err := tr.Connect(r.ctx); !errors.Is(err, transports.ErrDisconnected) || !strings.Contains(err.Error(), "READONLY") {
		t.Fatalf("Connect: %v, want ErrDisconnected with READONLY", err)
	}
	r.raw.Do(r.ctx, "REPLICAOF", "NO", "ONE")
	c = r.connect(tr)
	r.settle(d.Receipt.Ack(r.ctx))
	r.send(c, "q", "b")
	r.receive(r.consume(c, 1, queue("q")))
}

// A refusal that will end is told from one that will not, taking is refused before anything is popped, and the end of
// it is found within seconds.
func TestARefusalOfTheMoment(t *testing.T) {
	for name, fault := range map[string]struct {
		begin  func(r *rig, dir string)
		end    func(r *rig)
		drains bool
	}{
		"OOM": {
			begin: func(r *rig, _ string) { r.config("maxmemory-policy", "noeviction"); r.config("maxmemory", "1") },
			end:   func(r *rig) { r.config("maxmemory", "0") }, drains: true,
		},
		"NOREPLICAS": {
			begin: func(r *rig, _ string) { r.config("min-replicas-to-write", "1") },
			end:   func(r *rig) { r.config("min-replicas-to-write", "0") },
		},
		"MISCONF": {begin: misconf, end: func(r *rig) { r.config("stop-writes-on-bgsave-error", "no") }},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := privateRig(t)
			c := r.connect(r.transport(nil))
			r.send(c, "q", "a", "b", "c")
			k := r.consume(c, 2, queue("q"))
			held := r.receive(k)
			fault.begin(r, s.Dir())
			err := c.Publish(r.ctx, transports.Publishing{RoutingKey: "q", Message: message("x")})
			if !errors.Is(err, transports.ErrBlocked) {
				t.Errorf("Publish: %v, want ErrBlocked", err)
			}
			if fault.drains {
				r.settle(held.Receipt.Ack(r.ctx))
				r.settle(r.receive(k).Receipt.Ack(r.ctx))
				r.settle(r.receive(k).Receipt.Ack(r.ctx))
			} else {
				if err := held.Receipt.Ack(r.ctx); !errors.Is(err, transports.ErrBlocked) {
					t.Errorf("Ack: %v, want ErrBlocked", err)
				}
				// One may have been taken before; it waits in the consumer.
				r.until("the refusal is told", func() bool {
					ctx, cancel := context.WithTimeout(r.ctx, 100*time.Millisecond)
					defer cancel()
					_, _ = k.Receive(ctx)
					return r.said("refuses to deliver") == 1 || len(r.stash()) == 2
				})
			}
			// A connection can be made meanwhile, or a restarted worker would not come up.
			other := r.connect(r.transport(nil))
			_ = other.Close()
			fault.end(r)
			began := time.Now()
			if !fault.drains {
				r.settle(held.Receipt.Ack(r.ctx))
			}
			r.send(c, "q", "late")
			for d := (*transports.Delivery)(nil); d == nil || d.Message.Properties.CorrelationID != "late"; {
				d = r.receive(k)
				r.settle(d.Receipt.Ack(r.ctx))
			}
			t.Logf("served again after %v", time.Since(began).Round(10*time.Millisecond))
		})
	}
}

// misconf makes the server fail to save, and so refuse writes: a folder is where its file is to be. Rights would not
// do, as the tests may run as root.
func misconf(r *rig, dir string) {
	r.Helper()
	if err := os.MkdirAll(dir+"/dump.rdb/full", 0o755); err != nil {
		r.Fatal(err)
	}
	r.config("save", "3600 1")
	r.raw.BgSave(r.ctx)
	r.until("the save has failed", func() bool {
		return strings.Contains(r.raw.Info(r.ctx, "persistence").Val(), "rdb_last_bgsave_status:err")
	})
}

// Permissions taken away and given back under a living connection.
func TestAPermissionThatIsTakenAway(t *testing.T) {
	for name, tt := range map[string]struct{ less, more string }{
		"scripts":        {"-@scripting", "+@scripting"}, // then without them
		"the hash":       {"-hset", "+hset"},
		"the whole list": {"resetkeys", "~*"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := privateRig(t)
			acl := func(rule string) {
				if err := r.raw.Do(r.ctx, "ACL", "SETUSER", "app", rule).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.raw.Do(r.ctx, "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all").Err(); err != nil {
				t.Fatal(err)
			}
			r.url = strings.Replace(r.url, "redis://", "redis://app:pw@", 1)
			c := r.connect(r.transport(nil))
			k := r.consume(c, 1, queue("q"))
			ctx, cancel := context.WithTimeout(r.ctx, 300*time.Millisecond)
			_, _ = k.Receive(ctx)
			cancel()
			acl(tt.less)
			go r.raw.LPush(r.ctx, r.prefix+"q", envelope("a", "", "q", 0), envelope("b", "", "q", 0))
			if name == "scripts" {
				r.settle(r.receive(k).Receipt.Ack(r.ctx))
			} else {
				go func() {
					r.until("told", func() bool { return r.said("refuses to deliver") > 0 })
					acl(tt.more)
				}()
			}
			d := r.receive(k)
			acl(tt.more)
			r.settle(d.Receipt.Ack(r.ctx))
			if err := c.Err(); err != nil {
				t.Errorf("the connection ended: %v", err)
			}
		})
	}
}

// A password that was rotated: connections that there are go on, new ones are refused, with the new one they are made.
func TestARotatedPasswordIsReadFromItsFile(t *testing.T) {
	r, _ := privateRig(t)
	file := t.TempDir() + "/password"
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	set := func(rules ...any) {
		if err := r.raw.Do(r.ctx, append([]any{"ACL", "SETUSER", "app"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("on", ">first", "~*", "&*", "+@all")
	r.url = strings.Replace(r.url, "redis://", "redis://app@", 1)
	tr := r.transport(map[string]any{"password_file": file})
	c := r.connect(tr)
	r.send(c, "q", "a")
	d := r.receive(r.consume(c, 1, queue("q")))
	set(">second", "<first")
	r.raw.ClientKillByFilter(r.ctx, "USER", "app")
	r.done(c, "CLIENT KILL")
	_ = c.Close()
	if _, err := tr.Connect(r.ctx); !errors.Is(err, transports.ErrCredentials) || strings.Contains(err.Error(), "first") {
		t.Errorf("Connect: %v, want ErrCredentials", err)
	}
	write("second")
	c = r.connect(tr)
	r.settle(d.Receipt.Ack(r.ctx))
	_ = c.Close()
}

// A paused and a stopped server: the connection is given up after seconds, and made again
// afterwards; what was ours stays it, and is settled.
func TestAServerThatHangs(t *testing.T) {
	const hang = 12 * time.Second // twice as long as it takes to be noticed
	for name, begin := range map[string]func(r *rig, s *testservers.Server){
		"CLIENT PAUSE": func(r *rig, _ *testservers.Server) { r.raw.Do(r.ctx, "CLIENT", "PAUSE", hang.Milliseconds()) },
		"SIGSTOP": func(r *rig, s *testservers.Server) {
			pid := s.PID()
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				r.Fatal(err)
			}
			time.AfterFunc(hang, func() { syscall.Kill(pid, syscall.SIGCONT) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testservers.Redis(t)
			r := bareRig(t, s.Addr, "", 0)
			tr := r.transport(map[string]any{"unacked_restore_interval": 0.2})
			c := r.connect(tr)
			r.send(c, "q", "a", "b")
			d := r.receive(r.consume(c, 1, queue("q")))
			begin(r, s)
			began := time.Now()
			acked := make(chan error, 1)
			go func() { acked <- d.Receipt.Ack(r.ctx) }()
			r.done(c, "a server that hangs")
			noticed := time.Since(began)
			_ = c.Close()
			var err error
			for c, err = tr.Connect(r.ctx); err != nil; c, err = tr.Connect(r.ctx) {
				if !errors.Is(err, transports.ErrDisconnected) {
					t.Fatalf("Connect: %v", err)
				}
				time.Sleep(50 * time.Millisecond)
			}
			defer c.Close()
			if err := <-acked; err != nil {
				t.Errorf("Ack: %v", err)
			}
			if got := r.receive(r.consume(c, 1, queue("q"))); got.Message.Properties.CorrelationID != "b" {
				t.Errorf("received %q, want b", got.Message.Properties.CorrelationID)
			}
			t.Logf("noticed after %v, served again after %v of %v", noticed.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond), hang)
		})
	}
}

// A script that does not end: the server says so, and is served again once it has ended.
func TestABusyScriptIsWaitedFor(t *testing.T) {
	r, _ := privateRig(t)
	c := r.connect(r.transport(nil))
	r.send(c, "q", "a", "b")
	k := r.consume(c, 1, queue("q"))
	d := r.receive(k)
	r.config("lua-time-limit", "100")
	other := redis.NewClient(&redis.Options{Addr: r.raw.Options().Addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	defer other.Close()
	ended := make(chan error, 1)
	go func() { ended <- other.Eval(r.ctx, "while true do end", nil).Err() }()
	r.until("busy", func() bool { return redis.HasErrorPrefix(r.raw.Ping(r.ctx).Err(), "BUSY") })
	if err := d.Receipt.Ack(r.ctx); !errors.Is(err, transports.ErrBlocked) {
		t.Errorf("Ack: %v, want ErrBlocked", err)
	}
	if err := r.raw.ScriptKill(r.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	<-ended
	r.settle(d.Receipt.Ack(r.ctx))
	r.settle(r.receive(k).Receipt.Ack(r.ctx))
	if err := c.Err(); err != nil {
		t.Errorf("the connection ended: %v", err)
	}
}

// The server has no connection left for us.
func TestTheServerHasNoMoreConnections(t *testing.T) {
	r, _ := privateRig(t)
	tr := r.transport(nil)
	c := r.connect(tr)
	r.config("maxclients", "1")
	if _, err := tr.Connect(r.ctx); !errors.Is(err, transports.ErrDisconnected) || errors.Is(err, transports.ErrCredentials) {
		t.Errorf("Connect: %v, want ErrDisconnected", err)
	}
	k := r.consume(c, 1, queue("q")) // on the sockets that there are
	r.config("maxclients", "1000")
	r.send(c, "q", "a")
	r.settle(r.receive(k).Receipt.Ack(r.ctx))
}

// Scripts that the server was told to forget are sent again.
func TestForgottenScripts(t *testing.T) {
	r, _ := privateRig(t)
	c := r.connect(r.transport(nil))
	k := r.consume(c, 1, queue("q"))
	for i := range 5 {
		r.raw.ScriptFlush(r.ctx)
		r.send(c, "q", fmt.Sprint(i))
		d := r.receive(k)
		r.raw.ScriptFlush(r.ctx)
		r.settle(d.Receipt.Ack(r.ctx))
	}
}

func TestAServerThatMayEvictIsToldOf(t *testing.T) {
	r, _ := privateRig(t, "--maxmemory-policy", "allkeys-lru")
	tr := r.transport(nil)
	r.connect(tr)
	r.connect(tr)
	if n := r.said("may evict messages"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

// A server that reads its data takes no connection yet.
func TestALoadingServer(t *testing.T) {
	t.Parallel()
	s := testservers.Redis(t, "--appendonly", "yes", "--appendfsync", "no", "--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024")
	r := bareRig(t, s.Addr, "", 0)
	tr := r.transport(nil)
	c := r.connect(tr)
	r.send(c, "q", "a")
	_ = c.Close()
	p := r.raw.Pipeline()
	for i := range 20_000 {
		p.Set(r.ctx, fmt.Sprint("k", i), strings.Repeat("x", 100), 0)
	}
	if _, err := p.Exec(r.ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	up := make(chan error, 1)
	go func() { up <- s.Start(context.Background()) }()
	loading := 0
	r.until("connected", func() bool {
		conn, err := tr.Connect(r.ctx)
		if err == nil {
			k := r.consume(conn, 1, queue("q"))
			r.settle(r.receive(k).Receipt.Ack(r.ctx))
			_ = conn.Close()
			return true
		}
		if !errors.Is(err, transports.ErrDisconnected) {
			t.Fatalf("Connect: %v, want ErrDisconnected", err)
		}
		if strings.Contains(err.Error(), "LOADING") {
			loading++
		}
		return false
	})
	if err := <-up; err != nil {
		t.Fatal(err)
	}
	if loading == 0 {
		t.Log("the server was too fast to be seen loading")
	}
}

// A frozen server holds Close up for one command, and leaves nothing behind.
func TestCloseOfAFrozenConnectionEnds(t *testing.T) {
	r := newRig(t)
	p := r.proxied()
	c := r.connect(r.transport(map[string]any{"socket_timeout": 2, "unacked_restore_interval": 0.1}))
	for i := range 20 {
		r.send(c, "q", fmt.Sprint(i))
	}
	k := r.consume(c, 10, queue("q"))
	for range 10 {
		r.receive(k)
	}
	p.Freeze(faultproxy.Both)
	began := time.Now()
	if err := c.Close(); err == nil {
		t.Error("Close: no error, but ten messages cannot have been given back")
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("Close took %v", took)
	}
	p.Thaw()
	r.until("no connection is left", func() bool { return p.Conns() == 0 })
}

// The list of answers to somebody who has gone expires.
func TestRepliesToNobodyExpire(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	r.raw.SAdd(r.ctx, r.prefix+"_kombu.binding.reply.celery.pidbox", "oid\x06\x16\x06\x16oid.reply.celery.pidbox")
	for range 2 {
		r.publish(c, transports.Publishing{Exchange: "reply.celery.pidbox", RoutingKey: "oid", Message: message("x"), Linger: time.Minute})
	}
	list := r.prefix + "oid.reply.celery.pidbox"
	if n, left := r.raw.LLen(r.ctx, list).Val(), r.raw.TTL(r.ctx, list).Val(); n != 2 || left <= 0 || left > time.Minute {
		t.Errorf("the list has %d answers and %v to live, want 2 and a minute", n, left)
	}
}

// What is no number, where starts are counted, ends no connection.
func TestACountOfStartsThatIsNone(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	count := c.(transports.StartCounter)
	r.raw.Set(r.ctx, r.prefix+"unacked_starts.text", "x", 0)
	r.raw.LPush(r.ctx, r.prefix+"unacked_starts.list", "x")
	for _, run := range []string{"text", "list"} {
		if n, err := count.Starts(r.ctx, run); !errors.Is(err, transports.ErrRefused) {
			t.Errorf("Starts of a %s: %d, %v, want ErrRefused", run, n, err)
		}
		if err := count.AddStart(r.ctx, run); !errors.Is(err, transports.ErrRefused) {
			t.Errorf("AddStart to a %s: %v, want ErrRefused", run, err)
		}
		r.settle(count.ForgetStarts(r.ctx, run))
		r.settle(count.AddStart(r.ctx, run))
		if n, err := count.Starts(r.ctx, run); n != 1 || err != nil {
			t.Errorf("Starts afterwards: %d, %v, want 1", n, err)
		}
	}
	if err := c.Err(); err != nil {
		t.Errorf("the connection ended: %v", err)
	}
}

// Where scripts are forbidden a lost answer loses no message either: it is taken in a transaction.
func TestHalfOfAnAnswerWithoutScripts(t *testing.T) {
	t.Parallel()
	addr := start(t, withoutScripts...)
	raw := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	const total = 20
	for i := range total {
		raw.LPush(ctx, "q", envelope(fmt.Sprint(i), "", "q", 0))
	}
	p := faultproxy.New(t, addr)
	tr, err := redisbroker.New(redisbroker.Config{URL: "redis://" + p.Addr(), Options: map[string]any{"unacked_restore_interval": 0.2}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for n := 0; len(seen) < total; n++ {
		if ctx.Err() != nil {
			t.Fatalf("%d of %d messages came; %d are in the stash, %d in the queue", len(seen), total, raw.HLen(context.Background(), "unacked").Val(), raw.LLen(context.Background(), "q").Val())
		}
		c, err := tr.Connect(ctx)
		if err != nil {
			continue
		}
		k, err := c.Consume(ctx, []transports.Queue{queue("q")}, 4)
		if n < 8 {
			p.CutAfter(faultproxy.ToClient, 60+n*211)
		}
		for err == nil && len(seen) < total {
			var d *transports.Delivery
			if d, err = k.Receive(ctx); err == nil {
				seen[d.Message.Properties.CorrelationID]++
				go func() { _ = d.Receipt.Ack(ctx) }() // where it is lost it waits for the next connection
			}
		}
		_ = c.Close()
	}
	for i := range total {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("message %d was delivered %d times", i, n)
		}
	}
}
