package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What Python 3.11's logging.Formatter makes of the same record.
func TestFormatsAreThoseOfPython(t *testing.T) {
	line := &logLine{
		Record:  slog.NewRecord(time.Date(2026, 11, 21, 15, 31, 26, 500_999_900, time.Local), slog.LevelWarn, "hello", 0),
		message: "hello", logger: "celery.worker.strategy", taskName: "proj.add", task: "abc",
	}
	for format, want := range map[string]string{
		"%(levelname)s|%(message)s":                          "WARNING|hello",
		"%(levelname)-8s|%(message)s":                        "WARNING |hello",
		"%(levelname)8s|":                                    " WARNING|",
		"%(levelname).3s":                                    "WAR",
		"%(levelno)d %(levelno)5d %(levelno)05d %(levelno)s": "30    30 00030 30",
		"%(msecs)03d %(msecs)d %(msecs).2f %(msecs)s":        "500 500 500.00 500.0",
		"%(asctime)s.%(msecs)03d":                            "2026-11-21 15:31:26,500.500",
		"100%% %(message)s":                                  "100% hello",
		"%(message)r":                                        "'hello'",
		taskLayout:                                           "[2026-11-21 15:31:26,500: WARNING/MainProcess] proj.add[abc]: hello",
		"%(name)s %(process)d":                               "celery.worker.strategy " + strconv.Itoa(os.Getpid()),
		"%(asctime)25s|":                                     "  2026-11-21 15:31:26,500|",
		"%(levelno)x":                                        "1e",
		"%(levelno)+d":                                       "+30",
		"%(process)i %(threadName)s %(processName)s":         strconv.Itoa(os.Getpid()) + " MainThread MainProcess",
	} {
		f, err := newLineFormat(format, "")
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got := f.text(line); got != want {
			t.Errorf("%q = %q, want %q", format, got, want)
		}
	}
	for _, format := range []string{"no fields", "", "%(message)", "{message}", "$message", "%(nosuch)s", "%(message)d", "%(message)s 50%", "%(message)s %d", "%(message)9999s", "%(message)f", "%(levelno)q"} {
		if _, err := newLineFormat(format, ""); err == nil {
			t.Errorf("%q is taken", format)
		}
	}
}

// What Python's time.strftime makes of the same moments.
func TestDatesAreThoseOfPython(t *testing.T) {
	const format = "%Y %m %d %H %M %S %y %b %h %B %a %A %p %I %j %e %F %T %D %R %r %c %x %X %% %u %w %V %G %U %W"
	for at, want := range map[time.Time]string{
		time.Date(2026, 1, 1, 0, 5, 9, 0, time.UTC):    "2026 01 01 00 05 09 26 Jan Jan January Thu Thursday AM 12 001  1 2026-01-01 00:05:09 01/01/26 00:05 12:05:09 AM Thu Jan  1 00:05:09 2026 01/01/26 00:05:09 % 4 4 01 2026 00 00",
		time.Date(2026, 11, 21, 6, 5, 9, 0, time.UTC):  "2026 11 21 06 05 09 26 Nov Nov November Sat Saturday AM 06 325 21 2026-11-21 06:05:09 11/21/26 06:05 06:05:09 AM Sat Nov 21 06:05:09 2026 11/21/26 06:05:09 % 6 6 47 2026 46 46",
		time.Date(2024, 12, 30, 13, 5, 9, 0, time.UTC): "2024 12 30 13 05 09 24 Dec Dec December Mon Monday PM 01 365 30 2024-12-30 13:05:09 12/30/24 13:05 01:05:09 PM Mon Dec 30 13:05:09 2024 12/30/24 13:05:09 % 1 1 01 2025 52 53",
		time.Date(2023, 1, 1, 12, 5, 9, 0, time.UTC):   "2023 01 01 12 05 09 23 Jan Jan January Sun Sunday PM 12 001  1 2023-01-01 12:05:09 01/01/23 12:05 12:05:09 PM Sun Jan  1 12:05:09 2023 01/01/23 12:05:09 % 7 0 52 2022 01 00",
		time.Date(2028, 2, 29, 23, 5, 9, 0, time.UTC):  "2028 02 29 23 05 09 28 Feb Feb February Tue Tuesday PM 11 060 29 2028-02-29 23:05:09 02/29/28 23:05 11:05:09 PM Tue Feb 29 23:05:09 2028 02/29/28 23:05:09 % 2 2 09 2028 09 09",
	} {
		f, err := newDateFormat(format)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.text(at); got != want {
			t.Errorf("%v\n got %q\nwant %q", at, got, want)
		}
	}
	for _, format := range []string{"%Y %Q", "%H%"} {
		if _, err := newDateFormat(format); err == nil {
			t.Errorf("%q is taken", format)
		}
	}
}

func TestLogLines(t *testing.T) {
	format := func(layout, date string) *lineFormat {
		f, err := newLineFormat(layout, date)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, tt := range []struct {
		name  string
		style logStyle
		log   func(*slog.Logger)
		want  string
	}{
		{"values that the message has are not said twice", logStyle{line: format("%(levelname)s %(message)s", "")}, func(l *slog.Logger) {
			l.Info("Task add[x1] received", "task", "x1", "name", "add", "queue", "q a")
		}, "INFO Task add[x1] received queue=\"q a\"\n"},
		{"a traceback follows the line", logStyle{line: format("%(message)s <end>", "")}, func(l *slog.Logger) {
			l.Error("Task add[x1] raised unexpected: E()", "task", "x1", "traceback", "Traceback:\n  a\nE\n")
		}, "Task add[x1] raised unexpected: E() <end>\nTraceback:\n  a\nE\n"},
		{"a handler's line has the format of tasks", logStyle{task: format("%(name)s %(task_name)s[%(task_id)s] %(message)s", "")}, func(l *slog.Logger) {
			l.With("logger", taskLogger, "task", "x1", "name", "add").Warn("half done", "left", 5)
		}, "celery.task add[x1] half done left=5\n"},
		{"names of loggers", logStyle{line: format("%(name)s %(task_name)s %(task_id)s", "")}, func(l *slog.Logger) {
			l.Info("Task add[x1] received", "task", "x1", "name", "add")
			l.Info("Task add[x1] ignored", "task", "x1", "name", "add")
			l.Info("w1 ready.")
		}, "celery.worker.strategy add x1\ncelery.app.trace add x1\ncelery.worker ??? ???\n"},
		{"a date of one's own, and where the line was written", logStyle{line: format("%(asctime)s|%(filename)s %(module)s %(funcName).12s", "%%Y")}, func(l *slog.Logger) { l.Info("x") }, "%Y|logformat_test.go logformat_test command.Test\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			tt.log(styledLog(&out, slog.LevelInfo, tt.style))
			if out.String() != tt.want {
				t.Errorf("printed %q, want %q", out.String(), tt.want)
			}
		})
	}
}

func TestJSONLog(t *testing.T) {
	var out bytes.Buffer
	log := styledLog(&out, slog.LevelInfo, logStyle{json: true, node: "w1@h"})
	log.Debug("not shown")
	log.Warn("Task add[x1] succeeded in 1.5s: 3", "task", "x1", "name", "add", "queue", "q", "took", 1500*time.Millisecond, "state", "SUCCESS", "err", errors.New("e"), "traceback", "a\nb")
	log.Log(context.Background(), critical, "over")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("lines:\n%s", out.String())
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339Nano, got["ts"].(string))
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("ts %v: %v", got["ts"], err)
	}
	delete(got, "ts")
	want := map[string]any{
		"level": "WARNING", "message": "Task add[x1] succeeded in 1.5s: 3", "node": "w1@h", "task": "x1", "name": "add", "queue": "q",
		"took": 1.5, "state": "SUCCESS", "err": "e", "traceback": "a\nb",
	}
	if len(got) != len(want) {
		t.Errorf("keys %v", got)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %v, want %v", k, got[k], v)
		}
	}
	if !strings.Contains(lines[1], `"level":"CRITICAL"`) {
		t.Error(lines[1])
	}
}

func TestLogSettings(t *testing.T) {
	s := settingsOf(t, "{worker_log_format: '%(message)s', worker_task_log_format: 'T %(message)s', worker_log_datefmt: '%H', worker_task_log_datefmt: '%d', worker_log_color: false}")
	c := contextOf(t)
	style, err := logStyleOf(c, s, "n")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := styledLog(&out, slog.LevelInfo, style)
	log.Info("a")
	log.Info("b", "logger", taskLogger)
	if out.String() != "a\nT b\n" || style.line.date == nil || style.task.date == nil {
		t.Errorf("printed %q", out.String())
	}
	if got := s.unread(); len(got) != 1 || got[0] != "worker_log_color" {
		t.Errorf("without effect: %q", got)
	}
	for text, want := range map[string]string{
		"{worker_log_format: 'x'}":       "worker_log_format: \"x\" prints nothing of a line",
		"{worker_task_log_datefmt: '%'}": "worker_task_log_format: date format \"%\" ends in %",
	} {
		if _, err := logStyleOf(c, settingsOf(t, text), "n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
