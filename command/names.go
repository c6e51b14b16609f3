package command

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A settings file may use any of the names that Celery knows a setting by: the lower-case ones; upper-case ones
// with a prefix, as Django projects have them (config_from_object with namespace="CELERY"); and those from before
// Celery 4, with a warning. What holds when a setting has several is Celery's order: prefixed, new, old
// (celery/utils/collections.py, ConfigurationView; celery/app/utils.py, detect_settings).

// daemonSettings are read by Celery's command line although its defaults do not have them (celery/bin/base.py).
var daemonSettings = []string{"worker_logfile", "worker_pidfile", "worker_uid", "worker_gid", "worker_umask", "worker_executable"}

func isSetting(name string) bool {
	return slices.Contains(celerySettings, name) || slices.Contains(daemonSettings, name)
}

// oldName is the setting that had the name before Celery 4.
func oldName(name string) (setting string, ok bool) {
	if setting, ok := oldNames[name]; ok {
		return setting, true
	}
	low := strings.ToLower(name)
	if low == name || !slices.Contains(celerySettings, low) {
		return "", false
	}
	for _, renamed := range oldNames {
		if renamed == low {
			return "", false // it had another name
		}
	}
	return low, true
}

// resolveNames returns the values of a settings document by their lower-case names, and lines to warn with.
// namespace is the prefix of a Django project's settings, "" for CELERY where the document shows that it has one.
func resolveNames(doc map[string]any, namespace string) (values map[string]any, notes []string, err error) {
	prefix := strings.TrimRight(namespace, "_") + "_"
	if namespace == "" {
		prefix = "CELERY_"
	}
	fresh, old, spaced := map[string]string{}, map[string]string{}, map[string]string{} // name in the document by setting
	var unknown, stray []string
	prefixed, renamed := namespace != "", false
	for _, name := range sortedKeys(doc) {
		rest, hasPrefix := strings.CutPrefix(name, prefix)
		low := strings.ToLower(rest)
		inSpace := hasPrefix && rest == strings.ToUpper(rest) && isSetting(low)
		was, isOld := oldName(name)
		switch {
		case isSetting(name):
			fresh[name] = name
		case inSpace && isOld:
			spaced[low], old[was] = name, name
		case inSpace:
			spaced[low], prefixed = name, true
		case isOld:
			old[was], renamed = name, true
		case name == strings.ToLower(name):
			unknown = append(unknown, name)
		case strings.HasPrefix(name, prefix):
			stray = append(stray, name)
		}
	}
	var errs []error
	for _, name := range unknown {
		errs = append(errs, fmt.Errorf("%q is no Celery setting%s", name, suggestion(name)))
	}
	if !prefixed && !renamed && len(fresh) == 0 {
		prefixed = true // every name is both an old one and a prefixed one: they mean the same
	}
	if !prefixed {
		clear(spaced)
		errs = append(errs, mixed(fresh, old))
		for _, setting := range slices.Sorted(maps.Keys(old)) {
			notes = append(notes, fmt.Sprintf("The '%s' setting is deprecated and scheduled for removal in version 6.0.0. Use the %s instead", old[setting], setting))
		}
	}
	if len(stray) > 0 {
		notes = append(notes, "not settings of Celery: "+strings.Join(stray[:min(len(stray), 20)], ", "))
	}
	values = map[string]any{}
	for _, level := range []map[string]string{old, fresh, spaced} { // the later, the stronger
		for setting, name := range level {
			values[setting] = doc[name]
		}
	}
	if zone, ok := doc["TIME_ZONE"].(string); ok && values["timezone"] == nil {
		values["timezone"] = zone
	}
	return values, notes, errors.Join(errs...)
}

// mixed refuses new and old names side by side, in Celery's words. A setting that has both is no mixture.
func mixed(fresh, old map[string]string) error {
	rename, from, to := old, "Cannot mix new and old setting keys, please rename the\nfollowing settings to the new format:", ""
	toOld := len(old) > len(fresh)
	if toOld {
		rename, from, to = fresh, "Cannot mix new setting names with old setting names, please\nrename the following settings to use the old format:", "\n\nOr change all of the settings to use the new format :)"
	}
	if len(fresh) == 0 || len(old) == 0 {
		return nil
	}
	var lines []string
	for setting, name := range rename {
		other := setting
		if toOld {
			if _, both := old[setting]; both {
				continue
			}
			other = oldNameOf(setting)
		} else if _, both := fresh[setting]; both {
			continue
		}
		lines = append(lines, fmt.Sprintf("%-36s -> %s", name, other))
	}
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines)
	return fmt.Errorf("ImproperlyConfigured:\n\n%s\n\n%s%s", from, strings.Join(lines, "\n"), to)
}

// oldNameOf is what the setting was called before Celery 4.
func oldNameOf(setting string) string {
	for old, now := range oldNames {
		if now == setting {
			return old
		}
	}
	return strings.ToUpper(setting)
}
