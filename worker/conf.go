package worker

import (
	"context"
	_ "embed" // of the defaults
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// defaultSettings is what Celery 5.7 answers for an app without settings, masked; pyfixtures/defaults.py wrote it.
//
//go:embed defaults.json
var defaultSettings []byte

// conf is `inspect conf`: the settings we were given, with the two that Celery always adds, and with Celery's
// defaults in between when they are asked for. One of those is Infinity, which not every reader of JSON knows.
func conf(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	if with, _ := args.Get("with_defaults"); protocol.Truthy(with) {
		return withDefaults(confOf(n.cfg.Settings))
	}
	return confOf(n.cfg.Settings), nil
}

func confOf(settings *protocol.Object) *protocol.Object {
	own := shownSettings(settings)
	for _, name := range []string{"include", "deprecated_settings"} {
		if _, ok := own.Get(name); !ok {
			own.Set(name, nil)
		}
	}
	return own
}

// withDefaults is what an answer without defaults would be with them.
func withDefaults(conf *protocol.Object) (*protocol.Object, error) {
	v, err := protocol.ParseJSON(defaultSettings, protocol.Limits{})
	if err != nil {
		return nil, fmt.Errorf("worker: the default settings: %w", err)
	}
	all, ok := v.(*protocol.Object)
	if !ok {
		return nil, errors.New("worker: the default settings are no object")
	}
	for _, m := range conf.Members() {
		if m.Key != "include" || m.Value != nil {
			all.Set(m.Key, m.Value)
		}
	}
	return all, nil
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

// nextAddress is where another whole address begins in a list of them.
var nextAddress = regexp.MustCompile(`[;,]\s*[A-Za-z][A-Za-z0-9+.-]*://`)

// withoutPasswords masks the password of each address in text, which may hold several, separated by ";" or ",".
func withoutPasswords(text string) string {
	var parts []string
	for rest := text; ; {
		at := nextAddress.FindStringIndex(rest)
		if at == nil {
			parts = append(parts, withoutPassword(rest))
			return strings.Join(parts, "")
		}
		parts = append(parts, withoutPassword(rest[:at[0]]), rest[at[0]:at[0]+1])
		rest = rest[at[0]+1:]
	}
}

// withoutPassword masks one address, which may name several hosts. A password may hold any character that somebody
// forgot to escape. Rather too much is hidden than too little: up to the last @ before the query, or up to the last
// of all where that has none.
func withoutPassword(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	if strings.TrimSpace(scheme) == "azureblockblob" {
		return scheme + "://" + withoutKeys(rest)
	}
	before, query, hasQuery := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(before, '@'); at >= 0 {
		before = maskUsers(before, at)
	} else if at = strings.LastIndexByte(rest, '@'); at >= 0 {
		if user, _, ok := strings.Cut(rest[:at], ":"); ok {
			before, hasQuery = user+":"+mask+rest[at:], false
		}
	}
	if !hasQuery {
		return scheme + "://" + before
	}
	if values, err := url.ParseQuery(query); err == nil {
		changed := false
		for name := range values {
			if hidden.MatchString(name) {
				values.Set(name, mask)
				changed = true
			}
		}
		if changed {
			query = values.Encode()
		}
	} else {
		query = mask
	}
	return scheme + "://" + before + "?" + query
}

// maskUsers masks the passwords of user:password@host, of each host where there are several and all are plain.
func maskUsers(text string, last int) string {
	authority, path, _ := strings.Cut(text, "/")
	if last < len(authority) && strings.Count(authority, "@") > 1 {
		hosts := strings.FieldsFunc(authority, func(r rune) bool { return r == ';' || r == ',' })
		separator := ";"
		if strings.Contains(authority, ",") {
			separator = ","
		}
		plain := !strings.Contains(authority, ";") || separator == ";"
		for i, h := range hosts {
			user, host, ok := strings.Cut(h, "@")
			name, _, hasPassword := strings.Cut(user, ":")
			if !ok || !hasPassword || strings.Contains(host, "@") {
				plain = false
				break
			}
			hosts[i] = name + ":" + mask + "@" + host
		}
		if plain {
			out := strings.Join(hosts, separator)
			if len(authority) < len(text) {
				out += "/" + path
			}
			return out
		}
	}
	user, _, ok := strings.Cut(text[:last], ":")
	if !ok {
		return text
	}
	return user + ":" + mask + text[last:]
}

// withoutKeys masks what is secret in a connection string of Azure: name=value;name=value.
func withoutKeys(text string) string {
	parts := strings.Split(text, ";")
	for i, p := range parts {
		if name, _, ok := strings.Cut(p, "="); ok && hidden.MatchString(name) {
			parts[i] = name + "=" + mask
		}
	}
	return strings.Join(parts, ";")
}
