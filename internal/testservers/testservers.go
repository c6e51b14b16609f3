// Package testservers starts private Redis and RabbitMQ servers for tests and for `make test`.
//
// Every server listens on loopback only, on a port that was free a moment ago, keeps its files in a
// temporary folder of its own and is ended by its process id. Nothing outside tests and the command in
// cmd/ may import it: it starts processes and, through Redis and RabbitMQ, fails tests.
//
// The servers' programs are looked for in PATH, or in folders that hold another system: scripts/brokers.sh makes
// some, with other versions. STALK_RABBITMQ_ROOT and STALK_REDIS_ROOT name such a folder, STALK_REDIS_SERVER a
// program that takes redis-server's place. Without them a test is skipped with a line that names what is missing,
// or fails when INTEROP=required.
package testservers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take until it answers; RabbitMQ needs 5 to 15 seconds on a
// small machine that is busy.
const startTimeout = 3 * time.Minute

// ErrMissing is wrapped by the start functions when the server's program is not installed.
var ErrMissing = errors.New("testservers: program not found")

// A Server is one running server. Its methods are for one goroutine at a time.
type Server struct {
	URL  string // as Celery takes it: redis://127.0.0.1:PORT, amqp://guest:guest@127.0.0.1:PORT//
	Addr string // host:port
	// Version is what the running server says it is: "Redis 7.0.15", "Valkey 8.1.1", "RabbitMQ 3.10.8". It is ""
	// when the server tells nothing to somebody without a password or TLS.
	Version string

	TLSAddr string // host:port of a listener with TLS; "" without one

	start func(ctx context.Context) error // starts procs and waits until the server answers
	procs []*process                      // in the order they were started
	dir   string
	env   []string // of its programs; nil: ours
	root  string   // folder of the system that its programs are of; "": this one
}

// PID is the process id of the server, 0 while it is stopped.
func (s *Server) PID() int {
	if len(s.procs) == 0 {
		return 0
	}
	return s.procs[len(s.procs)-1].pid()
}

// Dir is the folder of the server's files.
func (s *Server) Dir() string { return s.dir }

// Start starts a stopped server again, on the same port and with the same files.
func (s *Server) Start(ctx context.Context) error {
	if len(s.procs) != 0 {
		return errors.New("testservers: already running")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return errors.Join(err, s.Stop())
	}
	return nil
}

// Stop asks the server to end, waits, and insists after ten seconds. Its files stay until Close.
func (s *Server) Stop() error { return s.end(10 * time.Second) }

// Kill ends the server at once, as a power failure would. Its files stay until Close.
func (s *Server) Kill() error { return s.end(0) }

func (s *Server) end(grace time.Duration) error {
	var errs []error
	for i := len(s.procs) - 1; i >= 0; i-- {
		errs = append(errs, s.procs[i].end(grace))
	}
	s.procs = nil
	return errors.Join(errs...)
}

// Close ends the server and removes its files.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), os.RemoveAll(s.dir))
}

// Redis starts a redis-server, or what stands in for it, for one test, with further arguments as redis-server takes them
// ("--requirepass", "secret"). It is ended when the test ends. Nothing is kept on disk unless the
// arguments say so.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := StartRedis(t.Context(), args...)
	return lend(t, s, err)
}

// RedisTLS starts a redis-server that speaks TLS on a second port (TLSAddr), showing own. clientCA, when given, is
// whose certificates it demands there.
func RedisTLS(t testing.TB, own Certificate, clientCA string, args ...string) *Server {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	tls := []string{"--tls-port", strconv.Itoa(ports[0]), "--tls-cert-file", own.Cert, "--tls-key-file", own.Key}
	if clientCA == "" {
		tls = append(tls, "--tls-ca-cert-file", own.Cert, "--tls-auth-clients", "no")
	} else {
		tls = append(tls, "--tls-ca-cert-file", clientCA, "--tls-auth-clients", "yes")
	}
	s, err := StartRedis(t.Context(), append(tls, args...)...)
	s = lend(t, s, err)
	s.TLSAddr = "127.0.0.1:" + strconv.Itoa(ports[0])
	return s
}

// RabbitMQ starts a node for one test. It takes some seconds and about 100 MB; share one where you can.
func RabbitMQ(t testing.TB) *Server {
	t.Helper()
	s, err := StartRabbitMQ(t.Context())
	return lend(t, s, err)
}

// RabbitMQWith is RabbitMQ with options.
func RabbitMQWith(t testing.TB, o RabbitMQOptions) *Server {
	t.Helper()
	s, err := StartRabbitMQWith(t.Context(), o)
	return lend(t, s, err)
}

func lend(t testing.TB, s *Server, err error) *Server {
	t.Helper()
	if errors.Is(err, ErrMissing) && os.Getenv("INTEROP") != "required" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("testservers: %v", err)
		}
	})
	return s
}

// freePorts returns n loopback ports that nobody listens on. They are held together while they are
// chosen, so they differ.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("testservers: no free port: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// poll calls ready until it returns nil, the process has ended, or ctx is done.
func poll(ctx context.Context, p *process, ready func(ctx context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("testservers: %s ended while starting:\n%s", p.name, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("testservers: %s does not answer: %v (%w)\n%s", p.name, err, ctx.Err(), p.logTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
