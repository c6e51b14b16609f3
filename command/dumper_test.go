package command

import (
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// The lines are those `celery events --dump` of 5.7 printed for the same events, in UTC.
func TestEventsAreDumpedAsCeleryDoes(t *testing.T) {
	here := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = here })
	var d dumper
	for _, tt := range []struct{ event, want string }{
		{
			`{"hostname": "w1@h", "utcoffset": 0.0, "pid": 26889, "clock": 603, "freq": 2.0, "active": 0, "processed": 5, "loadavg": [12.61, 7.32, 3.68], "sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux", "timestamp": 1795287211.54302, "type": "worker-heartbeat"}`,
			"w1@h [2026-11-21 18:53:31.543020+00:00] heartbeat: active=0, clock=603, freq=2.0, loadavg=[12.61, 7.32, 3.68], local_received=1795287211.5490553, pid=26889, processed=5, sw_ident=py-celery, sw_sys=Linux, sw_ver=5.7.0, utcoffset=0.0",
		},
		{
			`{"hostname": "w1@h", "utcoffset": 0.0, "pid": 26889, "clock": 609, "uuid": "1e5e", "name": "cl.add", "args": "[1, 2]", "kwargs": "{}", "root_id": "1e5e", "parent_id": null, "retries": 0, "eta": null, "expires": null, "timestamp": 1795287216.63219, "type": "task-received"}`,
			"w1@h [2026-11-21 18:53:36.632190+00:00] task received: cl.add(1e5e) args=[1, 2] kwargs={} clock=609, eta=None, expires=None, local_received=1795287211.5490553, parent_id=None, pid=26889, retries=0, root_id=1e5e, utcoffset=0.0",
		},
		{
			`{"hostname": "w1@h", "utcoffset": 0.0, "pid": 26889, "clock": 611, "uuid": "1e5e", "result": "3", "runtime": 0.013954242000181694, "timestamp": 1795287216.0, "type": "task-succeeded"}`,
			"w1@h [2026-11-21 18:53:36+00:00] task succeeded: cl.add(1e5e) args=[1, 2] kwargs={} clock=611, local_received=1795287211.5490553, pid=26889, result=3, runtime=0.013954242000181694, utcoffset=0.0",
		},
		{
			`{"hostname": "w1@h", "utcoffset": -1.0, "pid": 1, "clock": 616, "uuid": "unknown", "exception": "ValueError('boo')", "timestamp": 1795287218.5, "type": "task-failed"}`,
			"w1@h [2026-11-21 19:53:38.500000+00:00] task failed:  clock=616, exception=ValueError('boo'), local_received=1795287211.5490553, pid=1, utcoffset=-1.0",
		},
		{
			// clients do not keep the clock: theirs is replaced
			`{"hostname": "gen1@h", "utcoffset": 0.0, "pid": 1, "clock": 3, "uuid": "s", "name": "t", "args": "()", "kwargs": "{}", "timestamp": 1795287218.5, "type": "task-sent"}`,
			"gen1@h [2026-11-21 18:53:38.500000+00:00] task sent: t(s) args=() kwargs={} clock=616, local_received=1795287211.5490553, pid=1, utcoffset=0.0",
		},
		{
			`{"hostname": "w1@h", "timestamp": 1795287218.5, "type": "worker-offline"}`,
			"w1@h [2026-11-21 18:53:38.500000+00:00] shutdown: clock=619, local_received=1795287211.5490553",
		},
	} {
		fields, err := protocol.ParseJSON([]byte(tt.event), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		events, err := protocol.DecodeEvents(protocol.Message{
			Body: []byte(tt.event), Properties: protocol.Properties{ContentType: "application/json", ContentEncoding: "utf-8"},
		}, protocol.DecodeOptions{})
		if err != nil || len(events) != 1 {
			t.Fatalf("%v: %v", fields, err)
		}
		got := d.line(events[0], time.UnixMicro(1795287211549055))
		want := strings.ReplaceAll(tt.want, "1795287211.5490553", "1795287211.549055")
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestOddEventsAreDumpedToo(t *testing.T) {
	var d dumper
	for _, fields := range []*protocol.Object{
		nil,
		object("uuid", 3, "timestamp", "soon"),
		object("timestamp", 1e300, "hostname", nil, "utcoffset", "west"),
		object("timestamp", -1e14, "clock", "x"),
	} {
		for _, kind := range []string{"task-received", "worker-heartbeat", "x"} {
			if line := d.line(protocol.Event{Type: kind, Fields: fields}, time.Now()); line == "" {
				t.Errorf("%s of %v is nothing", kind, fields)
			}
		}
	}
	for i := range 3 * knownTasks {
		d.line(protocol.Event{Type: "task-received", Fields: object("uuid", i)}, time.Now())
	}
	if len(d.tasks) > knownTasks+1 || len(d.order) != len(d.tasks) {
		t.Errorf("%d tasks and %d ids are remembered", len(d.tasks), len(d.order))
	}
}
