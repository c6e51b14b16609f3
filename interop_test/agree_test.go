package interop_test

import (
	"strings"
	"testing"
	"time"
)

// A worker that differs from a Python worker in what both must agree about says so when it starts, and says nothing else.
func TestSettingsAreComparedWithPythonWorkers(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		// Nobody else's nodes are to answer.
		s = s.with("control_exchange", unique("agree")).with("event_exchange", unique("agreeev"))
		queue := unique("agree")
		s.celery(t, queue)
		var other *worker
		for range 6 { // it listens for a second, and on a busy machine the answer may be late
			other = mingling(t, func() *worker {
				return s.with("result_serializer", "msgpack").with("result_expires", 60).with("accept_content", []string{"json", "msgpack"}).
					with("broker_transport_options", map[string]any{"visibility_timeout": 77}).stalk(t, queue)
			})
			for end := time.Now().Add(8 * time.Second); time.Now().Before(end) && countLog(other, "settings differ from those of celery") == 0; {
				time.Sleep(20 * time.Millisecond)
			}
			if countLog(other, "settings differ from those of celery") > 0 {
				break
			}
			other.stop()
		}
		for _, want := range []string{
			"result_serializer is 'msgpack' here and 'json' there: ",
			"broker_transport_options.visibility_timeout is 77 here and None there: ",
		} {
			other.waitLog(want)
		}
		other.stop()
		same := mingling(t, func() *worker { return s.stalk(t, queue) })
		same.waitLog("mingle: sync complete")
		time.Sleep(2 * time.Second) // longer than it listens for settings
		if log := string(same.output()); strings.Contains(log, "settings differ") {
			t.Errorf("a worker with the same settings says otherwise:\n%s", log)
		}
	})
}
