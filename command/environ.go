package command

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Every option may come from the environment, as with Celery: CELERY_WORKER_<OPTION> for the worker's, and
// CELERY_<OPTION> for the global ones, some of them under a name without prefix besides. What Celery does not
// have is STALK_<OPTION>. A command line wins. The addresses of broker and results are among the settings
// (settings.environment).

// notFromEnvironment are flags whose variables are read elsewhere, or are nobody's wish here: a stray APP.
var notFromEnvironment = []string{"broker", "result-backend", "app", "loader", "skip-checks", "no-color", "help"}

// variableOf is the variable of an option.
func variableOf(command, flag string, global bool) string {
	upper := strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	switch {
	case slices.Contains(ownFlags, flag):
		return "STALK_" + upper
	case global:
		return "CELERY_" + upper
	}
	return "CELERY_" + strings.ToUpper(command) + "_" + upper
}

// applyEnvironment gives the options that are not on the command line what the environment holds for them. It
// returns a line for each variable that Celery would follow and we cannot.
func applyEnvironment(c *cli.Context, environ []string) (notes []string, err error) {
	env := map[string]string{}
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		env[key] = value
	}
	var errs []error
	take := func(f cli.Flag, global bool) {
		name := f.Names()[0]
		if isSet(c, name) || slices.Contains(notFromEnvironment, name) {
			return
		}
		variable := variableOf(c.Command.Name, name, global)
		value := env[variable]
		if value == "" {
			return
		}
		if _, isBool := f.(*cli.BoolFlag); isBool {
			on, ok := truth(value)
			if !ok {
				errs = append(errs, fmt.Errorf("%s=%q: want true or false", variable, value))
				return
			}
			value = fmt.Sprint(on)
		}
		if err := c.Set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", variable, value, err))
		}
	}
	globals := map[string]bool{}
	for _, f := range globalFlags() {
		globals[f.Names()[0]] = true
	}
	for _, f := range c.Command.Flags {
		take(f, globals[f.Names()[0]])
	}
	for _, variable := range []string{"CELERY_CONFIG", "CONFIG_MODULE", "CELERY_CONFIG_MODULE"} {
		value := env[variable]
		switch {
		case value == "":
		case variable == "CELERY_CONFIG" && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(value)):
			if !isSet(c, "config") {
				errs = append(errs, c.Set("config", value))
			}
		default:
			notes = append(notes, fmt.Sprintf("%s=%s has no effect: a Python module of settings cannot be read here; docs/settings.md tells how to write it to a file for --config", variable, value))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usageError{err}
	}
	return notes, nil
}

// truth reads a boolean as Celery's command line and its strtobool do.
func truth(text string) (on, ok bool) {
	switch strings.ToLower(text) {
	case "1", "true", "t", "yes", "y", "on":
		return true, true
	case "0", "false", "f", "no", "n", "off":
		return false, true
	}
	return false, false
}
