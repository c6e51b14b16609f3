package interop_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The tests are written for the newest Celery. What older ones do otherwise stands here, once for all tests: since leaves
// a test out, and the Before functions put what an older Celery says into the words of today. What is wrong in a client,
// pyfixtures/django_project/driver.py mends.

// celeryVersion is that of the Celery beside which all runs, "5.7.0".
var celeryVersion = sync.OnceValues(func() (string, error) {
	out, err := exec.Command(python, "-c", "import celery; print(celery.__version__)").Output()
	return strings.TrimSpace(string(out)), err
})

// celeryHas tells whether that Celery is 5.minor or newer: for tests of what was done otherwise before.
func celeryHas(t *testing.T, minor int) bool {
	t.Helper()
	version, err := celeryVersion()
	if err != nil {
		t.Fatal(err)
	}
	var major, have int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &have); err != nil {
		t.Fatalf("Celery's version %q: %v", version, err)
	}
	return major > 5 || major == 5 && have >= minor
}

// since skips what Celery does from a release on, 5.minor. A line in the file that INTEROP_SKIPPED names tells it to
// whoever runs the tests without -v.
func since(t *testing.T, minor int, what string) {
	t.Helper()
	if celeryHas(t, minor) {
		return
	}
	if path := os.Getenv("INTEROP_SKIPPED"); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := fmt.Fprintf(file, "%s: %s from 5.%d on\n", t.Name(), what, minor); err != nil {
			t.Fatal(err)
		}
	}
	t.Skipf("%s from 5.%d on", what, minor)
}

// eventsBefore57 are the events of a task, theirs in today's words and ours without what they did not tell: utcoffset
// was a whole number of hours, and a task that rejects its message was not told as failed.
func eventsBefore57(name string, theirs, ours []map[string]any) (_, _ []map[string]any) {
	for _, e := range theirs {
		if e["utcoffset"] == "int" {
			e["utcoffset"] = "float"
		}
		if all, ok := e["all"].(string); ok {
			e["all"] = strings.ReplaceAll(all, "'utcoffset': 'int'", "'utcoffset': 'float'")
		}
	}
	if name == "reject" {
		ours = slices.DeleteFunc(ours, func(e map[string]any) bool { return e["type"] == "task-failed" })
	}
	return theirs, ours
}

// logBefore57 are the lines of a log in today's words: a Redis address without a password showed none, and the list
// around a text that is cut was not closed.
func logBefore57(theirs []string) []string {
	mend := strings.NewReplacer("redis://127.", "redis://:**@127.", "...', ...}", "...'], ...}")
	for i, line := range theirs {
		theirs[i] = mend.Replace(line)
	}
	return theirs
}

var naive = regexp.MustCompile(`( \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)\] `)

// dumpBefore56 are the lines of celery events --dump in today's words: the time was without its zone, which is UTC.
func dumpBefore56(theirs []string) []string {
	for i, line := range theirs {
		theirs[i] = naive.ReplaceAllString(line, "$1+00:00] ")
	}
	return theirs
}
