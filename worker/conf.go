package worker

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// conf is `inspect conf`: the settings we were given, with the two that Celery always adds.
func conf(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	out := shownSettings(n.cfg.Settings)
	for _, name := range []string{"include", "deprecated_settings"} {
		if _, ok := out.Get(name); !ok {
			out.Set(name, nil)
		}
	}
	return out, nil
}

// hidden are the names whose values are never shown (celery/app/utils.py), by what they contain.
var hidden = regexp.MustCompile(`(?i)API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI`)

const mask = "********"

// shownSettings is a copy without secrets, masked as Celery masks: by the name, whatever the value, also in
// mappings; and the passwords in the addresses of broker and backend. Names that begin with __ are left out.
func shownSettings(o *protocol.Object) *protocol.Object {
	out := &protocol.Object{}
	for _, m := range o.Members() {
		if strings.HasPrefix(m.Key, "__") {
			continue
		}
		out.Set(m.Key, shown(m.Key, m.Value))
	}
	return out
}

// MaskSettings is a copy of settings without what is secret in them, as inspect conf shows them.
func MaskSettings(settings *protocol.Object) *protocol.Object { return shownSettings(settings) }

func shown(name string, v protocol.Value) protocol.Value {
	switch v := v.(type) {
	case *protocol.Object:
		return shownSettings(v)
	case string:
		low := strings.ToLower(name)
		if hidden.MatchString(name) {
			return mask
		}
		if strings.Contains(low, "broker") && strings.Contains(low, "url") || strings.Contains(low, "backend") {
			return withoutPasswords(v)
		}
		return v
	case []protocol.Value:
		if hidden.MatchString(name) {
			return mask
		}
		out := make([]protocol.Value, len(v))
		for i, e := range v {
			out[i] = shown(name, e)
		}
		return out
	}
	if hidden.MatchString(name) {
		return mask
	}
	return v
}

// withoutPasswords masks the password of each address in text, which may hold several, separated by ";".
func withoutPasswords(text string) string {
	parts := strings.Split(text, ";")
	for i, p := range parts {
		scheme, rest, ok := strings.Cut(p, "://")
		if !ok {
			continue
		}
		// A password may hold any character that somebody forgot to escape. Rather too much is hidden than too
		// little: up to the last @ before the query, or up to the last of all where that has none.
		before, _, _ := strings.Cut(rest, "?")
		at := strings.LastIndexByte(before, '@')
		if at < 0 {
			at = strings.LastIndexByte(rest, '@')
		}
		if at >= 0 {
			if user, _, ok := strings.Cut(rest[:at], ":"); ok {
				rest = user + ":" + mask + rest[at:]
			}
		}
		base, query, ok := strings.Cut(rest, "?")
		if values, err := url.ParseQuery(query); ok && err == nil {
			changed := false
			for name := range values {
				if hidden.MatchString(name) {
					values.Set(name, mask)
					changed = true
				}
			}
			if changed {
				rest = base + "?" + values.Encode()
			}
		}
		parts[i] = scheme + "://" + rest
	}
	return strings.Join(parts, ";")
}
