package redisbroker

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
)

func (s *settings) key(name string) string { return s.prefix + name }

func (s *settings) bindingKeys(exchange string) (table, permanent string) {
	return s.key("_kombu.binding." + exchange), s.key("_kombu.binding_permanent." + exchange)
}

// step is the priority bucket: the largest step not above the priority; below all of them the last one,
// which is what Python's index -1 gives.
func (s *settings) step(priority int) int {
	priority = min(max(priority, 0), 9)
	i := sort.Search(len(s.steps), func(i int) bool { return s.steps[i] > priority }) - 1
	if i < 0 {
		i = len(s.steps) - 1
	}
	return s.steps[i]
}

// list is the prefixed key of a queue at a step; step 0 has no suffix.
func (s *settings) list(queue string, step int) string {
	if step == 0 {
		return s.key(queue)
	}
	return s.key(queue + s.sep + strconv.Itoa(step))
}

func (s *settings) listFor(queue string, priority int) string { return s.list(queue, s.step(priority)) }

// lists are all lists of a queue.
func (s *settings) lists(queue string) []string {
	keys := make([]string, len(s.steps))
	for i, step := range s.steps {
		keys[i] = s.list(queue, step)
	}
	return keys
}

// channels are where a broadcast of this exchange and key goes, or is listened to.
func (s *settings) channels(exchange, routingKey string) []string {
	tail := exchange
	if routingKey != "" && s.fanoutPatterns {
		tail += "/" + routingKey
	}
	out := []string{s.key(s.fanoutPrefix + tail)}
	if s.fanoutLegacy != "" {
		out = append(out, s.key(s.fanoutLegacy+tail))
	}
	return out
}

func withDB(template string, db int) string {
	return strings.ReplaceAll(template, "{db}", strconv.Itoa(db))
}

// stashValue is the hash value of a message: its text spliced in untouched, no exchange, and the queue it
// was taken from as routing key, so that any sweeper returns it to exactly there without a lookup.
func stashValue(raw, queue string) string {
	return "[" + raw + `, "", ` + jsonText(queue) + "]"
}

// jsonText is a JSON string in ASCII, which Python and Lua read alike.
func jsonText(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("redisbroker: a string is not JSON: " + err.Error()) // cannot happen
	}
	return asciiJSON(string(b))
}

func asciiJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			b.WriteString(`\u` + hex4(r))
		default:
			r -= 0x10000
			b.WriteString(`\u` + hex4(0xd800+r>>10) + `\u` + hex4(0xdc00+r&0x3ff))
		}
	}
	return b.String()
}

func hex4(r rune) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", 4-len(s)) + s
}
