package command

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// settings are Celery's settings by their lower-case names, from a --config file, CELERY_* variables and the
// key=value arguments of a command line. Each read notes that the setting has a meaning here; what nobody read is
// reported once, by name.
type settings struct {
	values map[string]any
	source map[string]string // where each came from, for errors
	read   map[string]bool
	env    map[string]string
	loose  map[string]bool // given as text: a flag may be "yes"
	notes  []string        // what to warn of at the start
	errs   []error
}

// loadSettings reads the YAML or JSON file at path ("" for none), whose upper-case names have the prefix namespace
// ("" for Celery's), then the environment over it.
func loadSettings(path, namespace string, environ []string) (*settings, error) {
	s := &settings{values: map[string]any{}, source: map[string]string{}, read: map[string]bool{}, loose: map[string]bool{}}
	if path != "" {
		if err := s.file(path, namespace); err != nil {
			return nil, err
		}
	}
	return s, s.environment(environ)
}

// settingsFileMax bounds the file: settings are kilobytes.
const settingsFileMax = 16 << 20

func (s *settings) file(path, namespace string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, settingsFileMax+1))
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if len(data) > settingsFileMax {
		return fmt.Errorf("--config %s: more than %d bytes are no settings", path, settingsFileMax)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		hint := ""
		if strings.HasSuffix(path, ".py") {
			hint = " (a Python module cannot be read here; docs/settings.md tells how to write its settings to a file)"
		}
		return fmt.Errorf("--config %s: not a YAML mapping of settings%s: %w", path, hint, err)
	}
	values, notes, err := resolveNames(doc, namespace)
	if err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	for _, n := range notes {
		s.notes = append(s.notes, "--config "+path+": "+n)
	}
	for name, v := range values {
		s.values[name], s.source[name] = v, "--config "+path
	}
	return nil
}

// strongVariables replace a setting whatever else the environment says of it, the strongest first: they are what
// Celery's command line takes for -b and --result-backend.
var strongVariables = map[string][]string{"broker_url": {"BROKER_URL", "CELERY_BROKER"}, "result_backend": {"RESULT_BACKEND"}}

// environment takes CELERY_<SETTING> for every setting of Celery, its value read as a YAML scalar or
// flow collection. Celery's own other variables (CELERY_WORKER_REVOKES_MAX, ...) are left alone.
func (s *settings) environment(environ []string) error {
	var errs []error
	env := map[string]string{}
	s.env = env
	for _, kv := range environ {
		key, text, _ := strings.Cut(kv, "=")
		env[key] = text
		name, ok := strings.CutPrefix(key, "CELERY_")
		if !ok || name != strings.ToUpper(name) || text == "" {
			continue
		}
		name = strings.ToLower(name)
		if isSetting(name) {
			errs = append(errs, s.setText(name, text, key))
		}
	}
	for name, variables := range strongVariables {
		for _, key := range slices.Backward(variables) {
			if env[key] != "" {
				errs = append(errs, s.setText(name, env[key], key))
			}
		}
	}
	return errors.Join(errs...)
}

// setText gives a setting the value that a text from the environment or the command line stands for.
func (s *settings) setText(name, text, source string) error {
	var v any = text
	if !textSetting(name) {
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	s.values[name], s.source[name], s.loose[name] = v, source, true
	return nil
}

// textSetting names the settings whose value is text as it stands, whatever it looks like.
func textSetting(name string) bool {
	return strings.HasSuffix(name, "_url") || name == "result_backend" || strings.HasSuffix(name, "_password") ||
		strings.HasSuffix(name, "_format") || strings.HasSuffix(name, "_datefmt") || slices.Contains(daemonSettings, name)
}

// suggestion points from Django's and Celery 3's spellings to the one wanted here.
func suggestion(name string) string {
	low := strings.ToLower(name)
	if rest := strings.TrimPrefix(low, "celery_"); rest != name && isSetting(rest) {
		return fmt.Sprintf("; write %q", rest)
	}
	best, least := "", 4
	for _, known := range celerySettings {
		if d := distance(low, known); d < least {
			best, least = known, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; use the lower-case names of the Celery documentation"
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// unread names the settings that were given and never asked for.
func (s *settings) unread() []string {
	var names []string
	for name := range s.values {
		if !s.read[name] {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

func (s *settings) get(name string) (any, bool) {
	s.read[name] = true
	v, ok := s.values[name]
	return v, ok && v != nil
}

// has reports whether the setting is given, be it as null.
func (s *settings) has(name string) bool {
	_, ok := s.values[name]
	return ok
}

func (s *settings) bad(name, want string, got any) {
	s.errs = append(s.errs, fmt.Errorf("%s: %s is %v, want %s", s.source[name], name, got, want))
}

func (s *settings) text(name, otherwise string) string {
	v, ok := s.get(name)
	if !ok {
		return otherwise
	}
	text, ok := v.(string)
	if !ok {
		s.bad(name, "text", v)
	}
	return text
}

// texts is a list of texts; one text is a list of one, split at sep when sep is not empty.
func (s *settings) texts(name, sep string) []string {
	v, ok := s.get(name)
	if !ok {
		return nil
	}
	switch v := v.(type) {
	case string:
		if sep != "" {
			return strings.Split(v, sep)
		}
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			text, ok := e.(string)
			if !ok {
				s.bad(name, "a list of texts", v)
				return nil
			}
			out = append(out, text)
		}
		return out
	}
	s.bad(name, "text or a list of texts", v)
	return nil
}

func (s *settings) flag(name string, otherwise bool) bool {
	if p := s.maybe(name); p != nil {
		return *p
	}
	return otherwise
}

// maybe is a boolean that may be absent or null.
func (s *settings) maybe(name string) *bool {
	v, ok := s.get(name)
	if !ok {
		return nil
	}
	b, ok := v.(bool)
	if !ok && s.loose[name] {
		b, ok = truth(fmt.Sprint(v))
	}
	if !ok {
		s.bad(name, "true or false", v)
		return nil
	}
	return &b
}

func (s *settings) whole(name string, otherwise int) int {
	v, ok := s.get(name)
	if !ok {
		return otherwise
	}
	n, ok := v.(int)
	if !ok {
		s.bad(name, "a whole number", v)
	}
	return n
}

// seconds is a duration given as a number of seconds; absent, null and 0 give otherwise.
func (s *settings) seconds(name string, otherwise time.Duration) time.Duration {
	v, ok := s.get(name)
	if !ok {
		return otherwise
	}
	var f float64
	switch v := v.(type) {
	case int:
		f = float64(v)
	case float64:
		f = v
	case string:
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			s.bad(name, "a number of seconds", v)
			return otherwise
		}
		f = n
	default:
		s.bad(name, "a number of seconds", v)
		return otherwise
	}
	if !(f >= 0) || f > math.MaxInt64/float64(time.Second)/2 {
		s.bad(name, "a number of seconds, 0 or more", v)
		return otherwise
	}
	return time.Duration(f * float64(time.Second))
}

// lifetime is a duration of which null means for ever (0) and absent the default (nil).
func (s *settings) lifetime(name string) *time.Duration {
	v, given := s.values[name]
	if !given {
		s.read[name] = true
		return nil
	}
	d := time.Duration(0)
	if v != nil {
		d = s.seconds(name, 0)
	}
	s.read[name] = true
	return &d
}

func (s *settings) mapping(name string) map[string]any {
	v, ok := s.get(name)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		s.bad(name, "a mapping", v)
	}
	return m
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
