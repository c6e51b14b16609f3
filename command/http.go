package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/metrics"
	"github.com/stalkworker/stalk/worker"
)

// httpFlags are --http and --pprof. Both are off by default.
func httpFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "http", Usage: "serve /healthz, /readyz and /metrics at `ADDR`, such as :9808; without a host only on this machine (127.0.0.1)"},
		&cli.BoolFlag{Name: "http-public", Usage: "let --http without a host listen on every interface"},
		&cli.StringFlag{Name: "pprof", Usage: "serve Go's profiler (/debug/pprof/) at `ADDR`; without a host only on this machine"},
	}
}

// listenAddress reads an ADDR: host:port, :port or port. Without a host it is this machine only, unless public.
func listenAddress(flag, text string, public bool) (string, error) {
	addr := text
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", fmt.Errorf("--%s %q: want HOST:PORT, :PORT or PORT, such as :9808 or 0.0.0.0:9808", flag, text)
	}
	if host == "" && !public {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// A front is what listens for HTTP beside a worker. The nil front does nothing.
type front struct {
	log     *slog.Logger
	metrics net.Listener // nil: not asked for
	pprof   net.Listener // nil: not asked for
}

// openFront listens, so that a port in use is known before anything else begins. It answers nothing yet.
func openFront(c *cli.Context, log *slog.Logger) (*front, error) {
	f := &front{log: log}
	if c.Bool("http-public") && c.String("http") == "" {
		return nil, usageError{errors.New("--http-public does nothing without --http")}
	}
	for _, l := range []struct {
		flag   string
		public bool
		into   *net.Listener
	}{{"http", c.Bool("http-public"), &f.metrics}, {"pprof", false, &f.pprof}} {
		text := c.String(l.flag)
		if text == "" {
			continue
		}
		addr, err := listenAddress(l.flag, text, l.public)
		if err != nil {
			f.close()
			return nil, usageError{err}
		}
		if *l.into, err = net.Listen("tcp", addr); err != nil {
			f.close()
			return nil, fmt.Errorf("--%s %s: %w", l.flag, text, err)
		}
	}
	return f, nil
}

// close is for a front that never served.
func (f *front) close() {
	for _, l := range []net.Listener{f.metrics, f.pprof} {
		if l != nil {
			l.Close() //nolint:errcheck // nothing was written to it
		}
	}
}

// serve answers for w until stop, which waits a second for the answers under way. Call stop when Run has returned:
// probes are answered during the whole shutdown.
func (f *front) serve(w *worker.Worker) (stop func()) {
	if f == nil || f.metrics == nil && f.pprof == nil {
		return func() {}
	}
	var servers []*http.Server
	var wg sync.WaitGroup
	start := func(what string, l net.Listener, h http.Handler, write time.Duration) {
		s := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      write,
			IdleTimeout:       30 * time.Second,
			MaxHeaderBytes:    8 << 10,
			ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, s)
		f.log.Info(what+" at http://"+l.Addr().String(), "addr", l.Addr().String())
		wg.Go(func() {
			if err := s.Serve(&fewConns{Listener: l, places: make(chan struct{}, connsMax)}); !errors.Is(err, http.ErrServerClosed) {
				f.log.Error(what+" has ended", "err", err)
			}
		})
	}
	var e *metrics.Exporter
	if f.metrics != nil {
		e = metrics.New(w, Version)
		f.warnIfPublic("health and metrics", f.metrics)
		start("health and metrics", f.metrics, healthMux(w, e), 10*time.Second)
	}
	if f.pprof != nil {
		f.warnIfPublic("the profiler", f.pprof)
		start("profiler", f.pprof, pprofMux(), 0) // a profile takes as long as it is asked to
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, s := range servers {
			if s.Shutdown(ctx) != nil {
				s.Close() //nolint:errcheck // a profile under way is cut
			}
		}
		wg.Wait()
		if e != nil {
			e.Close()
		}
	}
}

// warnIfPublic tells of what anybody in the network may read.
func (f *front) warnIfPublic(what string, l net.Listener) {
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		f.log.Warn(what+" can be reached from other machines, without a password", "addr", a.String())
	}
}

// healthMux is what --http serves. Nothing it says holds an address, a setting or an argument of a task.
func healthMux(w *worker.Worker, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	say := func(rw http.ResponseWriter, code int, text string) {
		h := rw.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		rw.WriteHeader(code)
		fmt.Fprintln(rw, text) //nolint:errcheck // the other side has gone
	}
	alive := &liveness{probe: w.Probe}
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) {
		if !alive.check(time.Second) {
			say(rw, http.StatusServiceUnavailable, "the worker does not answer")
			return
		}
		say(rw, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		if err := w.Ready(); err != nil {
			say(rw, http.StatusServiceUnavailable, strings.TrimPrefix(err.Error(), "worker: "))
			return
		}
		say(rw, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		say(rw, http.StatusOK, "stalk "+Version+" "+w.Node()+`

/healthz  200 while the process works; for liveness probes
/readyz   200 while tasks are taken; for readiness probes
/metrics  for Prometheus`)
	})
	return mux
}

// pprofMux is the profiler without its page of the command line, which may hold the broker's password.
func pprofMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// liveness asks a worker whether it still answers. Where a probe hangs, no second one is started.
type liveness struct {
	probe func()

	mu   sync.Mutex
	done chan struct{} // of the probe under way; nil: none
}

func (l *liveness) check(patience time.Duration) bool {
	l.mu.Lock()
	done := l.done
	if done == nil {
		done = make(chan struct{})
		l.done = done
		go func() { // ends with the probe, or never: then check says so from now on
			l.probe()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.done = nil
			close(done)
		}()
	}
	l.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// connsMax is how many connections one port serves at a time: a few scrapers, the probes, a browser.
const connsMax = 64

// fewConns closes what connects while connsMax connections are open.
type fewConns struct {
	net.Listener
	places chan struct{}
}

func (l *fewConns) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select { // after Accept, not before: Close must be able to end a waiting Accept
		case l.places <- struct{}{}:
			return &placed{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
		default:
			c.Close() //nolint:errcheck // it was never used
		}
	}
}

type placed struct {
	net.Conn
	leave func()
}

func (c *placed) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
