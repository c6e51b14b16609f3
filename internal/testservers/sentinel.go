package testservers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// MasterName is the name under which the sentinels of a Failover know their master.
const MasterName = "mymaster"

// A Failover is two Redis servers, of which one is the master and the other its replica, and three sentinels that
// make the replica the master when they miss the master for a second. A server that comes back becomes a replica.
type Failover struct {
	Nodes            []*Server // the first is the master at the start
	Sentinels        []*Server
	Password         string // of the nodes
	SentinelPassword string // of the sentinels
}

// Sentinel starts a Failover for one test, in some seconds: when it returns, the replica is in step and the
// sentinels know each other.
func Sentinel(t testing.TB) *Failover {
	t.Helper()
	f := &Failover{Password: "node-secret", SentinelPassword: "sentinel-secret"}
	own := []string{"--requirepass", f.Password, "--masterauth", f.Password, "--repl-diskless-sync-delay", "0"}
	master := Redis(t, own...)
	_, port, _ := net.SplitHostPort(master.Addr)
	f.Nodes = []*Server{master, Redis(t, append(own, "--replicaof", "127.0.0.1", port)...)}
	f.await(t, "the replica is not in step", func() bool { return f.InStep(t.Context()) })
	for range 3 {
		s, err := startRedis(t.Context(), func(dir, _ string) ([]string, error) { return f.settings(dir, port) })
		s = lend(t, s, err)
		f.Sentinels = append(f.Sentinels, s)
	}
	f.await(t, "the sentinels do not know each other", func() bool {
		for _, s := range f.Sentinels {
			state, err := f.state(t.Context(), s)
			if err != nil || state["num-other-sentinels"] != "2" || state["num-slaves"] != "1" {
				return false
			}
		}
		return true
	})
	return f
}

// SentinelOf starts one sentinel for one test. It knows the server as MasterName and asks nobody for a password.
func SentinelOf(t testing.TB, master *Server) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	s, err := startRedis(t.Context(), func(dir, _ string) ([]string, error) {
		path := filepath.Join(dir, "sentinel.conf")
		return []string{path, "--sentinel"}, os.WriteFile(path, fmt.Appendf(nil, "sentinel monitor %s %s %s 1\n", MasterName, host, port), 0o600)
	})
	return lend(t, s, err)
}

// settings writes a sentinel's file, which it rewrites itself.
func (f *Failover) settings(dir, masterPort string) ([]string, error) {
	path := filepath.Join(dir, "sentinel.conf")
	text := strings.ReplaceAll(fmt.Sprintf(`
sentinel monitor NAME 127.0.0.1 %s 2
sentinel down-after-milliseconds NAME 3000
sentinel failover-timeout NAME 3000
sentinel auth-pass NAME %s
requirepass %s
sentinel sentinel-pass %s
`, masterPort, f.Password, f.SentinelPassword, f.SentinelPassword), "NAME", MasterName)
	return []string{path, "--sentinel"}, os.WriteFile(path, []byte(text), 0o600)
}

// URL is a database as Celery takes it: sentinel://:PASSWORD@HOST:PORT/DB;sentinel://...
func (f *Failover) URL(db int) string {
	var urls []string
	for _, s := range f.Sentinels {
		urls = append(urls, fmt.Sprintf("sentinel://:%s@%s/%d", f.Password, s.Addr, db))
	}
	return strings.Join(urls, ";")
}

// Options are the transport options that Celery needs to go by Sentinel.
func (f *Failover) Options() map[string]any {
	return map[string]any{"master_name": MasterName, "sentinel_kwargs": map[string]any{"password": f.SentinelPassword}}
}

// Master is the node that most sentinels take for the master, and the other node; nil when they do not agree.
func (f *Failover) Master(ctx context.Context) (master, other *Server) {
	votes := map[string]int{}
	for _, s := range f.Sentinels {
		if state, err := f.state(ctx, s); err == nil {
			votes[net.JoinHostPort(state["ip"], state["port"])]++
		}
	}
	for i, n := range f.Nodes {
		if votes[n.Addr] >= 2 {
			return n, f.Nodes[1-i]
		}
	}
	return nil, nil
}

// InStep says whether one node is the other's replica and has everything that was written to it.
func (f *Failover) InStep(ctx context.Context) bool {
	for i, n := range f.Nodes {
		there, err := Ask(ctx, f.Nodes[1-i].Addr, f.Password, "INFO", "replication")
		if err != nil {
			return false
		}
		here, err := Ask(ctx, n.Addr, f.Password, "INFO", "replication")
		if err != nil {
			return false
		}
		replica, master := infoFields(there), infoFields(here)
		if master["role"] == "master" && replica["master_link_status"] == "up" {
			return replica["slave_repl_offset"] == master["master_repl_offset"]
		}
	}
	return false
}

// AwaitStep waits until InStep.
func (f *Failover) AwaitStep(t testing.TB) {
	t.Helper()
	f.await(t, "the replica is not in step", func() bool { return f.InStep(t.Context()) })
}

// AwaitMaster waits until the sentinels agree on a node as the master.
func (f *Failover) AwaitMaster(t testing.TB, want *Server) {
	t.Helper()
	f.await(t, want.Addr+" does not become the master", func() bool {
		m, _ := f.Master(t.Context())
		return m == want
	})
}

// Move tells the sentinels to make the replica the master, which is alive. Writes to the old master until it is
// told, about a second later, are lost.
func (f *Failover) Move(ctx context.Context) error {
	_, err := Ask(ctx, f.Sentinels[0].Addr, f.SentinelPassword, "SENTINEL", "FAILOVER", MasterName)
	return err
}

func (f *Failover) await(t testing.TB, complaint string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); !ready(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			var logs strings.Builder
			for _, s := range slices.Concat(f.Nodes, f.Sentinels) {
				for _, p := range s.procs {
					fmt.Fprintf(&logs, "%s:\n%s\n", s.Addr, p.logTail())
				}
			}
			t.Fatalf("testservers: %s\n%s", complaint, logs.String())
		}
	}
}

// state is what a sentinel thinks of the master.
func (f *Failover) state(ctx context.Context, s *Server) (map[string]string, error) {
	reply, err := Ask(ctx, s.Addr, f.SentinelPassword, "SENTINEL", "MASTER", MasterName)
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	for i := 0; i+1 < len(reply); i += 2 {
		m[reply[i]] = reply[i+1]
	}
	return m, nil
}

func infoFields(reply []string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(strings.Join(reply, "\n")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// Ask sends one command to a Redis server, behind AUTH unless the password is "", and returns its answer with
// nested lists laid flat. An error that the server tells is an error.
func Ask(ctx context.Context, addr, password string, args ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	r := bufio.NewReader(c)
	commands := [][]string{args}
	if password != "" {
		commands = [][]string{{"AUTH", password}, args}
	}
	var answer []string
	for _, command := range commands {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(command))
		for _, a := range command {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
		if _, err := io.WriteString(c, b.String()); err != nil {
			return nil, fmt.Errorf("testservers: %w", err)
		}
		if answer, err = readReply(r, nil); err != nil {
			return nil, fmt.Errorf("testservers: %s: %w", command[0], err)
		}
	}
	return answer, nil
}

// readReply appends one reply of RESP2 to list.
func readReply(r *bufio.Reader, list []string) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty reply")
	}
	switch kind, text := line[0], line[1:]; kind {
	case '+', ':':
		return append(list, text), nil
	case '-':
		return nil, errors.New(text)
	case '$', '*':
		n, err := strconv.Atoi(text)
		if err != nil || n > 1<<20 {
			return nil, fmt.Errorf("unreadable reply %q", line)
		}
		if kind == '$' && n >= 0 {
			data := make([]byte, n+2)
			if _, err := io.ReadFull(r, data); err != nil {
				return nil, err
			}
			return append(list, string(data[:n])), nil
		}
		if n < 0 {
			return append(list, ""), nil
		}
		for range n {
			if list, err = readReply(r, list); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("unreadable reply %q", line)
}
