package command

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is said in each row was printed by Celery's worker under the same signals, but for the marked ones.
func TestSignalsAreAnsweredAsCeleryAnswersThem(t *testing.T) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "HUP": syscall.SIGHUP, "USR1": sigDump}
	actions := map[action]string{nothing: "-", warm: "warm", cold: "cold", cancel: "cancel", quit: "quit", abandon: "abandon", restart: "restart", dump: "dump"}
	short := map[string]string{warmText: "Warm", coldText: "Cold", againText: "initiate", endTaskText: "terminate", waitText: "Waiting", "Restarting celery worker (stalk worker)": "Restarting"}
	for _, tt := range []struct {
		signals string // REMAP first: REMAP_SIGTERM=SIGQUIT
		want    string // action(said at once; said once tasks end)
		code    int
	}{
		{"TERM", "warm(Warm)", 0},
		{"TERM TERM TERM", "warm(Warm) warm(Warm) warm(Warm)", 0},
		{"INT", "warm(initiate Warm)", 1},
		{"INT TERM", "warm(initiate Warm) warm(Warm)", 1},
		{"TERM INT", "warm(Warm) warm(initiate Warm)", 0},
		{"INT INT", "warm(initiate Warm) cold(terminate)", 1},
		{"TERM INT INT", "warm(Warm) warm(initiate Warm) cold(terminate)", 0},
		{"INT INT INT", "warm(initiate Warm) cold(terminate) cancel(Waiting Cold)", 1},
		{"INT INT INT INT", "warm(initiate Warm) cold(terminate) cancel(Waiting Cold) quit()", 1},
		{"QUIT", "cold(terminate; Cold)", 0},
		{"TERM QUIT", "warm(Warm) cold(terminate; Cold)", 0},
		{"INT QUIT", "warm(initiate Warm) cold(terminate; Cold)", 1},
		{"QUIT TERM", "cold(terminate; Cold) warm(Warm)", 0},
		{"QUIT INT", "cold(terminate; Cold) cancel(Waiting Cold)", 0},
		{"QUIT QUIT", "cold(terminate; Cold) cancel(Waiting Cold)", 0},
		{"QUIT QUIT QUIT", "cold(terminate; Cold) cancel(Waiting Cold) quit()", 0},
		{"QUIT INT INT", "cold(terminate; Cold) cancel(Waiting Cold) quit()", 0},
		{"QUIT QUIT QUIT QUIT", "cold(terminate; Cold) cancel(Waiting Cold) quit() abandon()", 0},
		{"REMAP TERM", "cold(terminate; Cold)", 0},
		{"REMAP TERM TERM TERM", "cold(terminate; Cold) cancel(Waiting Cold) cancel(Waiting Cold)", 0},
		{"REMAP TERM QUIT QUIT TERM", "cold(terminate; Cold) cancel(Waiting Cold) quit() cancel(Waiting Cold)", 0},
		{"REMAP INT", "warm(initiate Warm)", 1},
		{"REMAP INT TERM", "warm(initiate Warm) cold(terminate; Cold)", 1},
		{"HUP", "restart(Restarting)", 0},
		{"HUP HUP", "restart(Restarting) restart(Restarting)", 0},
		{"HUP TERM", "restart(Restarting) warm(Warm)", 0}, // ours: no restart
		{"TERM HUP", "warm(Warm) -()", 0},                 // ours: no restart
		{"USR1 USR1", "dump() dump()", 0},
		{"USR1 INT", "dump() warm(initiate Warm)", 1},
	} {
		t.Run(tt.signals, func(t *testing.T) {
			names := strings.Fields(tt.signals)
			remap := names[0] == "REMAP"
			if remap {
				names = names[1:]
			}
			l := newLadder(remap, "stalk worker")
			var got []string
			for _, name := range names {
				r := l.on(signals[name])
				var said []string
				for _, text := range r.said {
					said = append(said, short[text])
				}
				text := strings.Join(said, " ")
				if r.then != "" {
					text += "; " + short[r.then]
				}
				got = append(got, fmt.Sprintf("%s(%s)", actions[r.action], text))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			if l.code != tt.code {
				t.Errorf("exit code %d, want %d", l.code, tt.code)
			}
			if again := names[len(names)-1] == "HUP" && names[0] == "HUP"; l.again != again {
				t.Errorf("restart: %v, want %v", l.again, again)
			}
			if want := strings.Contains(tt.want, "cold"); l.chilled() != want {
				t.Errorf("tasks may be cut short: %v, want %v", l.chilled(), want)
			}
		})
	}
}

// The first order decides: remote control before a Ctrl+C.
func TestAnOrderBeforeTheSignalDecidesTheExitCode(t *testing.T) {
	l := newLadder(false, "")
	l.stop(0)
	l.on(syscall.SIGINT)
	if l.code != 0 {
		t.Errorf("exit code %d after remote control and INT", l.code)
	}
}
