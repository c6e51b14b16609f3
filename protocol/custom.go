package protocol

// notCustom are the headers that are no custom headers: what Celery's request context has as an attribute
// of that name, methods included (celery/app/task.py, Context._get_custom_headers), and the few it names
// besides. time_limit and soft_time_limit joined them in 5.7.
var notCustom = set(
	"lang", "task", "argsrepr", "kwargsrepr", "compression",

	"args", "callbacks", "called_directly", "chain", "children", "chord", "correlation_id", "delivery_info",
	"errbacks", "eta", "expires", "group", "group_index", "headers", "hostname", "id", "ignore_result",
	"is_eager", "kwargs", "logfile", "loglevel", "origin", "parent_id", "properties", "replaced_task_nesting",
	"reply_to", "retries", "root_id", "shadow", "soft_time_limit", "stamped_headers", "stamps", "taskset",
	"time_limit", "timelimit", "utc",

	"as_execution_options", "clear", "get", "update",
	"_children", "_filter_x_death_headers", "_get_custom_headers", "_protected",
	"__dict__", "__doc__", "__init__", "__module__", "__repr__", "__weakref__",
)

// notRetried are the custom headers a retry leaves behind: RabbitMQ would take the x-death family for a
// dead-letter cycle, and redelivered says something about the old message only.
var notRetried = set(
	"x-death", "redelivered",
	"x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
	"x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
)

func set(names ...string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}
