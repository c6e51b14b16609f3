package command

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

func TestListenAddresses(t *testing.T) {
	for _, tt := range []struct {
		text   string
		public bool
		want   string
	}{
		{":9808", false, "127.0.0.1:9808"},
		{"9808", false, "127.0.0.1:9808"},
		{":9808", true, ":9808"},
		{"0.0.0.0:9808", false, "0.0.0.0:9808"},
		{"127.0.0.1:9808", true, "127.0.0.1:9808"},
		{"[::1]:0", false, "[::1]:0"},
		{"localhost:80", false, "localhost:80"},
	} {
		if got, err := listenAddress("http", tt.text, tt.public); err != nil || got != tt.want {
			t.Errorf("listenAddress(%q, %v) = %q, %v; want %q", tt.text, tt.public, got, err, tt.want)
		}
	}
	for _, text := range []string{"x", ":", ":x", ":70000", "1:2:3", "http://localhost:9808", ":-1"} {
		if got, err := listenAddress("http", text, false); err == nil {
			t.Errorf("listenAddress(%q) = %q, want an error", text, got)
		}
	}
}

// page fetches one page; HEAD has no body.
func page(t *testing.T, method, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestHTTPBesideAWorker(t *testing.T) {
	s := startDemo(t)
	const secret = "s3nt1nel"
	running, release := make(chan struct{}), make(chan struct{})
	block := handlers.Func("block", func(context.Context, struct{}) (int, error) { close(running); <-release; return 1, nil })
	var stdout, stderr output
	signals, end := make(chan os.Signal, 1), make(chan int, 1)
	go func() {
		end <- run(t.Context(), Program{Handlers: []handlers.Handler{block}},
			[]string{"stalk", "worker", "-b", s.url, "-Q", "web", "-c", "2", "-n", "w1@hostw", "-l", "info", "--http", "127.0.0.1:0"},
			process{stdout: &stdout, stderr: &stderr, signals: signals, environ: []string{
				"STALK_PPROF=:0", "CELERY_RESULT_BACKEND=" + s.url, "CELERY_SECURITY_KEY=" + secret,
			}})
	}()
	web := stderr.wait(t, `health and metrics at (http://127\.0\.0\.1:\d+)`)[1]
	prof := stderr.wait(t, `profiler at (http://127\.0\.0\.1:\d+)`)[1]
	stderr.wait(t, `w1@hostw ready\.`)

	for _, tt := range []struct {
		method, url string
		code        int
		want        string
	}{
		{"GET", web + "/healthz", 200, "ok\n"},
		{"GET", web + "/readyz", 200, "ready\n"},
		{"HEAD", web + "/readyz", 200, ""},
		{"HEAD", web + "/healthz", 200, ""},
		{"HEAD", web + "/metrics", 200, ""},
		{"GET", web + "/", 200, "/metrics"},
		{"GET", web + "/metrics", 200, "\nstalk_ready 1\n"},
		{"GET", web + "/metrics", 200, "\ncelery_worker_up{hostname=\"hostw\"} 1\n"},
		{"GET", web + "/metrics", 200, "\ncelery_queue_length{queue_name=\"web\"} 0\n"},
		{"POST", web + "/readyz", 405, ""},
		{"GET", web + "/debug/pprof/", 404, ""},
		{"GET", web + "/nothing", 404, ""},
		{"GET", prof + "/debug/pprof/", 200, "goroutine"},
		{"GET", prof + "/debug/pprof/heap?debug=1", 200, "heap profile"},
		{"GET", prof + "/debug/pprof/cmdline", 404, ""}, // it would show the broker's password
		{"GET", prof + "/metrics", 404, ""},
	} {
		code, body, _ := page(t, tt.method, tt.url)
		if code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s = %d %.300q, want %d and %q", tt.method, tt.url, code, body, tt.code, tt.want)
		}
		if strings.Contains(body, secret) {
			t.Errorf("%s %s tells a password", tt.method, tt.url)
		}
	}
	var out bytes.Buffer
	if err := check(t.Context(), &out, strings.TrimPrefix(web, "http://"), "/readyz", time.Second); err != nil || out.String() != "ready\n" {
		t.Errorf("check: %v, %q", err, out.String())
	}

	// From the start of the shutdown it is not ready, and it answers until its end.
	publish(t, s.url, "web", protocol.Task{ID: "b", Name: "block", Args: []protocol.Value{}, Kwargs: &protocol.Object{}})
	<-running
	signals <- syscall.SIGTERM
	stdout.wait(t, "Warm shutdown")
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		code, body, _ := page(t, "GET", web+"/readyz")
		if code == 503 && body == "stopping\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz during the shutdown = %d %q", code, body)
		}
	}
	if code, _, _ := page(t, "GET", web+"/healthz"); code != 200 {
		t.Errorf("/healthz during the shutdown = %d", code)
	}
	if _, body, _ := page(t, "GET", web+"/metrics"); !strings.Contains(body, "celery_worker_up{hostname=\"hostw\"} 0\n") || !strings.Contains(body, "celery_worker_tasks_active{hostname=\"hostw\"} 1\n") {
		t.Errorf("metrics during the shutdown:\n%s", body)
	}
	if err := check(t.Context(), &out, strings.TrimPrefix(web, "http://"), "/readyz", time.Second); err == nil || err.Error() != "stopping" {
		t.Errorf("check during the shutdown: %v", err)
	}
	close(release)
	select {
	case <-end:
	case <-time.After(60 * time.Second):
		t.Fatal("the worker does not end")
	}
	if c, err := net.Dial("tcp", strings.TrimPrefix(web, "http://")); err == nil {
		c.Close()
		t.Error("the port is still open after the end")
	}
}

func TestHTTPMistakesAreToldAtTheStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--http " + addr, 1, "--http " + addr + ": listen tcp " + addr + ": bind: address already in use"},
		{"--http 127.0.0.1:0 --pprof " + addr, 1, "--pprof " + addr},
		{"--http nowhere", 2, `--http "nowhere": want HOST:PORT`},
		{"--pprof :x", 2, `--pprof ":x": want HOST:PORT`},
		{"--http-public", 2, "--http-public does nothing without --http"},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"stalk", "worker", "--demo", "-b", "redis://127.0.0.1:1/0"}, strings.Fields(tt.args)...)
		code := run(t.Context(), Program{}, args, process{stdout: &stdout, stderr: &stderr})
		if code != tt.code || !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%s: code %d, stderr %q, stdout %d bytes; want code %d, %q and no banner", tt.args, code, stderr.String(), stdout.Len(), tt.code, tt.want)
		}
	}
}

func TestCheckTellsWhyNot(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), Program{}, []string{"stalk", "check", "-t", "2s"}, process{stdout: &stdout, stderr: &stderr, environ: []string{"STALK_HTTP=" + addr}})
	if code != 1 || !strings.Contains(stderr.String(), "connection refused") {
		t.Errorf("nobody listens: code %d, %q", code, stderr.String())
	}
	code = run(t.Context(), Program{}, []string{"stalk", "check", "x"}, process{stdout: &stdout, stderr: &stderr})
	if code != 2 {
		t.Errorf("an argument: code %d", code)
	}
}

func TestLivenessFindsAHangAndDoesNotPileUp(t *testing.T) {
	hang := make(chan struct{})
	var probes atomic.Int32
	l := &liveness{probe: func() { probes.Add(1); <-hang }}
	for range 3 {
		if l.check(time.Millisecond) {
			t.Error("a hung worker is called alive")
		}
	}
	if n := probes.Load(); n != 1 {
		t.Errorf("%d probes hang, want one", n)
	}
	close(hang)
	if !l.check(10 * time.Second) {
		t.Error("a worker that answers is not called alive")
	}
}

// TestTooManyConnectionsAreClosed: a flood leaves room again when it ends.
func TestTooManyConnectionsAreClosed(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Listener = &fewConns{Listener: s.Listener, places: make(chan struct{}, 2)}
	s.Start()
	defer s.Close()
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// An answer shows that it has its place.
		if _, err := io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Logf("the third connection: %v", err)
	}
	var wg sync.WaitGroup
	for _, c := range open {
		wg.Go(func() { c.Close() })
	}
	wg.Wait()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(s.URL) //nolint:noctx // bounded by the deadline
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no room after the flood:", err)
		}
	}
}
