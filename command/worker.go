package command

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/handlers"
)

// runWorker is `stalk worker`.
func runWorker(c *cli.Context, g Program, p process) (err error) {
	s, notes, err := prepare(c, p.environ)
	if err != nil {
		return err
	}
	chosen := choiceOf(c, s)
	reg, err := g.registry(chosen)
	if err != nil {
		return usageError{err}
	}
	node, err := nodeName(c.String("hostname"))
	if err != nil {
		return err
	}
	logPath, err := expandNode(textOption(c, s, "logfile", "worker_logfile"), node)
	if err != nil {
		return usageError{fmt.Errorf("--logfile: %w", err)}
	}
	pidPath, err := expandNode(textOption(c, s, "pidfile", "worker_pidfile"), node)
	if err != nil {
		return usageError{fmt.Errorf("--pidfile: %w", err)}
	}
	style, err := logStyleOf(c, s, node)
	if err != nil {
		return usageError{err}
	}
	log, closeLog, err := openLog(c.String("loglevel"), logPath, p.stderr, style)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, closeLog()) }()

	cfg, err := workerConfig(c, s, reg, log)
	if err != nil {
		return usageError{err}
	}
	cfg.Control.Commands = g.Control
	cfg.Isolation.Note = chosen.note()
	notes = append(notes, isolationNotes(c, chosen, reg)...)
	memory := memoryOf(os.DirFS("/"))
	if cfg.Memory, err = memory.budget(c.String("memory-budget")); err != nil {
		return usageError{err}
	}
	easeCollector(p)
	if heap := memory.limitHeap(p); heap > 0 {
		log.Info(fmt.Sprintf("memory: the container has %s, Go's heap keeps below %s, tasks may reserve %s", megabytes(memory.container), megabytes(heap), megabytes(cfg.Memory)))
	}
	if names := s.unread(); len(names) > 0 {
		notes = append(notes, "settings without effect here: "+strings.Join(names, ", "))
	}
	web, err := openFront(c, log)
	if err != nil {
		return err
	}
	defer web.close()
	pid, err := claimPidfile(pidPath, p.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pid.release()) }()

	if c.Bool("purge") {
		ctx, end := p.interruptible(c.Context)
		err := purgeFirst(ctx, cfg, log, p)
		end()
		if err != nil {
			return err
		}
	}
	if !givenBool(c, "quiet") {
		banner(p.stdout, cfg, log.Enabled(c.Context, slog.LevelInfo), time.Now())
	}
	for _, n := range notes {
		log.Warn(n)
	}
	return supervise(c.Context, cfg, p, web)
}

func names(hs []handlers.Handler) string {
	if len(hs) == 0 {
		return "none (--demo and --media-root add some)"
	}
	var out []string
	for _, h := range hs {
		out = append(out, h.Name())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// ownLifetime is a lifetime that is result_expires' when it is null (nil).
func ownLifetime(s *settings, name string) *time.Duration {
	if _, given := s.get(name); !given {
		return nil
	}
	return s.lifetime(name)
}

func openLog(level, file string, stderr io.Writer, style logStyle) (*slog.Logger, func() error, error) {
	l, err := parseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	if file == "" {
		return styledLog(stderr, l, style), func() error { return nil }, nil
	}
	f, err := openLogfile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("--logfile: %w", err)
	}
	return styledLog(f, l, style), f.Close, nil
}
