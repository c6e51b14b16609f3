package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Registry is the set of tasks a worker serves. It is immutable and safe for concurrent use.
type Registry struct {
	byName map[string]Handler
	sorted []Handler
}

// NewRegistry collects the handlers. Everything wrong with any of them is one joined error, each line naming
// the task and the field: two tasks of one name, parameters that no Python function could have, a default that
// does not fit its field, options that mean nothing.
func NewRegistry(hs ...Handler) (*Registry, error) {
	r := &Registry{byName: make(map[string]Handler, len(hs))}
	var errs []error
	twice := make(map[string]bool)
	for _, h := range hs {
		errs = append(errs, h.mistakes()...)
		if _, found := r.byName[h.name]; found {
			if !twice[h.name] {
				twice[h.name] = true
				errs = append(errs, fmt.Errorf("handlers: task %q: the name is taken by another handler", h.name))
			}
			continue
		}
		r.byName[h.name] = h
		r.sorted = append(r.sorted, h)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortFunc(r.sorted, func(a, b Handler) int { return cmp.Compare(a.name, b.name) })
	return r, nil
}

// Lookup returns the task of that name.
func (r *Registry) Lookup(name string) (Handler, bool) {
	h, ok := r.byName[name]
	return h, ok
}

// All yields every task, sorted by name.
func (r *Registry) All() iter.Seq[Handler] { return slices.Values(r.sorted) }

// Len is the number of tasks.
func (r *Registry) Len() int { return len(r.sorted) }

// badName says what is wrong with a task name, or "". Celery takes any text; we refuse what could not be
// told apart in a log.
func badName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "contains a control character"
	}
	return ""
}
