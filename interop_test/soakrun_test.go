package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A soak is one run: tasks of every kind sent by a Python client, while workers are killed.
type soak struct {
	Broker, Backend string
	Name            string
	Tasks, Kills    int
	Seed            uint64
	Workers, Slots  int      // Go workers, and handlers at a time of each
	Python          int      // Python workers on the same queues
	PythonKills     int      // of them, besides Kills
	Celery          bool     // no Go worker at all
	SharedParts     bool     // parts of chords run in either language: a Python worker may get those of a killed Go worker
	Points          []string // where the Go workers are killed, in turn
	Kinds           []string // of the client's roots; nil: all
	Visibility      int      // seconds after which a killed worker's messages come back, on Redis
	Window          int      // tasks under way at most
	Program         string   // soakworker

	t       *testing.T
	dir     string
	queues  [3]string // Go's, Python's, for both
	ended   atomic.Int64
	giveUp  func()         // ends the client
	crew    sync.WaitGroup // who keeps the workers
	killing sync.Mutex
	plan    []string       // guarded by killing: points to come of Go workers
	python  int            // guarded by killing: kills to come of Python workers
	killed  map[int]string // guarded by killing: points by process
	enough  chan struct{}  // closed after the last kill
	over    chan struct{}  // closed when all results are there
}

// A soakReport is what the Python client found.
type soakReport struct {
	Lost    []map[string]string `json:"lost"`
	Root    map[string]int      `json:"root"`  // by task: the number of what it was sent in
	Queue   map[string]string   `json:"queue"` // by task: go, py or both
	Wrong   []map[string]any    `json:"wrong"`
	Revoked int                 `json:"revoked"`
	Longest float64             `json:"longest"`
	Slowest string              `json:"longest_kind"`
	Celery  string              `json:"celery"`
	Roots   int                 `json:"roots"`
	Kinds   map[string]int      `json:"kinds"`
	Tasks   int                 `json:"tasks"`
	IDs     map[string]string   `json:"ids"`
	Notes   []string            `json:"notes"`
	Left    map[string]int      `json:"left"`
	Held    bool                `json:"held"` // Left counts what workers hold, too
}

// outside are the kills from outside, of the command line that users have.
const (
	atRandom = "random"
	atTerm   = "SIGTERM" // a warm shutdown from outside, and the kill shortly after
	ofPython = "python"
)

func (s *soak) options() map[string]any {
	return map[string]any{"visibility_timeout": s.Visibility, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
}

func (s *soak) environment() []string {
	settings, err := json.Marshal(map[string]any{
		"broker": s.Broker, "backend": s.Backend, "ledger": s.path("ledger"), "transport_options": s.options(),
		"go": s.queues[0], "py": s.queues[1], "both": s.queues[2], "python": s.Python > 0, "stalk": !s.Celery,
		"tasks": s.Tasks, "seed": s.Seed, "window": s.Window, "kinds": s.Kinds, "patience": s.patience(), "shared_parts": s.SharedParts,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return append(os.Environ(), "SOAK="+string(settings), "SOAK_LEDGER="+s.path("ledger"), "PYTHONDONTWRITEBYTECODE=1",
		"PYTHONUNBUFFERED=1", "C_FORCE_ROOT=1", "GORACE=halt_on_error=1 exitcode=66")
}

// patience is how many seconds the client waits for one result.
func (s *soak) patience() int {
	if s.Celery {
		return 20 // what Celery loses stays lost
	}
	return 60
}

func (s *soak) path(name string) string { return filepath.Join(s.dir, name) }

// run is the whole soak.
func (s *soak) run(t *testing.T) soakResult {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.giveUp = cancel
	s.t, s.dir, s.over, s.enough, s.killed = t, t.TempDir(), make(chan struct{}), make(chan struct{}), map[int]string{}
	if s.Kills+s.PythonKills == 0 {
		close(s.enough)
	}
	if keep := os.Getenv("SOAK_KEEP"); keep != "" { // the ledger and all logs, to look at
		s.dir = filepath.Join(keep, fmt.Sprintf("%s-%d", s.Name, s.Seed))
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"go", "py", "both"} {
		s.queues[i] = unique("soak-" + name)
	}
	if err := os.WriteFile(s.path("ledger"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"broker_transport_options": s.options(), "task_track_started": true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("stalk.yaml"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	draw := rand.New(rand.NewPCG(s.Seed, 1))
	for i := range s.Kills {
		s.plan = append(s.plan, s.Points[i%len(s.Points)])
	}
	draw.Shuffle(len(s.plan), func(i, j int) { s.plan[i], s.plan[j] = s.plan[j], s.plan[i] })

	s.python = s.PythonKills
	began := time.Now()
	watching := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { s.watch(watching) })
	if !s.Celery {
		for i := range s.Workers {
			draw := rand.New(rand.NewPCG(s.Seed, uint64(100+i)))
			s.crew.Go(func() { s.keepGo(i, draw) })
		}
	}
	for i := range s.Python {
		draw := rand.New(rand.NewPCG(s.Seed, uint64(200+i)))
		s.crew.Go(func() { s.keepPython(i, draw) })
	}
	report, err := s.client(ctx)
	select {
	case <-s.over:
	default:
		close(s.over)
	}
	s.crew.Wait()
	close(watching)
	watcher.Wait()
	if err != nil {
		t.Fatalf("the client: %v", err)
	}
	ledger, err := readLedger(s.path("ledger"))
	if err != nil {
		t.Fatal(err)
	}
	return s.judge(report, ledger, time.Since(began))
}

// watch counts the runs that have ended: the kills keep pace with them.
func (s *soak) watch(until <-chan struct{}) {
	f, err := os.Open(s.path("ledger"))
	if err != nil {
		s.t.Error(err)
		return
	}
	defer f.Close()
	buffer := make([]byte, 64<<10)
	fresh := true // at the beginning of a line
	for {
		n, err := f.Read(buffer)
		for _, line := range bytes.SplitAfter(buffer[:n], []byte("\n")) {
			if fresh && len(line) > 0 && line[0] == 'E' {
				s.ended.Add(1)
			}
			fresh = len(line) == 0 && fresh || bytes.HasSuffix(line, []byte("\n")) || len(line) == 0
		}
		if err != nil && err != io.EOF {
			s.t.Error(err)
			return
		}
		if n > 0 {
			continue
		}
		select {
		case <-until:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// next is the point at which the next worker is to be killed, and how many runs must have ended before; "": none.
func (s *soak) next() (point string, after int64) {
	s.killing.Lock()
	defer s.killing.Unlock()
	if len(s.plan) == 0 {
		return "", 0
	}
	point = s.plan[0]
	s.plan = s.plan[1:]
	nth := s.Kills - len(s.plan) - 1
	return point, int64(float64(nth) / float64(s.Kills) * 0.8 * float64(s.Tasks))
}

// nextPython is how many runs must have ended before the next Python worker is to be killed; false: none is.
func (s *soak) nextPython() (after int64, kill bool) {
	s.killing.Lock()
	defer s.killing.Unlock()
	if s.python == 0 {
		return 0, false
	}
	nth := s.PythonKills - s.python
	s.python--
	return int64(float64(nth) / float64(s.PythonKills) * 0.8 * float64(s.Tasks)), true
}

// back returns a point whose worker ended in another way.
func (s *soak) back(point string) {
	if point == "" {
		return
	}
	s.killing.Lock()
	defer s.killing.Unlock()
	s.plan = append(s.plan, point)
}

func (s *soak) didKill(pid int, point string) {
	s.killing.Lock()
	defer s.killing.Unlock()
	s.killed[pid] = point
	if len(s.killed) == s.Kills+s.PythonKills {
		close(s.enough)
	}
}

// wait pauses and reports false when the soak is over.
func (s *soak) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-s.over:
		return false
	}
}

// keepGo keeps one Go worker running: it is killed as planned and started again.
func (s *soak) keepGo(i int, draw *rand.Rand) {
	for n := 0; ; n++ {
		select {
		case <-s.over:
			return
		default:
		}
		point, after := s.next()
		w := s.startGo(unique(fmt.Sprintf("soak%d-%d", i, n)), point, draw)
		if w == nil {
			return
		}
		for point != "" && s.ended.Load() < after && w.alive() {
			if !s.wait(10 * time.Millisecond) {
				break
			}
		}
		switch {
		case point == "":
		case point == atRandom || point == atTerm:
			s.wait(time.Duration(draw.IntN(600)) * time.Millisecond)
			if point == atTerm {
				w.cmd.Process.Signal(syscall.SIGTERM)
				s.wait(time.Duration(draw.IntN(60)) * time.Millisecond)
			}
			w.cmd.Process.Signal(syscall.SIGKILL)
		default:
			fmt.Fprintln(w.in, point, 1+draw.IntN(s.passes(point)))
			// A point that is seldom passed may not come: then the kill is one from outside.
			late := time.After(10 * time.Second)
			select {
			case <-w.done:
			case <-late:
				w.cmd.Process.Signal(syscall.SIGKILL)
			case <-s.over:
			}
		}
		select {
		case <-w.done:
		case <-s.over:
			if w.stop(); point != "" && w.cmd.ProcessState.ExitCode() == 0 {
				return
			}
		}
		<-w.done
		status := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case status.Signaled() && status.Signal() == syscall.SIGKILL:
			s.didKill(w.cmd.Process.Pid, point)
		case status.Signaled() && status.Signal() == syscall.SIGTERM: // it had not begun to listen for signals
			s.back(point)
		case point == "" && status.ExitStatus() == 0:
			return
		case (point == atTerm || point == "stopping") && status.ExitStatus() == 0: // it was faster
			s.back(point)
		default:
			s.giveUp()
			s.t.Errorf("worker %s, to be killed at %q, ended by itself: %v\n%s", w.name, point, w.cmd.ProcessState, tail(w.log))
			return
		}
	}
}

// passes is how often a point may be passed before the kill; some are rare.
func (s *soak) passes(point string) int {
	most := max(2, s.Tasks/max(1, s.Kills)/2)
	switch point {
	case "published":
		return max(1, most/4)
	case "claimed", "finished":
		return max(1, most/20)
	}
	return most
}

// A soakWorker is one process.
type soakWorker struct {
	name, log string
	cmd       *exec.Cmd
	in        io.WriteCloser
	done      chan struct{}
}

func (w *soakWorker) alive() bool {
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

// stop is a warm shutdown; one that lasts too long ends by force, which the exit code tells.
func (w *soakWorker) stop() {
	w.cmd.Process.Signal(syscall.SIGTERM)
	w.in.Close()
	select {
	case <-w.done:
	case <-time.After(30 * time.Second):
		syscall.Kill(-w.cmd.Process.Pid, syscall.SIGABRT) // with the stacks of all goroutines in its log
		<-w.done
	}
}

func (s *soak) startGo(name, point string, draw *rand.Rand) *soakWorker {
	queues := s.queues[0] + "," + s.queues[2]
	slots := strconv.Itoa(s.Slots)
	var args []string
	switch point {
	case "", atRandom, atTerm:
		args = []string{"-b", s.Broker, "--result-backend", s.Backend, "--config", s.path("stalk.yaml"), "worker", "-Q", queues, "-c", slots, "-n", name + "@test", "-l", "INFO"}
	default:
		options, _ := json.Marshal(s.options())
		args = []string{"-points", "-b", s.Broker, "-result-backend", s.Backend, "-options", string(options), "-Q", queues, "-c", slots, "-n", name + "@test"}
	}
	if draw.IntN(2) == 0 {
		args = append(args, "-E")
	}
	return s.start(name, exec.Command(s.Program, args...))
}

func (s *soak) start(name string, cmd *exec.Cmd) *soakWorker {
	w := &soakWorker{name: name, log: s.path(name + ".log"), cmd: cmd, done: make(chan struct{})}
	log, err := os.Create(w.log)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	defer log.Close()
	cmd.Env, cmd.Stdout, cmd.Stderr = s.environment(), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if w.in, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Error(err)
		return nil
	}
	go func() {
		defer close(w.done)
		cmd.Wait() // read from ProcessState
	}()
	return w
}

// keepPython keeps one Python worker running, which late acknowledgement makes as safe as Celery can be.
func (s *soak) keepPython(i int, draw *rand.Rand) {
	queues := s.queues[1] + "," + s.queues[2]
	if s.Celery {
		queues += "," + s.queues[0]
	}
	for n := 0; ; n++ {
		name := unique(fmt.Sprintf("python%d-%d", i, n))
		cmd := exec.Command(python, "-m", "celery", "-A", "soak", "worker", "-Q", queues, "-n", name+"@test", "-l", "INFO", "-c", strconv.Itoa(min(s.Slots, 3)))
		cmd.Dir = filepath.Join(root, "pyfixtures")
		w := s.start(name, cmd)
		if w == nil {
			return
		}
		after, kill := s.nextPython()
		for kill && s.ended.Load() < after && w.alive() {
			if !s.wait(10 * time.Millisecond) {
				break
			}
		}
		select {
		case <-s.over:
			kill = false
		default:
		}
		if kill {
			s.wait(time.Duration(2000+draw.IntN(3000)) * time.Millisecond) // it takes two seconds to start
			pid := w.cmd.Process.Pid
			syscall.Kill(-pid, syscall.SIGKILL) // with its pool
			<-w.done
			s.didKill(pid, ofPython)
			continue
		}
		select {
		case <-w.done:
			s.giveUp()
			s.t.Errorf("worker %s ended by itself: %v\n%s", w.name, w.cmd.ProcessState, tail(w.log))
			return
		case <-s.over:
			w.stop()
			syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL) // ESRCH, unless its pool was left behind
			return
		}
	}
}

// client runs the Python client. It closes over once all results are there and no message is left.
func (s *soak) client(ctx context.Context) (*soakReport, error) {
	cmd := exec.CommandContext(ctx, python, "soak.py")
	cmd.Dir, cmd.Env = filepath.Join(root, "pyfixtures"), append(s.environment(), "PYTHONFAULTHANDLER=1")
	errs, err := os.Create(s.path("client.log"))
	if err != nil {
		return nil, err
	}
	defer errs.Close()
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill() // it has ended when all went well
	go func() {
		select {
		case <-s.enough:
		case <-s.over:
		}
		fmt.Fprintln(in, "enough")
	}()
	const silence = 5 * time.Minute // it waits for one result for a fifth of that, and then says something
	silent := time.AfterFunc(silence, func() { cmd.Process.Signal(syscall.SIGABRT) })
	defer silent.Stop()
	lines := bufio.NewReader(out)
	said := time.Now()
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, tail(s.path("client.log"))) // where it was, if it was silent for too long
		}
		silent.Reset(silence)
		var answer struct {
			Sent    int         `json:"sent"`
			Done    int         `json:"done"`
			Missing []string    `json:"missing"`
			Drained bool        `json:"drained"`
			Report  *soakReport `json:"report"`
			Error   string      `json:"error"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return nil, fmt.Errorf("%w: %s", err, line)
		}
		switch {
		case answer.Error != "":
			return nil, fmt.Errorf("%s", answer.Error)
		case answer.Report != nil:
			return answer.Report, nil
		case answer.Drained:
			close(s.over)
			s.crew.Wait() // the workers have ended
			silent.Reset(silence)
			in.Close()
		case time.Since(said) > 10*time.Second:
			said = time.Now()
			s.killing.Lock()
			s.t.Logf("%s: %d sent, %d done, %v missing, %d kills", s.Name, answer.Sent, answer.Done, answer.Missing, len(s.killed))
			s.killing.Unlock()
		}
	}
}
