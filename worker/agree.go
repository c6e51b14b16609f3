package worker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// disagreements compares two answers to `inspect conf`, with defaults: what we are set to and what a neighbor is. It names the settings
// in which two nodes of one application must agree, and what comes of it when they do not, as far as the answers tell: keys and
// passwords are masked in them, and hosts may have several names.
func disagreements(ours, theirs *protocol.Object) []string {
	var found []string
	say := func(name string, our, their protocol.Value, consequence string) {
		found = append(found, fmt.Sprintf("%s is %s here and %s there: %s", name, reprOf(our), reprOf(their), consequence))
	}
	both := func(name string) (our, their protocol.Value) { return setting(ours, name), setting(theirs, name) }

	our, their := both("result_backend")
	if a, b := storeOf(our), storeOf(their); a != b {
		say("result_backend", our, their, "a client that looks in one place does not find the results of the other")
	} else if a != "" && a != "rpc" {
		for _, s := range []struct{ name, consequence string }{
			{"result_backend_transport_options.global_keyprefix", "one does not find the results of the other"},
			{"result_backend_transport_options.result_chord_ordered", "a chord with parts on both never ends"},
		} {
			if our, their := both(s.name); !sameValue(our, their) && !(isDefault(our, "True") && isDefault(their, "True")) {
				say(s.name, our, their, s.consequence)
			}
		}
		if our, their := both("result_expires"); lifetime(our) != lifetime(their) {
			say("result_expires", our, their, "each part of a chord sets the lifetime of its counters; the shorter one bounds the gaps between parts")
		}
	}
	if our, their := both("result_serializer"); !sameValue(our, their) {
		say("result_serializer", our, their, "one may not be able to read the results of the other, nor to join a chord of both")
	}
	if accepted, their := setting(ours, "accept_content"), setting(theirs, "task_serializer"); !accepts(accepted, their) {
		say("accept_content against task_serializer", accepted, their, "messages of the other are set aside here")
	}
	if our, their := setting(ours, "task_serializer"), setting(theirs, "accept_content"); !accepts(their, our) {
		say("task_serializer against accept_content", our, their, "retries and follow-ups from here are refused there")
	}
	for _, s := range []struct{ name, otherwise, consequence string }{
		{"broker_transport_options.global_keyprefix", "", "each has queues of its own"},
		{"broker_transport_options.visibility_timeout", "3600", "the shorter one takes messages from workers that still run them"},
		{"broker_transport_options.sep", "\x06\x16", "priorities other than 0 are in queues that only one of them reads"},
		{"broker_transport_options.priority_steps", "", "some priorities are in queues that only one of them reads"},
	} {
		our, their := both(s.name)
		if !sameValue(our, their) && !(isDefault(our, s.otherwise) && isDefault(their, s.otherwise)) {
			say(s.name, our, their, s.consequence)
		}
	}
	return found
}

// plainNames is an answer with the settings that are compared under their lower-case names: a Django project answers with those of its
// settings file. It reports false when it is not known which names the answer has, since then what is missing says nothing.
func plainNames(answer *protocol.Object) (*protocol.Object, bool) {
	known := false
	for _, prefix := range []string{"", "CELERY_"} {
		if _, ok := answer.Get(prefix + "BROKER_URL"); ok {
			known = true
		}
	}
	if _, ok := answer.Get("broker_url"); ok || known {
		out := answer.Clone()
		for _, name := range []string{
			"result_backend", "result_backend_transport_options", "result_expires", "result_serializer", "task_serializer", "accept_content", "broker_transport_options",
		} {
			upper := strings.ToUpper(name)
			for _, other := range []string{"CELERY_" + upper, upper, "CELERY_TASK_" + upper} { // the last and bare ones are of old
				if v, ok := answer.Get(other); ok {
					out.Set(name, v)
					break
				}
			}
		}
		return out, true
	}
	return nil, false
}

// setting is a value by its name, which may lead into a mapping; nil when it is not there.
func setting(o *protocol.Object, name string) protocol.Value {
	outer, inner, deeper := strings.Cut(name, ".")
	v, _ := o.Get(outer)
	if !deeper {
		return v
	}
	if m, ok := v.(*protocol.Object); ok {
		return setting(m, inner)
	}
	return nil
}

func reprOf(v protocol.Value) string { return protocol.Repr(v) }

// storeOf is the kind of a result backend, with the database where it is in Redis; "" is none.
func storeOf(v protocol.Value) string {
	text, _ := v.(string)
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme = strings.ToLower(scheme); {
	case scheme == "" || scheme == "disabled":
		return ""
	case scheme == "amqp":
		return "rpc"
	case strings.HasPrefix(scheme, "redis"), strings.HasPrefix(scheme, "sentinel"):
		rest, _, _ = strings.Cut(rest, "?")
		rest, _, _ = strings.Cut(rest, ";")
		_, db, _ := strings.Cut(rest[strings.LastIndexByte(rest, '@')+1:], "/")
		if n, err := strconv.Atoi(strings.Trim(db, "/")); err == nil && !strings.HasPrefix(scheme, "redis+socket") {
			return "redis " + strconv.Itoa(n)
		}
		return "redis 0"
	}
	return scheme
}

// lifetime reads result_expires as Celery shows it: seconds, "1 day, 0:00:00", or None. 0 is for ever.
func lifetime(v protocol.Value) time.Duration {
	switch v := v.(type) {
	case int64:
		return time.Duration(v) * time.Second
	case float64:
		return time.Duration(v) * time.Second
	case string:
		var days, hours, minutes int
		var seconds float64
		clock := v
		if before, after, ok := strings.Cut(v, ","); ok {
			if n, _ := fmt.Sscanf(before, "%d day", &days); n == 1 {
				clock = strings.TrimSpace(after)
			}
		}
		if n, _ := fmt.Sscanf(clock, "%d:%d:%f", &hours, &minutes, &seconds); n == 3 {
			return time.Duration(days*24+hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds)*time.Second
		}
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			return time.Duration(f) * time.Second
		}
	}
	return 0
}

// accepts reports whether a list of accept_content holds a serializer, by either of its names. What is not known is taken to fit.
func accepts(list, serializer protocol.Value) bool {
	name, ok := serializer.(string)
	items, ok2 := list.([]protocol.Value)
	if !ok || !ok2 {
		return true
	}
	contentType, _ := protocol.ContentType(name)
	return slices.ContainsFunc(items, func(v protocol.Value) bool {
		accepted, _ := v.(string)
		other, _ := protocol.ContentType(accepted)
		return accepted == name || contentType != "" && other == contentType
	})
}

func sameValue(a, b protocol.Value) bool { return reprOf(a) == reprOf(b) }

// isDefault reports whether v says nothing, or what holds when it says nothing.
func isDefault(v protocol.Value, otherwise string) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == otherwise
	}
	return strings.TrimSuffix(reprOf(v), ".0") == otherwise
}
