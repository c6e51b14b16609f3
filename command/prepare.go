package command

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// prepare reads what a worker is told: command line over environment over settings file. It changes to the folder
// of --workdir first, as Celery does, and returns the lines to warn with at the start. A mistake in any of them is
// a usageError.
func prepare(c *cli.Context, environ []string) (s *settings, notes []string, err error) {
	notes, err = applyEnvironment(c, environ)
	if err != nil {
		return nil, nil, err
	}
	more, err := checkFlags(c)
	if err != nil {
		return nil, nil, err
	}
	notes = append(notes, more...)
	if dir, ok := given(c, "workdir"); ok {
		if err := os.Chdir(dir); err != nil {
			return nil, nil, usageError{fmt.Errorf("--workdir: %w", err)}
		}
	}
	file, _ := given(c, "config")
	namespace, _ := given(c, "config-namespace")
	if s, err = loadSettings(file, namespace, environ); err != nil {
		return nil, nil, usageError{err}
	}
	if err := s.override(c.Args().Slice()); err != nil {
		return nil, nil, usageError{err}
	}
	for _, r := range refused() {
		if v, ok := s.values[r.setting]; ok && v != nil {
			return nil, nil, usageError{fmt.Errorf("%s: %s is not offered here: %s", s.source[r.setting], r.setting, r.do)}
		}
	}
	for _, m := range meaningless() { // a line was printed already
		if name := m.flag.Names()[0]; isSet(c, name) {
			s.read["worker_"+strings.ReplaceAll(name, "-", "_")] = true
		}
	}
	return s, append(notes, s.notes...), nil
}

// textOption is the text of a worker's flag, or else of the setting of the same meaning.
func textOption(c *cli.Context, s *settings, flag, setting string) string {
	v := s.text(setting, "")
	if isSet(c, flag) {
		v = c.String(flag)
	}
	return v
}
