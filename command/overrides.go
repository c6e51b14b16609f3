package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// override takes the key=value arguments behind `stalk worker`, Celery's way of giving a setting on the command
// line (celery/loaders/base.py, cmdline_config_parser): worker_concurrency=2, worker.concurrency=2, .concurrency=2,
// and with a type task_routes='(dict){"a.*": {"queue": "a"}}'.
func (s *settings) override(args []string) error {
	var errs []error
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("worker takes no arguments but key=value settings, got %q", arg))
			continue
		}
		name := strings.ReplaceAll(strings.ToLower(key), ".", "_")
		if strings.HasPrefix(name, "_") {
			name = "worker" + name
		}
		if !isSetting(name) {
			errs = append(errs, fmt.Errorf("%q: %q is no Celery setting%s", arg, name, suggestion(name)))
			continue
		}
		errs = append(errs, s.overrideOne(name, value))
	}
	return errors.Join(errs...)
}

var castTo = regexp.MustCompile(`^\((\w+)\)`)

func (s *settings) overrideOne(name, text string) error {
	const source = "command line"
	m := castTo.FindStringSubmatch(text)
	if m == nil {
		if err := s.setText(name, text, source); err != nil {
			return err
		}
		return nil
	}
	text = text[len(m[0]):]
	var v any
	var err error
	switch m[1] {
	case "string", "any":
		v = text
	case "int":
		v, err = strconv.Atoi(text)
	case "float":
		v, err = strconv.ParseFloat(text, 64)
	case "bool":
		on, ok := truth(text)
		if v = on; !ok {
			err = errors.New("want true or false")
		}
	case "json", "tuple", "list", "dict":
		err = json.Unmarshal([]byte(text), &v)
	default:
		err = fmt.Errorf("no type %q; there are %s", m[1], strings.Join(slices.Sorted(slices.Values([]string{"string", "int", "float", "bool", "json", "tuple", "list", "dict", "any"})), ", "))
	}
	if err != nil {
		return fmt.Errorf("%s=%s%s: %w", name, m[0], text, err)
	}
	s.values[name], s.source[name] = whole(v), source
	return nil
}

// whole turns the whole numbers of a JSON document into ints, as YAML has them.
func whole(v any) any {
	switch v := v.(type) {
	case float64:
		if n := int(v); float64(n) == v {
			return n
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = whole(v[k])
		}
	}
	return v
}
