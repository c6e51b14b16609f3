package command

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// The settings of chords and the lifetimes reach the store.
func TestChordSettings(t *testing.T) {
	for _, tt := range []struct {
		name, settings  string
		chord, failures time.Duration // 0: for ever
		list            bool
	}{
		{"by default a day", "", 24 * time.Hour, 24 * time.Hour, false},
		{"as result_expires", "result_expires: 50", 50 * time.Second, 50 * time.Second, false},
		{"null is as result_expires", "result_expires: 50, result_chord_expires: null, result_failure_expires: null", 50 * time.Second, 50 * time.Second, false},
		{"their own", "result_expires: 50, result_chord_expires: 70, result_failure_expires: 60", 70 * time.Second, 60 * time.Second, false},
		{"0 is for ever", "result_chord_expires: 0, result_failure_expires: 0", 0, 0, false},
		{"unordered", "result_backend_transport_options: {result_chord_ordered: false}, result_chord_join_timeout: 10", 24 * time.Hour, 24 * time.Hour, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := miniredis.RunT(t)
			s := settingsOf(t, fmt.Sprintf("{result_backend: 'redis://%s/0', %s}", server.Addr(), tt.settings))
			c := cli.NewContext(nil, flag.NewFlagSet("worker", flag.ContinueOnError), nil)
			b, err := results(c, s, nil, protocol.Encoding{}, 0)
			if err != nil || len(s.errs) > 0 {
				t.Fatalf("results: %v, %v", err, s.errs)
			}
			defer b.Close()
			chords := b.(resultbackend.Chords)
			if _, err := chords.Count(t.Context(), resultbackend.Member{GroupID: "g", TaskID: "t", State: protocol.Success}); err != nil {
				t.Fatal(err)
			}
			if err := b.Store(t.Context(), resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Failure}}); err != nil {
				t.Fatal(err)
			}
			if got := server.TTL("celery-taskset-meta-g.j"); got != tt.chord {
				t.Errorf("a chord's keys live %v, want %v", got, tt.chord)
			}
			if got := server.TTL("celery-task-meta-t"); got != tt.failures {
				t.Errorf("a failure lives %v, want %v", got, tt.failures)
			}
			if got := server.Type("celery-taskset-meta-g.j") == "list"; got != tt.list {
				t.Errorf("the parts are a %s", server.Type("celery-taskset-meta-g.j"))
			}
		})
	}
}
