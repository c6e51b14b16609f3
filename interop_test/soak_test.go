package interop_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/internal/testservers"
)

// Workers are killed with SIGKILL, at random and at named points, while tasks of every kind go through them: each
// task has its result, and the right one. The short form runs with all tests, the long one by `make soak`.

// inside are the points at which soakworker kills itself; those of a chord need a store that counts.
var inside = []string{"popped", "recorded", "started", "stored", "published", "acked", "stopping", "claimed", "finished"}

// soakOn is a soak of the usual shape.
func soakOn(name, broker, backend string, tasks, kills int) *soak {
	s := &soak{
		Name: name, Broker: broker, Backend: backend, Tasks: tasks, Kills: kills, Seed: 1, Workers: 3, Slots: 4,
		Python: 1, Visibility: 4, Window: 800, Points: append([]string{atRandom, atTerm}, inside...),
	}
	if strings.HasPrefix(backend, "rpc") {
		s.Points = s.Points[:len(s.Points)-2]
	}
	return s
}

func TestNothingIsLostWhenWorkersAreKilled(t *testing.T) {
	need(t)
	if celeryInstead {
		t.Skip("Celery's own worker loses tasks")
	}
	t.Parallel()
	for _, name := range []string{"redis", "rabbitmq", "rabbitmq+rpc"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A short visibility timeout would take the messages of other tests' workers from them.
			own := testservers.Redis(t).URL
			s := soakOn(name, own, own, 240, 12)
			switch name {
			case "rabbitmq":
				s = soakOn(name, amqpURL, own, 240, 12)
			case "rabbitmq+rpc":
				s = soakOn(name, amqpURL, "rpc://", 120, 9)
			}
			s.Workers, s.Program = 2, soakBin
			r := s.run(t)
			t.Logf("%d tasks, %d kills, %d runs begun again, %d sent twice, the longest took %.1f s", r.Tasks, r.Kills, r.Again, r.Twice, r.Longest)
		})
	}
}

// TestSoak is the long form: SOAK=1, BROKER="redis amqp rpc", TASKS, KILLS, PYTHON_KILLS, SEED, CELERY=1.
func TestSoak(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("the long form: make soak")
	}
	need(t)
	t.Setenv("SOAK_STRICT", "1")
	program := filepath.Join(scratch, "soakworker-plain")
	build := exec.Command("go", "build", "-o", program, "./interop_test/soakworker")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	number := func(name string, otherwise int) int {
		n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	tasks, kills := number("TASKS", 10000), number("KILLS", 100)
	python := number("PYTHON_KILLS", kills/10)
	all := []*soak{
		soakOn("redis", redisURL, redisURL, tasks, kills),
		soakOn("amqp", amqpURL, redisURL+"/1", tasks, kills),
		soakOn("rpc", amqpURL, "rpc://", tasks, kills),
	}
	for _, s := range all {
		s.PythonKills = python
	}
	if os.Getenv("CELERY") != "" {
		for _, s := range slices.Clone(all[:2]) {
			c := soakOn("celery "+s.Name, s.Broker, s.Backend, min(tasks, 2000), 0)
			c.Celery, c.Python, c.PythonKills = true, 3, min(kills, 15)
			all = append(all, c)
		}
	}
	if only := os.Getenv("BROKER"); only != "" {
		all = slices.DeleteFunc(all, func(s *soak) bool {
			return !slices.ContainsFunc(strings.Fields(only), func(o string) bool { return strings.Contains(s.Name, o) })
		})
	}
	if only := os.Getenv("POINTS"); only != "" {
		for _, s := range all {
			s.Points = strings.Split(only, ",")
		}
	}
	var results []soakResult
	for _, s := range all {
		s.Program, s.Seed = program, uint64(number("SEED", 1))
		s.SharedParts = os.Getenv("SHARED") != ""
		if only := os.Getenv("KINDS"); only != "" {
			s.Kinds = strings.Split(only, ",")
		}
		t.Run(s.Name, func(t *testing.T) { results = append(results, s.run(t)) })
	}
	fmt.Println()
	printSoak(os.Stdout, results)
	if err := saveSoak(results); err != nil {
		t.Error(err)
	}
}
