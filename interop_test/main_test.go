// Package interop_test runs the stalk binary beside real Django and Celery on real brokers.
//
// The tests are written as a user of Celery would write them, in Python, and run by a few long-lived Python
// processes (driver_test.go); Go starts and kills workers and brokers around them. Each test has queues of
// its own, so they run side by side. They need CELERY_REDIS_URL, CELERY_AMQP_URL and STALK_PYTHON, which
// `make test` provides.
package interop_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What every test needs; set by TestMain before any test runs.
var (
	redisURL = os.Getenv("CELERY_REDIS_URL")
	amqpURL  = os.Getenv("CELERY_AMQP_URL")
	python   = os.Getenv("STALK_PYTHON")
	root     string // of the checkout
	scratch  string // temporary folder of this run
	stalkBin string // built with the race detector
	shopBin  string // interop_test/shopworker, likewise
	soakBin  string // interop_test/soakworker, likewise
	missing  string // why nothing can run; "" when all is there
)

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) (code int) {
	var err error
	if root, err = filepath.Abs(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if python == "" {
		if path := filepath.Join(root, ".build/venv/bin/python"); exec.Command(path, "-c", "import celery, django").Run() == nil {
			python = path
		}
	}
	for _, need := range []struct{ value, text string }{
		{redisURL, "CELERY_REDIS_URL is not set"},
		{amqpURL, "CELERY_AMQP_URL is not set"},
		{python, "STALK_PYTHON is not set and .build/venv has no Celery"},
	} {
		if need.value == "" {
			missing = need.text + "; run make test"
		}
	}
	if missing != "" {
		return m.Run() // every test skips, or fails when INTEROP=required
	}
	if scratch, err = os.MkdirTemp("", "stalk-interop-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	defer endDrivers()
	flag.Parse()
	// They take seconds to start and end: a run of single tests goes without, unless it asks for them.
	if flag.Lookup("test.run").Value.String() == "" || os.Getenv("INTEROP_NEIGHBOURS") != "" {
		end, err := startNeighbours()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() {
			if err := end(); err != nil {
				fmt.Fprintf(os.Stderr, "FAIL: a Python worker beside all tests: %v\n", err)
				code = max(code, 1)
			}
		}()
	}
	if celeryInstead || os.Getenv("SOAK") != "" { // the long soak builds its own
		return m.Run()
	}
	stalkBin, shopBin, soakBin = filepath.Join(scratch, "stalk"), filepath.Join(scratch, "shopworker"), filepath.Join(scratch, "soakworker")
	build := exec.Command("go", "build", "-race", "-o", scratch, ".", "./interop_test/shopworker", "./interop_test/soakworker")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "interop: go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// need skips a test that cannot run here, or fails it when it must.
func need(t *testing.T) {
	t.Helper()
	if missing == "" {
		return
	}
	if os.Getenv("INTEROP") == "required" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}
