package interop_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A driver is a Python process of the Django project (pyfixtures/django_project/driver.py).
type driver struct {
	cmd *exec.Cmd
	log string
	in  io.WriteCloser

	mu      sync.Mutex
	next    int                   // guarded by mu
	waiting map[int]chan pyAnswer // guarded by mu
	dead    error                 // guarded by mu; set when the process has ended
}

type pyAnswer struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
	Kind  string          `json:"kind"`
}

var drivers struct {
	mu     sync.Mutex
	byKey  map[string]func() (*driver, error)
	ending []*driver
}

// driverFor returns the driver of a setup, starting it the first time.
func driverFor(s setup) (*driver, error) {
	drivers.mu.Lock()
	if drivers.byKey == nil {
		drivers.byKey = map[string]func() (*driver, error){}
	}
	get, ok := drivers.byKey[s.key()]
	if !ok {
		get = sync.OnceValues(func() (*driver, error) { return startDriver(s) })
		drivers.byKey[s.key()] = get
	}
	drivers.mu.Unlock()
	return get()
}

func startDriver(s setup) (*driver, error) {
	d := &driver{waiting: map[int]chan pyAnswer{}, log: filepath.Join(scratch, unique("driver")+".log")}
	d.cmd = exec.Command(python, "-u", "driver.py")
	d.cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
	d.cmd.Env = s.environment()
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd.Stderr = log
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	drivers.mu.Lock()
	drivers.ending = append(drivers.ending, d)
	drivers.mu.Unlock()
	go d.read(out)
	return d, nil
}

// environment is what a Python process of the Django project needs.
func (s setup) environment(more ...string) []string {
	return append(os.Environ(), append([]string{
		"STALK_BROKER=" + s.broker, "STALK_BACKEND=" + s.backend, "STALK_SETTINGS=" + s.pythonSettings(),
		"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1",
	}, more...)...)
}

func (d *driver) read(out io.Reader) {
	lines := bufio.NewReader(out)
	var err error
	for {
		var line []byte
		if line, err = lines.ReadBytes('\n'); err != nil {
			break
		}
		var a pyAnswer
		if err = json.Unmarshal(line, &a); err != nil {
			break
		}
		d.mu.Lock()
		if c := d.waiting[a.ID]; c != nil {
			c <- a // capacity 1, one answer
		}
		d.mu.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = fmt.Errorf("the Python driver has ended (%v):\n%s", err, tail(d.log))
	for id, c := range d.waiting {
		delete(d.waiting, id)
		close(c)
	}
}

func (d *driver) send(call map[string]any) (<-chan pyAnswer, func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead != nil {
		return nil, nil, d.dead
	}
	d.next++
	id, c := d.next, make(chan pyAnswer, 1)
	call["id"] = id
	line, err := json.Marshal(call)
	if err != nil {
		return nil, nil, err
	}
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		return nil, nil, err
	}
	d.waiting[id] = c
	return c, func() {
		d.mu.Lock()
		delete(d.waiting, id)
		d.mu.Unlock()
	}, nil
}

// endDrivers ends every driver by its own means: the end of its input.
func endDrivers() {
	for _, d := range drivers.ending {
		d.in.Close()
		timer := time.AfterFunc(5*time.Second, func() { d.cmd.Process.Kill() })
		d.cmd.Wait()
		timer.Stop()
	}
}

// A session is a Python thread with names of its own, for one test.
type session struct {
	t    *testing.T
	d    *driver
	name string
	args map[string]any // names every call sees
}

// python opens a session; Q in it is the queue.
func (s setup) python(t *testing.T, queue string) *session {
	t.Helper()
	d, err := driverFor(s)
	if err != nil {
		t.Fatal(err)
	}
	return &session{t: t, d: d, name: unique("s"), args: map[string]any{"Q": queue}}
}

// run executes Python; an exception fails the test. It returns what the code assigned to `value`.
func (p *session) run(code string, args ...map[string]any) json.RawMessage {
	p.t.Helper()
	return p.runFor(4*time.Minute, code, args...)
}

// runFor is run for what may take longer.
func (p *session) runFor(most time.Duration, code string, args ...map[string]any) json.RawMessage {
	p.t.Helper()
	select {
	case a, ok := <-p.start(code, args...):
		if !ok {
			p.t.Fatal(p.d.dead)
		}
		if a.Error != "" {
			p.t.Fatalf("python: %s\n%s", a.Error, numbered(code))
		}
		return a.Value
	case <-time.After(most):
		p.t.Fatalf("python does not answer:\n%s", numbered(code))
		return nil
	}
}

// start executes Python and does not wait for it.
func (p *session) start(code string, args ...map[string]any) <-chan pyAnswer {
	p.t.Helper()
	names := maps.Clone(p.args)
	for _, a := range args {
		maps.Copy(names, a)
	}
	answer, forget, err := p.d.send(map[string]any{"session": p.name, "code": dedent(code), "args": names})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(forget)
	return answer
}

// dedent removes the indentation that a Go raw string has.
func dedent(code string) string {
	lines := strings.Split(strings.Trim(code, "\n"), "\n")
	indent := lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], "\t "))]
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, indent)
	}
	return strings.Join(lines, "\n") + "\n"
}

func numbered(code string) string {
	var b strings.Builder
	for i, l := range strings.Split(dedent(code), "\n") {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, l)
	}
	return b.String()
}

// tail is the end of a log file.
func tail(path string) string {
	const most = 12 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// strings runs code whose value is a list of strings.
func (p *session) strings(code string) []string {
	p.t.Helper()
	var list []string
	if err := json.Unmarshal(p.run(code), &list); err != nil {
		p.t.Fatal(err)
	}
	return list
}

// value runs code and reads what it assigned to `value`.
func (p *session) value(code string, value any, args ...map[string]any) {
	p.t.Helper()
	if err := json.Unmarshal(p.run(code, args...), value); err != nil {
		p.t.Fatal(err)
	}
}
