package redisbroker

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/stalkworker/stalk/transports"
)

// bindingMember is how Kombu stores that a queue is bound: key, pattern (topic only) and queue.
func (s *settings) bindingMember(q transports.Queue) string {
	pattern := ""
	if q.Type == "topic" {
		pattern = topicPattern(q.RoutingKey)
	}
	return q.RoutingKey + s.sep + pattern + s.sep + q.Name
}

// bound fills what an empty field of a Queue means.
func bound(q transports.Queue) transports.Queue {
	if q.Exchange == "" {
		q.Exchange = q.Name
	}
	if q.Type == "" {
		q.Type = "direct"
	}
	if q.RoutingKey == "" && q.Type != "fanout" {
		q.RoutingKey = q.Name
	}
	return q
}

// topicPattern is the text Kombu 5.7 writes: "*" is one word, "#" anything, all else but letters and
// digits escaped.
func topicPattern(key string) string {
	words := strings.Split(escapeRegex(key), ".")
	for i, w := range words {
		switch w {
		case "*":
			words[i] = `[^\.]+`
		case "#":
			words[i] = `.*?`
		}
	}
	return "^" + strings.Join(words, `\.`) + "$"
}

func escapeRegex(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == 0:
			b.WriteString(`\000`)
		case unicode.IsLetter(r), unicode.IsNumber(r), strings.ContainsRune(".#*", r):
			b.WriteRune(r)
		default:
			b.WriteByte('\\')
			b.WriteRune(r)
		}
	}
	return b.String()
}

// route is the queues that members bind to a routing key, each once. The exchange's type is not stored:
// a member with a pattern is topic, one without is direct. What is no member is left out.
func (s *settings) route(members []string, key string) []string {
	var queues []string
	seen := map[string]bool{}
	for _, m := range members {
		parts := strings.Split(m, s.sep)
		if len(parts) != 3 || parts[2] == "" || seen[parts[2]] {
			continue
		}
		if parts[1] == "" && parts[0] == key || parts[1] != "" && matches(parts[1], key) {
			seen[parts[2]] = true
			queues = append(queues, parts[2])
		}
	}
	return queues
}

// matches is Python's re.match for the patterns Kombu stores. One that Go cannot compile matches nothing.
func matches(pattern, key string) bool {
	if len(pattern) > 4096 {
		return false
	}
	re, err := regexp.Compile(goPattern(pattern))
	return err == nil && re.MatchString(key)
}

// goPattern undoes what RE2 has no form for: an escaped symbol beyond ASCII, and \000.
func goPattern(p string) string {
	var b strings.Builder
	escaped := false
	for _, r := range p {
		if escaped {
			escaped = false
			if r < 0x80 {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
			continue
		}
		if r == '\\' {
			escaped = true
			continue
		}
		b.WriteRune(r)
	}
	if !strings.HasPrefix(p, "^") {
		return "^(?:" + b.String() + ")"
	}
	return b.String()
}
