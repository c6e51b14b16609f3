package worker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// commands is the table of remote control: Celery's names, with the aliases it takes.
func commands() map[string]Command {
	table := orders()
	maps.Copy(table, questions())
	for name, command := range table {
		table[name] = bind(name, command)
	}
	for alias, name := range aliases {
		table[alias] = table[name]
	}
	return table
}

var aliases = map[string]string{
	"dump_active": "active", "dump_reserved": "reserved", "dump_schedule": "scheduled",
	"dump_tasks": "registered", "dump_revoked": "revoked", "dump_conf": "conf",
}

// harmless are the commands that a read-only node carries out: the questions, and what only makes monitors see it.
var harmless = func() map[string]bool {
	names := map[string]bool{"heartbeat": true, "election": true}
	for name := range questions() {
		names[name] = true
	}
	for alias := range aliases {
		names[alias] = true
	}
	return names
}()

// questions are the commands that change nothing.
func questions() map[string]Command {
	return map[string]Command{
		"ping":          ping,
		"active":        active,
		"reserved":      reserved,
		"scheduled":     scheduled,
		"registered":    registered,
		"revoked":       listRevoked,
		"query_task":    queryTask,
		"active_queues": activeQueues,
		"stats":         nodeStats,
		"conf":          conf,
		"clock":         readClock,
		"report":        bugReport,
		"hello":         hello,
		"memsample":     memsample,
		"memdump":       memdump,
		"objgraph":      objgraph,
	}
}

func ping(context.Context, *Node, *protocol.Object) (any, error) { return okCommand("pong"), nil }

func active(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	safe, _ := args.Get("safe")
	return n.rows(n.ledger.sightings(isActive), protocol.Truthy(safe)), nil
}

// reserved are the tasks between their arrival and a slot, but for those that wait for a time.
func reserved(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	held := map[*protocol.Task]bool{}
	for _, h := range n.calendar.held() {
		held[h.task] = true
	}
	list := slices.DeleteFunc(n.ledger.sightings(isReserved), func(s sighting) bool { return held[s.task] })
	return n.rows(list, false), nil
}

func scheduled(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	out := []protocol.Value{}
	for _, h := range n.calendar.held() {
		var eta protocol.Value // null for one that only waits for its turn by the rate limit
		if !h.task.ETA.IsZero() {
			eta = protocol.FormatTimestamp(h.task.ETA, time.UTC)
		}
		out = append(out, protocol.ObjectOf(
			protocol.Member{Key: "eta", Value: eta},
			protocol.Member{Key: "priority", Value: int64(6)}, // of Celery's timer, always
			protocol.Member{Key: "request", Value: n.rowOf(h, false)},
		))
	}
	return out, nil
}

// registered lists the tasks: "name", or "name [rate_limit=10/m]" with the attributes asked for.
func registered(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("taskinfoitems")
	items, err := infoItems(asked)
	if err != nil {
		return nil, err
	}
	builtins, _ := args.Get("builtins")
	out := []protocol.Value{}
	for h := range n.cfg.Handlers.All() {
		if strings.HasPrefix(h.Name(), "celery.") && !protocol.Truthy(builtins) {
			continue
		}
		var parts []string
		for _, item := range items {
			if text, ok := n.attribute(h, item); ok {
				parts = append(parts, item+"="+text)
			}
		}
		line := h.Name()
		if len(parts) > 0 {
			line += " [" + strings.Join(parts, " ") + "]"
		}
		out = append(out, line)
	}
	return out, nil
}

// infoItems reads taskinfoitems as Python's loop over it does: a text is its letters, what is no text and what
// begins with an underscore is left out, and nothing twice.
func infoItems(v protocol.Value) ([]string, error) {
	if !protocol.Truthy(v) {
		return []string{"exchange", "routing_key", "rate_limit"}, nil
	}
	var items []string
	add := func(s string) {
		if !strings.HasPrefix(s, "_") && !slices.Contains(items, s) {
			items = append(items, s)
		}
	}
	const most = 1000 // no task has as many attributes
	switch v := v.(type) {
	case string: // no attribute has a name of one letter
	case []protocol.Value:
		for _, name := range names(v[:min(len(v), most)]) {
			add(name)
		}
	case *protocol.Object:
		for _, m := range v.Members()[:min(v.Len(), most)] {
			add(m.Key)
		}
	default:
		return nil, protocol.NewException("TypeError", fmt.Sprintf("'%s' object is not iterable", protocol.TypeName(v)))
	}
	return items, nil
}

// attribute is a task's attribute as Python prints it; what is None there, or has no meaning here, is left out.
func (n *Node) attribute(h handlers.Handler, item string) (string, bool) {
	cfg, o, limits := n.cfg, h.Options(), n.times.of(h)
	always := true
	yes := func(b bool) (string, bool) { return protocol.Repr(b), true }
	limit := func(own, otherwise time.Duration) (string, bool) {
		d := cmp.Or(own, otherwise)
		return seconds(d), d > 0
	}
	switch item {
	case "name":
		return h.Name(), true
	case "rate_limit":
		if ordered, ok := n.limiter.ordered(h.Name()); ok {
			return pythonText(ordered), ordered != nil
		}
		rate := cmp.Or(o.Rate, cfg.Rate)
		return rate, rate != ""
	case "max_retries":
		n, unlimited := o.Retry.Limit()
		return strconv.Itoa(n), !unlimited
	case "default_retry_delay":
		return seconds(o.Retry.Wait()), true
	case "acks_late":
		return yes(!o.EarlyAck)
	case "ignore_result":
		return yes(o.IgnoreResult || cfg.IgnoreResult)
	case "store_errors_even_if_ignored":
		return yes(o.StoreErrors || cfg.StoreErrors)
	case "track_started":
		return yes(*cmp.Or(o.TrackStarted, &cfg.TrackStarted))
	case "acks_on_failure":
		return yes(*cmp.Or(o.AckOnFailure, cfg.AckOnFailure, &always))
	case "acks_on_timeout":
		return yes(*cmp.Or(o.AckOnTimeout, cfg.AckOnTimeout, &always))
	case "acks_on_failure_or_timeout":
		return yes(*cmp.Or(o.AckOnFailure, cfg.AckOnFailure, &always) && *cmp.Or(o.AckOnTimeout, cfg.AckOnTimeout, &always))
	case "send_events", "trail":
		return yes(true)
	case "store_eager_result":
		return yes(false)
	case "retry_on_worker_lost":
		return yes(*cmp.Or(o.RetryOnLost, &cfg.RetryOnLost))
	case "reject_on_worker_lost":
		lost := *cmp.Or(o.RejectOnLost, &cfg.RejectOnLost)
		return protocol.Repr(lost), lost // None in Celery, unless it is set
	case "resultrepr_maxsize":
		return "1024", true
	case "serializer":
		return cmp.Or(cfg.Encoding.Serializer, "json"), true
	case "time_limit":
		return limit(limits.hard, cfg.HardLimit)
	case "soft_time_limit":
		return limit(limits.soft, cfg.SoftLimit)
	}
	return "", false
}

func listRevoked(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	return n.revoked.list(time.Now()), nil
}

// queryTask says of each id that is here: running, waiting for a time, or on its way.
func queryTask(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("ids")
	if asked == nil {
		return nil, protocol.NewException("TypeError", "'NoneType' object is not iterable")
	}
	if err := hashable(asked); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, id := range names(asked) {
		wanted[id] = true
	}
	out := &protocol.Object{}
	put := func(state string, list []sighting) {
		for _, r := range list {
			if wanted[r.task.ID] {
				out.Set(r.task.ID, []protocol.Value{state, n.rowOf(r, false)})
			}
		}
	}
	put("reserved", n.ledger.sightings(isReserved))
	put("scheduled", n.calendar.held()) // over "reserved": a held task is both for the ledger
	put("active", n.ledger.sightings(isActive))
	return out, nil
}

func activeQueues(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	out := []protocol.Value{}
	for _, q := range n.queues.list() {
		out = append(out, queueRow(q))
	}
	return out, nil
}

// queueRow is a queue as Kombu's Queue.as_dict shows it.
func queueRow(q transports.Queue) protocol.Value {
	var arguments protocol.Value
	if q.Arguments.Len() > 0 {
		arguments = q.Arguments
	}
	exchange := protocol.ObjectOf(
		protocol.Member{Key: "name", Value: cmp.Or(q.Exchange, q.Name)},
		protocol.Member{Key: "type", Value: cmp.Or(q.Type, "direct")},
		protocol.Member{Key: "arguments"},
		protocol.Member{Key: "durable", Value: true},
		protocol.Member{Key: "passive", Value: false},
		protocol.Member{Key: "auto_delete", Value: false},
		protocol.Member{Key: "delivery_mode"},
		protocol.Member{Key: "no_declare", Value: false},
	)
	row := protocol.ObjectOf(
		protocol.Member{Key: "name", Value: q.Name},
		protocol.Member{Key: "exchange", Value: exchange},
		protocol.Member{Key: "routing_key", Value: cmp.Or(q.RoutingKey, q.Name)},
		protocol.Member{Key: "queue_arguments", Value: arguments},
		protocol.Member{Key: "binding_arguments"},
		protocol.Member{Key: "consumer_arguments"},
		protocol.Member{Key: "durable", Value: !q.Transient},
		protocol.Member{Key: "exclusive", Value: q.Exclusive},
		protocol.Member{Key: "auto_delete", Value: q.AutoDelete},
		protocol.Member{Key: "no_ack", Value: false},
		protocol.Member{Key: "alias"},
		protocol.Member{Key: "bindings", Value: []protocol.Value{}},
		protocol.Member{Key: "no_declare"},
	)
	for _, name := range []string{"expires", "message_ttl", "max_length", "max_length_bytes", "max_priority"} {
		row.Set(name, nil) // Kombu's own parameters; a queue made with arguments shows them there
	}
	return row
}

// nodeStats is `inspect stats`: every key of a Python worker, with what is true here. pool.processes has one
// element for each slot there is now, because monitors count them; max-concurrency is what the node was started
// with, as in Celery.
func nodeStats(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	now, _ := n.slots.size()
	slots := make([]protocol.Value, now)
	for i := range slots {
		slots[i] = int64(n.pid)
	}
	perChild := protocol.Value("N/A")
	if n.children != nil {
		for i, pid := range n.children.PIDs() {
			if i < len(slots) {
				slots[i] = int64(pid)
			}
		}
		if most := n.cfg.Isolation.MaxTasks; most > 0 {
			perChild = int64(most)
		}
	}
	total := &protocol.Object{}
	counts := n.ledger.totals()
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		total.Set(name, counts[name])
	}
	limit := func(d time.Duration) protocol.Value {
		if d%time.Second == 0 {
			return int64(d / time.Second)
		}
		return d.Seconds()
	}
	row := protocol.ObjectOf(
		protocol.Member{Key: "total", Value: total},
		protocol.Member{Key: "pid", Value: int64(n.pid)},
		protocol.Member{Key: "clock", Value: strconv.FormatInt(n.clock.now(), 10)},
		protocol.Member{Key: "uptime", Value: int64(time.Since(n.began) / time.Second)},
		protocol.Member{Key: "pool", Value: protocol.ObjectOf(
			protocol.Member{Key: "implementation", Value: "stalk:goroutines"},
			protocol.Member{Key: "max-concurrency", Value: int64(n.cfg.Concurrency)},
			protocol.Member{Key: "processes", Value: slots},
			protocol.Member{Key: "max-tasks-per-child", Value: perChild},
			protocol.Member{Key: "put-guarded-by-semaphore", Value: false},
			protocol.Member{Key: "timeouts", Value: []protocol.Value{limit(n.cfg.SoftLimit), limit(n.cfg.HardLimit)}},
			protocol.Member{Key: "writes", Value: "N/A"},
		)},
	)
	if n.autoscaler != nil {
		row.Set("autoscaler", n.autoscaler.info())
	}
	row.Set("broker", brokerRow(n.cfg.Transport.String()))
	row.Set("prefetch_count", int64(n.window()))
	row.Set("rusage", usage())
	return row, nil
}

// brokerRow takes the broker's address apart, which holds no password.
func brokerRow(address string) protocol.Value {
	row := protocol.ObjectOf(
		protocol.Member{Key: "hostname"}, protocol.Member{Key: "userid"}, protocol.Member{Key: "virtual_host"},
		protocol.Member{Key: "port"}, protocol.Member{Key: "insist", Value: false}, protocol.Member{Key: "ssl", Value: false},
		protocol.Member{Key: "transport"}, protocol.Member{Key: "connect_timeout", Value: int64(dialTimeout / time.Second)},
		protocol.Member{Key: "transport_options", Value: &protocol.Object{}}, protocol.Member{Key: "login_method"},
		protocol.Member{Key: "uri_prefix"}, protocol.Member{Key: "heartbeat", Value: 0.0},
		protocol.Member{Key: "failover_strategy", Value: "round-robin"}, protocol.Member{Key: "alternates", Value: []protocol.Value{}},
		protocol.Member{Key: "credential_provider"},
	)
	u, err := url.Parse(address)
	if err != nil {
		return row
	}
	scheme := u.Scheme
	if scheme == "amqps" || scheme == "rediss" {
		scheme = strings.TrimSuffix(scheme, "s")
		row.Set("ssl", true)
	}
	row.Set("transport", scheme)
	row.Set("hostname", u.Hostname())
	if port, err := strconv.Atoi(u.Port()); err == nil {
		row.Set("port", int64(port))
	}
	if user := u.User.Username(); user != "" {
		row.Set("userid", user)
	}
	host := strings.TrimPrefix(u.Path, "/")
	if scheme == "amqp" {
		host = cmp.Or(host, "/")
		row.Set("login_method", "PLAIN")
	}
	row.Set("virtual_host", cmp.Or(host, "0"))
	return row
}

func readClock(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	return protocol.ObjectOf(protocol.Member{Key: "clock", Value: n.clock.now()}), nil
}

// bugReport is `inspect report`: who we are, and the settings we were given.
func bugReport(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nsoftware -> celery:none (stalk, protocol of 5.7) %s\n", path.Base(runtime.Version()))
	fmt.Fprintf(&b, "platform -> system:%s arch:%s\n", runtime.GOOS, runtime.GOARCH)
	results := "disabled"
	if n.cfg.Results != nil {
		results = n.cfg.Results.String()
	}
	fmt.Fprintf(&b, "loader   -> none\nsettings -> transport:%s results:%s\n\n", n.cfg.Transport, results)
	for _, m := range shownSettings(n.cfg.Settings).Members() {
		fmt.Fprintf(&b, "%s: %s\n", m.Key, protocol.Repr(m.Value))
	}
	return okCommand(b.String()), nil
}

// hello answers a starting node (mingle) with the revoked ids, oldest first, and takes its own.
func hello(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	v, _ := args.Get("from_node")
	if v == n.cfg.Node {
		return nil, nil
	}
	now := time.Now()
	theirs, _ := args.Get("revoked")
	if n.cfg.Control.ReadOnly {
		theirs = nil
	}
	if node, ok := v.(string); ok {
		n.cfg.Logger.Info("sync with " + printable(node))
	}
	if protocol.Truthy(theirs) {
		if err := iterable(theirs); err != nil {
			return nil, err
		}
		if list, ok := theirs.([]protocol.Value); ok {
			if err := hashable(list); err != nil {
				return nil, err
			}
		}
		n.revoked.merge(revokedIDs(theirs), now)
	}
	return protocol.ObjectOf(
		protocol.Member{Key: "revoked", Value: n.revoked.list(now)},
		protocol.Member{Key: "clock", Value: n.clock.forward()},
	), nil
}

// revokedIDs reads the ids another node sends: a list since Celery 5.7, before that an object by id.
func revokedIDs(v protocol.Value) []string {
	if o, ok := v.(*protocol.Object); ok {
		var ids []string
		for _, m := range o.Members() {
			ids = append(ids, m.Key)
		}
		return ids
	}
	return names(v)
}
