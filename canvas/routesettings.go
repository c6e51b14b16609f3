package canvas

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/stalkworker/stalk/protocol"
)

// A router is one entry of task_routes: exact names first, then patterns in their order.
type router struct {
	exact    map[string]*protocol.Object
	patterns []pattern
}

type pattern struct {
	re    *regexp.Regexp
	route *protocol.Object
}

func (rt *Routes) lookup(name string) *protocol.Object {
	for _, r := range rt.routers {
		if route, ok := r.exact[name]; ok {
			return route
		}
		for _, p := range r.patterns {
			if p.re.MatchString(name) {
				return p.route
			}
		}
	}
	return nil
}

// ParseRoutes reads task_routes, task_queues and the settings beside them (task_default_queue,
// task_default_exchange, task_default_exchange_type, task_default_routing_key, task_default_queue_type,
// task_create_missing_queues, task_create_missing_queue_type, task_create_missing_queue_exchange_type,
// task_queue_max_priority) from decoded settings; other keys are left alone. Every mistake is in the joined
// error; the Routes are then nil.
//
// task_routes is a map from names to routes, a list of [name, route] pairs, or a list of maps and lists of
// pairs, of which the first that matches wins. A route is the name of a queue or a map of options. A name
// with a * is a glob on the whole name; maps of a file have no order, so in a map the longest glob is tried
// first, and whoever needs an order writes pairs. A regular expression is written "re:^proj\.", and matches
// from the start of the name on, as a compiled one does in Python. A router that is a Python function cannot
// be read.
func ParseRoutes(settings map[string]any) (*Routes, error) {
	s := &routeSettings{values: settings}
	rt := &Routes{queues: map[string]*Queue{}}
	rt.defaultQueue = s.text("task_default_queue", "celery")
	rt.defaultExchange = s.text("task_default_exchange", rt.defaultQueue)
	rt.defaultType = s.text("task_default_exchange_type", "direct")
	rt.defaultKey = s.text("task_default_routing_key", rt.defaultQueue)
	rt.createMissing = s.flag("task_create_missing_queues", true)
	rt.missingType = s.text("task_create_missing_queue_exchange_type", "")
	rt.missingQuorum = s.text("task_create_missing_queue_type", "classic") == "quorum"
	switch n := s.values["task_queue_max_priority"].(type) {
	case nil:
	case int:
		rt.maxPriority = min(max(n, 0), 255)
	default:
		s.bad("task_queue_max_priority", "is a %T, want a whole number", n)
	}
	s.queues(rt)
	if len(rt.queues) == 0 {
		rt.queues[rt.defaultQueue] = &Queue{
			Name: rt.defaultQueue, Exchange: rt.defaultExchange, ExchangeType: rt.defaultType, RoutingKey: rt.defaultKey,
			Quorum:    s.text("task_default_queue_type", "classic") == "quorum",
			Arguments: rt.arguments(nil),
		}
		rt.order = []string{rt.defaultQueue}
	}
	s.routes(rt)
	if err := errors.Join(s.errs...); err != nil {
		return nil, err
	}
	return rt, nil
}

type routeSettings struct {
	values map[string]any
	errs   []error
}

func (s *routeSettings) bad(key, format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("canvas: %s: %s", key, fmt.Sprintf(format, args...)))
}

func (s *routeSettings) text(key, otherwise string) string {
	switch v := s.values[key].(type) {
	case nil:
	case string:
		return cmp.Or(v, otherwise)
	default:
		s.bad(key, "is a %T, want a text", v)
	}
	return otherwise
}

func (s *routeSettings) flag(key string, otherwise bool) bool {
	switch v := s.values[key].(type) {
	case nil:
	case bool:
		return v
	default:
		s.bad(key, "is a %T, want true or false", v)
	}
	return otherwise
}

// queues reads task_queues: a map of names to declarations, or a list of names and declarations.
func (s *routeSettings) queues(rt *Routes) {
	switch v := s.values["task_queues"].(type) {
	case nil:
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			d := v[name]
			m, ok := d.(map[string]any)
			if !ok && d != nil {
				s.bad("task_queues", "the entry of %q is a %T, want a mapping", name, d)
			}
			// Of a mapping, a queue without a key is bound by its name (add_compat); of a list, by the
			// default key.
			s.queue(rt, name, m, name)
		}
	case []any:
		for i, e := range v {
			switch e := e.(type) {
			case string:
				s.queue(rt, e, nil, rt.defaultKey)
			case map[string]any:
				if name, _ := e["name"].(string); name != "" {
					s.queue(rt, name, e, rt.defaultKey)
				} else {
					s.bad("task_queues", "entry %d has no name", i+1)
				}
			default:
				s.bad("task_queues", "entry %d is a %T, want a name or a mapping", i+1, e)
			}
		}
	default:
		s.bad("task_queues", "is a %T, want a mapping or a list", v)
	}
}

func (s *routeSettings) queue(rt *Routes, name string, m map[string]any, key string) {
	text := func(keys ...string) string {
		for _, k := range keys {
			if t, ok := m[k].(string); ok && t != "" {
				return t
			}
		}
		return ""
	}
	q := &Queue{Name: name, Exchange: text("exchange"), ExchangeType: text("exchange_type", "type"), RoutingKey: cmp.Or(text("routing_key", "binding_key"), key)}
	if q.Exchange == "" {
		q.Exchange, q.ExchangeType = rt.defaultExchange, rt.defaultType
	}
	q.ExchangeType = cmp.Or(q.ExchangeType, "direct")
	durable, told := m["durable"].(bool)
	q.Transient = told && !durable
	q.AutoDelete, _ = m["auto_delete"].(bool)
	q.Exclusive, _ = m["exclusive"].(bool)
	q.Arguments = rt.arguments(s.arguments(name, m))
	kind, _ := q.Arguments.Get("x-queue-type")
	q.Quorum = kind == "quorum"
	if rt.queues[name] == nil {
		rt.order = append(rt.order, name)
	}
	rt.queues[name] = q
	if alias := text("alias"); alias != "" {
		rt.queues[alias] = q
	}
}

// arguments are those of a queue's declaration, with Kombu's own names for some of them in AMQP's: its
// seconds become milliseconds (to_rabbitmq_queue_arguments). nil: none.
func (s *routeSettings) arguments(name string, m map[string]any) *protocol.Object {
	args := map[string]any{}
	given, ok := m["queue_arguments"].(map[string]any)
	if !ok && m["queue_arguments"] != nil {
		s.bad("task_queues", "queue_arguments of %q are a %T, want a mapping", name, m["queue_arguments"])
	}
	maps.Copy(args, given)
	for key, arg := range map[string]string{"expires": "x-expires", "message_ttl": "x-message-ttl"} {
		switch v := m[key].(type) {
		case int:
			args[arg] = v * 1000
		case float64:
			args[arg] = int(v * 1000)
		}
	}
	for key, arg := range map[string]string{"max_length": "x-max-length", "max_length_bytes": "x-max-length-bytes", "max_priority": "x-max-priority"} {
		if v, ok := m[key].(int); ok {
			args[arg] = v
		}
	}
	var o *protocol.Object
	for _, key := range slices.Sorted(maps.Keys(args)) {
		v, err := protocol.FromGo(args[key])
		if err != nil {
			s.bad("task_queues", "the argument %s of %q: %v", key, name, err)
			continue
		}
		if o == nil {
			o = &protocol.Object{}
		}
		o.Set(key, v)
	}
	return o
}

// routes reads task_routes.
func (s *routeSettings) routes(rt *Routes) {
	const key = "task_routes"
	switch v := s.values[key].(type) {
	case nil:
	case map[string]any:
		rt.routers = []router{s.routerOfMap(v)}
	case []any:
		if isPair(v) || allPairs(v) { // one list of pairs
			if isPair(v) {
				v = []any{v}
			}
			rt.routers = []router{s.routerOfPairs(v)}
			return
		}
		for i, e := range v {
			switch e := e.(type) {
			case map[string]any:
				rt.routers = append(rt.routers, s.routerOfMap(e))
			case []any:
				if isPair(e) {
					e = []any{e}
				}
				rt.routers = append(rt.routers, s.routerOfPairs(e))
			default:
				s.bad(key, "entry %d is a %T, want a mapping or a list of pairs", i+1, e)
			}
		}
	case string:
		s.bad(key, "%q names a Python router, which cannot be run here; write its routes as a mapping", v)
	default:
		s.bad(key, "is a %T, want a mapping or a list", v)
	}
}

func isPair(v []any) bool {
	if len(v) != 2 {
		return false
	}
	_, name := v[0].(string)
	switch v[1].(type) {
	case string, map[string]any, nil:
		return name
	}
	return false
}

func allPairs(v []any) bool {
	for _, e := range v {
		if p, ok := e.([]any); !ok || !isPair(p) {
			return false
		}
	}
	return len(v) > 0
}

func (s *routeSettings) routerOfMap(m map[string]any) router {
	r := router{exact: map[string]*protocol.Object{}}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	for _, name := range names {
		s.add(&r, name, m[name])
	}
	return r
}

func (s *routeSettings) routerOfPairs(pairs []any) router {
	r := router{exact: map[string]*protocol.Object{}}
	for i, e := range pairs {
		p, ok := e.([]any)
		if !ok || !isPair(p) {
			s.bad("task_routes", "pair %d is not a name and a route", i+1)
			continue
		}
		s.add(&r, p[0].(string), p[1])
	}
	return r
}

func (s *routeSettings) add(r *router, name string, route any) {
	const key = "task_routes"
	var o *protocol.Object
	switch route := route.(type) {
	case nil:
		o = &protocol.Object{}
	case string:
		o = protocol.ObjectOf(protocol.Member{Key: "queue", Value: route})
	case map[string]any:
		v, err := protocol.FromGo(route)
		if err != nil {
			s.bad(key, "the route of %q: %v", name, err)
			return
		}
		o = v.(*protocol.Object)
		for _, k := range []string{"queue", "exchange", "exchange_type", "routing_key"} {
			if v, there := o.Get(k); there && v != nil {
				if _, ok := v.(string); !ok {
					s.bad(key, "%s in the route of %q is %s, want a text", k, name, describe(v))
				}
			}
		}
	default:
		s.bad(key, "the route of %q is a %T, want the name of a queue or a mapping", name, route)
		return
	}
	switch expr, isRE := strings.CutPrefix(name, "re:"); {
	case isRE:
		re, err := regexp.Compile(`^(?:` + expr + `)`)
		if err != nil {
			s.bad(key, "the expression of %q: %v", name, err)
			return
		}
		r.patterns = append(r.patterns, pattern{re, o})
	case strings.Contains(name, "*"):
		re, err := regexp.Compile(globExpr(name))
		if err != nil {
			s.bad(key, "the pattern %q: %v", name, err)
			return
		}
		r.patterns = append(r.patterns, pattern{re, o})
	default:
		r.exact[name] = o
	}
}

// globExpr is Python's fnmatch.translate: * any text, ? one character, [seq] and [!seq] one of a set.
func globExpr(glob string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A(?:`)
	for i := 0; i < len(glob); {
		c := glob[i]
		i++
		switch c {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		case '[':
			end := i
			if end < len(glob) && glob[end] == '!' {
				end++
			}
			if end < len(glob) && glob[end] == ']' {
				end++
			}
			for end < len(glob) && glob[end] != ']' {
				end++
			}
			if end >= len(glob) {
				b.WriteString(`\[`)
				continue
			}
			set := glob[i:end]
			i = end + 1
			b.WriteByte('[')
			if rest, not := strings.CutPrefix(set, "!"); not {
				b.WriteByte('^')
				set = rest
			} else if strings.HasPrefix(set, "^") {
				b.WriteByte('\\')
			}
			for _, c := range set {
				if c == '\\' || c == '[' || c == ']' {
					b.WriteByte('\\')
				}
				b.WriteRune(c)
			}
			b.WriteByte(']')
		default:
			_, size := utf8.DecodeRuneInString(glob[i-1:])
			b.WriteString(regexp.QuoteMeta(glob[i-1 : i-1+size]))
			i += size - 1
		}
	}
	b.WriteString(`)\z`)
	return b.String()
}
