package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// A password in every place that one can be in, searched for in everything that is written, answered or sent.
func TestNoSecretIsShown(t *testing.T) {
	need(t)
	t.Parallel()
	if celeryInstead {
		t.Skip("Celery shows some of them")
	}
	const secret = "s3ntinel/x y%z" // as it is, and in the forms it takes in a URL
	forms := []string{"s3ntinel", "czNudGluZWw"}
	const escaped = "s3ntinel%2Fx+y%25z"
	inURL := strings.ReplaceAll(escaped, "+", "%20")
	server := testservers.Redis(t, "--requirepass", secret)
	queue := unique("secret")
	dir := t.TempDir()
	config := filepath.Join(dir, "stalk.yaml")
	url := "redis://:" + inURL + "@" + server.Addr
	settings := fmt.Sprintf(`
result_backend: "%[1]s/1"
redis_password: %[2]q
security_key_password: %[2]q
broker_password: %[2]q
broker_transport_options: {sentinel_kwargs: {password: %[2]q}, client_name: seen}
result_backend_transport_options: {sentinel_kwargs: {password: %[2]q}}
s3_secret_access_key: %[2]q
couchbase_backend_settings: {password: %[2]q}
`, url, secret)
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "CELERY_BROKER_URL="+url+"/0", "CELERY_AZUREBLOCKBLOB_CONNECTION_STRING=AccountKey="+secret,
		"CELERY_REDIS_PASSWORD="+secret, "GORACE=halt_on_error=1 exitcode=66")
	var mu sync.Mutex
	seen := map[string][]byte{} // guarded by mu while several run
	search := func() {
		hits := 0
		for where, text := range seen {
			if len(text) == 0 {
				t.Errorf("%s is empty: nothing was searched", where)
			}
			for _, f := range forms {
				if i := bytes.Index(text, []byte(f)); i >= 0 {
					hits++
					t.Errorf("%s holds the secret: ...%q", where, text[max(0, i-80):min(len(text), i+20)])
				}
			}
		}
		t.Logf("%d places searched, %d hits", len(seen), hits)
	}
	stalk := func(what string, more []string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, stalkBin, args...)
		cmd.Env = append(env[:len(env):len(env)], more...)
		out, _ := cmd.CombinedOutput() // many of them fail, and that is the point
		mu.Lock()
		defer mu.Unlock()
		seen[what] = append([]byte("> "), out...)
	}
	ports := freeAddr(t)

	// Broken settings are quoted in errors, as far as they may be.
	var several sync.WaitGroup
	few := make(chan struct{}, 4)
	for name, broken := range map[string]string{
		"scheme": "nosuch://u:" + inURL + "@h/", "port": "redis://:" + inURL + "@h:port/0", "database": "redis://:" + inURL + "@h/db",
		"query": "redis://:" + inURL + "@h/0?nosuch=1", "no host": "redis://:" + inURL, "amqp port": "amqp://u:" + inURL + "@h:port//",
		"amqp query": "amqp://u:" + inURL + "@h//?nosuch=" + inURL, "mixed list": url + "/0;amqp://u:" + inURL + "@h//",
		"unescaped": "redis://:" + secret + "@" + server.Addr + "/0", "nobody there": "redis://:" + inURL + "@127.0.0.1:1/0",
		"wrong password": "redis://:" + inURL + "wrong@" + server.Addr + "/0", "amqp nobody there": "amqp://u:" + inURL + "@127.0.0.1:1//",
		"amqp wrong password": strings.Replace(amqpURL, "guest:guest", "guest:"+inURL, 1),
		"rediss":              "rediss://:" + inURL + "@" + server.Addr + "/0",
	} {
		several.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			stalk("worker: "+name, []string{"CELERY_BROKER_URL=" + broken}, "worker", "--demo", "-Q", queue, "-l", "DEBUG", "broker_connection_max_retries=1", "broker_connection_timeout=1", "broker_connection_retry_on_startup=false")
			stalk("status: "+name, []string{"CELERY_BROKER_URL=" + broken}, "status", "-t", "0.3")
			stalk("results: "+name, []string{"CELERY_RESULT_BACKEND=" + broken}, "result", "x", "--timeout", "0.3")
		})
	}
	several.Wait()
	for _, bad := range []string{"broker_use_ssl: " + secret, "redis_password: [" + secret, secret, "broker_transport_options: " + secret, "result_expires: " + secret} {
		file := filepath.Join(dir, "bad.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(bad, "s3ntinel", "shown")), 0o600); err != nil {
			t.Fatal(err)
		}
		stalk("settings: "+bad[:12], nil, "--config", file, "worker", "--demo", "-Q", queue)
	}

	cmd := exec.Command(stalkBin, "--config", config, "worker", "-Q", queue, "-c", "2", "--demo", "-l", "DEBUG", "-E", "-n", queue+"@test",
		"--heartbeat-interval", "1", "--http", ports[0], "--pprof", ports[1])
	cmd.Env = env
	w := startWorker(t, cmd, queue)
	w.waitReady()
	password := "redis://:" + inURL + "@" + server.Addr
	s := setup{name: "secret", broker: password + "/0", backend: password + "/1"}
	stop := make(chan struct{})
	events := make(chan []byte)
	watching := exec.Command(stalkBin, "--config", config, "events", "--dump")
	watching.Env = env
	var dumped bytes.Buffer
	watching.Stdout, watching.Stderr = &dumped, &dumped
	if err := watching.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-stop
		_ = watching.Process.Signal(syscall.SIGINT)
		_ = watching.Wait()
		events <- dumped.Bytes()
	}()
	s.python(t, queue).run(`
		assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
		raises(ValueError, "boom", fail.apply_async(queue=Q).get, timeout=60)
		assert retry.apply_async((1, 0), queue=Q).get(timeout=60) == 1
		app.send_task("demo.add", ("wrong",), {"z": 1}, queue=Q)
		app.send_task("nosuch.task", queue=Q)
		with app.connection_for_write() as connection:
		    connection.Producer().publish("no task", routing_key=Q)
		wait(lambda: left(Q + ".quarantine") >= 1, 40)
	`)
	at := func(what string, more []string, args ...string) {
		several.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			stalk(what, more, args...)
		})
	}
	for _, what := range []string{"ping", "conf", "conf --with-defaults", "report", "stats", "active", "registered", "active_queues", "memsample", "query_task x"} {
		at("inspect "+what, nil, append([]string{"--config", config, "inspect"}, strings.Fields(what)...)...)
		at("inspect -j "+what, nil, append(append([]string{"--config", config, "inspect"}, strings.Fields(what)...), "-j")...)
	}
	for _, what := range []string{"report", "report -j", "status", "list bindings", "quarantine list -Q " + queue, "quarantine show -Q " + queue, "call demo.add --args [1] --queue " + queue, "check --http " + ports[0], "control nosuch", "control rate_limit demo.add 1/s", "--help", "worker --help"} {
		at(what, nil, append([]string{"--config", config}, strings.Fields(what)...)...)
	}
	several.Wait()
	for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/nosuch"} {
		seen["http "+path] = httpGet(t, "http://"+ports[0]+path)
	}
	for _, path := range []string{"", "goroutine?debug=2", "heap?debug=1", "cmdline", "threadcreate?debug=1"} {
		seen["pprof "+path] = httpGet(t, "http://"+ports[1]+"/debug/pprof/"+path)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	seen["cmdline"] = cmdline
	w.signal(syscall.SIGUSR1)
	w.waitLog("stacks of all goroutines")
	// Everything in the broker and the result store, commands and events as they pass included.
	for db := range 2 {
		dump := exec.Command(python, "-c", `
import redis, sys
c = redis.Redis.from_url(sys.argv[1])
for k in c.scan_iter(count=1000):
    print(k, c.dump(k))
`, fmt.Sprintf("%s/%d", password, db))
		out, err := dump.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		seen[fmt.Sprintf("database %d", db)] = out
	}
	// The server hangs up on everybody, and then wants another password.
	redisAs := func(args ...string) {
		t.Helper()
		program := "import redis, sys; print(redis.Redis.from_url(sys.argv[1]).execute_command(*sys.argv[2:]))"
		if out, err := exec.Command(python, append([]string{"-c", program, password + "/0"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	redisAs("CONFIG", "SET", "requirepass", "another")
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	w.waitLog("Cannot connect to")
	close(stop)
	seen["events"] = <-events
	w.signal(syscall.SIGQUIT)
	w.wait(60 * time.Second)
	seen["log"] = w.output()

	// A crash: the runtime prints all stacks.
	crash := exec.Command(stalkBin, "--config", config, "worker", "-Q", queue, "--demo", "-l", "DEBUG", "-n", queue+"c@test")
	crash.Env = append(env[:len(env):len(env)], "GOTRACEBACK=all")
	c := startWorker(t, crash, queue+"c")
	c.waitLog("Cannot connect to")
	c.signal(syscall.SIGABRT)
	c.wait(30 * time.Second)
	seen["crash"] = c.output()
	if !bytes.Contains(seen["crash"], []byte("goroutine ")) {
		t.Error("no stacks of the crash: nothing was searched")
	}
	search()
}

func freeAddr(t *testing.T) (addrs [2]string) {
	t.Helper()
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs
}

func httpGet(t *testing.T, url string) []byte {
	t.Helper()
	client := &http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	_ = resp.Header.Write(&b)
	return append(b.Bytes(), body...)
}
