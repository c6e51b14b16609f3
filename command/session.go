package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// What a command asks of the broker, besides waiting for workers, is bounded: one address's connection, and one
// question.
const (
	dialTimeout   = 5 * time.Second
	brokerTimeout = 10 * time.Second
)

// A session is what the commands share that look at a running cluster: where it is, and where to print.
type session struct {
	c         *cli.Context
	p         process
	settings  *settings
	transport transports.Transport
	name      string // of the command, for errors
	addresses int    // of the failover list
	encoding  protocol.Encoding
}

// A question is a command that runs in a session.
type question func(*session) error

// inSession reads the settings and runs do; the first signal ends its context.
func inSession(p process, do question) cli.ActionFunc {
	return func(c *cli.Context) error {
		s, err := openSession(c, p)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(c.Context)
		defer cancel()
		signals, unwatch := p.watch()
		defer unwatch()
		over, watched := make(chan struct{}), make(chan struct{})
		go func() { // ends with over; waited for below
			defer close(watched)
			select {
			case <-signals:
				cancel()
			case <-over:
			}
		}()
		defer func() { close(over); <-watched }()
		c.Context = ctx
		return do(s)
	}
}

// commandName is the command as it was written: "quarantine list".
func commandName(c *cli.Context) string {
	if _, name, ok := strings.Cut(c.Command.HelpName, " "); ok {
		return name
	}
	return c.Command.Name
}

func openSession(c *cli.Context, p process) (*session, error) {
	if dir, ok := given(c, "workdir"); ok {
		if err := os.Chdir(dir); err != nil {
			return nil, wrongly("--workdir: %w", err)
		}
	}
	file, _ := given(c, "config")
	namespace, _ := given(c, "config-namespace")
	set, err := loadSettings(file, namespace, p.environ)
	if err != nil {
		return nil, usageError{err}
	}
	s := &session{c: c, p: p, settings: set, name: commandName(c)}
	if s.transport, err = broker(c, set, "stalk "+c.Command.Name, protocol.Limits{}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, usageError{err}
	}
	zone, err := location(set.text("timezone", ""), set.flag("enable_utc", true))
	if err != nil {
		return nil, usageError{err}
	}
	s.encoding = protocol.Encoding{Serializer: set.text("task_serializer", ""), Compression: set.text("task_compression", ""), Zone: zone}
	if s.encoding.Seal, err = keyring(set); err != nil {
		return nil, usageError{err}
	}
	urls := set.texts("broker_url", ";")
	if u, ok := given(c, "broker"); ok {
		urls = strings.Split(u, ";")
	}
	s.addresses = max(len(urls), 1)
	return s, nil
}

func (s *session) out() io.Writer { return s.p.stdout }

// say prints one line.
func (s *session) say(format string, args ...any) { fmt.Fprintf(s.p.stdout, format+"\n", args...) }

// warn prints one line for people.
func (s *session) warn(format string, args ...any) { fmt.Fprintf(s.p.stderr, format+"\n", args...) }

func (s *session) json() bool  { return s.c.Bool("json") }
func (s *session) quiet() bool { return givenBool(s.c, "quiet") }

// client is a Client over the session's broker; results may be nil.
func (s *session) client(results resultbackend.Backend, rt *canvas.Routes) (*client.Client, error) {
	set := s.settings
	exclusive := set.maybe("control_queue_exclusive")
	c, err := client.New(client.Config{
		Transport: s.transport, Results: results, Routes: rt, Encoding: s.encoding, Attempts: s.addresses, NativeDelay: rt.Quorum(),
		Control: client.ControlConfig{
			Exchange: set.text("control_exchange", ""), Shared: exclusive != nil && !*exclusive,
			TTL: set.seconds("control_queue_ttl", 0), Expires: set.seconds("control_queue_expires", 0),
			Accept: set.texts("accept_content", ","),
		},
	})
	if err == nil && len(set.errs) > 0 {
		err = set.errs[0]
	}
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// connect opens a connection, trying each address once.
func (s *session) connect(ctx context.Context) (transports.Conn, error) {
	var err error
	for range s.addresses {
		dialling, cancel := context.WithTimeout(ctx, dialTimeout)
		var conn transports.Conn
		conn, err = s.transport.Connect(dialling)
		if cancel(); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// withConn runs do with a connection and closes it.
func (s *session) withConn(do func(ctx context.Context, conn transports.Conn) error) error {
	conn, err := s.connect(s.c.Context)
	if err != nil {
		return s.unavailable(err)
	}
	err = do(s.c.Context, conn)
	if closing := conn.Close(); err == nil && closing != nil {
		err = s.unavailable(closing)
	}
	return err
}

// admin runs do with what looks at queues.
func (s *session) admin(do func(ctx context.Context, a transports.QueueAdmin) error) error {
	return s.withConn(func(ctx context.Context, conn transports.Conn) error {
		a, ok := conn.(transports.QueueAdmin)
		if !ok {
			return failed("the broker %s lets nobody look at its queues", s.transport)
		}
		return do(ctx, a)
	})
}

// brief bounds one question to the broker.
func brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, brokerTimeout)
}

// queues are the names chosen by -Q and -X, or all that the settings declare.
func (s *session) queues() ([]string, error) {
	rt, err := routes(s.settings)
	if err != nil {
		return nil, usageError{err}
	}
	only := list(s.c.StringSlice("queues"))
	if len(only) == 0 {
		for _, q := range rt.Queues() {
			only = append(only, q.Name)
		}
	}
	drop := map[string]bool{}
	for _, name := range list(s.c.StringSlice("exclude-queues")) {
		drop[name] = true
	}
	var out []string
	for _, name := range only {
		if !drop[name] {
			out = append(out, name)
			drop[name] = true // once
		}
	}
	return out, nil
}
