package testservers

import (
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestARedisCanBeStoppedAndStartedAgainOnItsPort(t *testing.T) {
	t.Parallel()
	s := Redis(t, "--appendonly", "yes")
	if !regexp.MustCompile(`^(Redis|Valkey) \d+\.\d+\.\d+$`).MatchString(s.Version) {
		t.Errorf("it says it is %q", s.Version)
	}
	pid := s.PID()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTimeout("tcp", s.Addr, time.Second); err == nil {
		c.Close()
		t.Fatal("a stopped server still answers")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := pingRedis(t.Context(), s.Addr); err != nil {
		t.Fatal(err)
	}
	if s.PID() == pid {
		t.Errorf("PID is still %d", pid)
	}
}

func TestCloseLeavesNeitherProcessNorFolder(t *testing.T) {
	t.Parallel()
	for _, start := range []struct {
		name  string
		start func(testing.TB) (*Server, error)
	}{
		{"redis", func(t testing.TB) (*Server, error) { return StartRedis(t.Context()) }},
		{"rabbitmq", func(t testing.TB) (*Server, error) { return StartRabbitMQ(t.Context()) }},
	} {
		t.Run(start.name, func(t *testing.T) {
			t.Parallel()
			if start.name == "rabbitmq" && testing.Short() {
				t.Skip("RabbitMQ takes some seconds to boot")
			}
			s, err := start.start(t)
			lend(t, s, err) // its second Close must be harmless
			if start.name == "rabbitmq" {
				if !regexp.MustCompile(`^RabbitMQ \d+\.\d+\.\d+$`).MatchString(s.Version) {
					t.Errorf("it says it is %q", s.Version)
				}
				if out, err := s.Ctl(t.Context(), "list_users"); err != nil || !strings.Contains(out, "guest") {
					t.Errorf("Ctl list_users = %q, %v", out, err)
				}
			}
			var pids []int
			for _, p := range s.procs {
				pids = append(pids, p.pid())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				if err := syscall.Kill(-pid, 0); err != syscall.ESRCH {
					t.Errorf("process group %d: %v, want none", pid, err)
				}
			}
			if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
				t.Errorf("%s: %v, want it gone", s.dir, err)
			}
		})
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	s, err := StartRedis(t.Context(), "--no-such-setting", "1")
	if err == nil {
		s.Close()
		t.Fatal("started with a setting that does not exist")
	}
	if _, missing := lookup("", "redis-server"); missing != nil {
		t.Skip(missing)
	}
	t.Log(err)
}

func TestAFolderWithoutTheServerIsNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(envRedisRoot, dir)
	t.Setenv(envRabbitRoot, "not/absolute")
	if s, err := StartRedis(t.Context()); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), dir) {
		t.Errorf("StartRedis = %v, %v, want ErrMissing and the folder", s, err)
	}
	if s, err := StartRabbitMQ(t.Context()); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("StartRabbitMQ = %v, %v, want a refusal of the folder's name", s, err)
	}
}

func TestSentinelsMakeTheReplicaTheMaster(t *testing.T) {
	t.Parallel()
	f := Sentinel(t)
	master, replica := f.Master(t.Context())
	if master != f.Nodes[0] {
		t.Fatalf("the first node is not the master")
	}
	if _, err := Ask(t.Context(), master.Addr, f.Password, "SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	f.AwaitStep(t)
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	f.AwaitMaster(t, replica)
	if got, err := Ask(t.Context(), replica.Addr, f.Password, "GET", "k"); err != nil || got[0] != "v" {
		t.Errorf("GET k = %q, %v", got, err)
	}
}
