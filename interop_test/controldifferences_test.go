package interop_test

// A controlDifference is what Stalk answers otherwise than a Python worker, on purpose.
type controlDifference struct {
	reason  string
	answers []controlAnswer
}

// controlDifferences are the answers that differ on purpose, and why. stalk is what Stalk says; "" where it is long.
var controlDifferences = []controlDifference{
	{"SIG_DFL is no signal; Python finds a number under that name", []controlAnswer{
		{`idle revoke({"task_id": "ID-r22", "terminate": true, "signal": "_DFL"})`, `{"error": "AttributeError(\"module 'signal' has no attribute 'SIG_DFL'\")"}`},
	}},
	{"a rate below zero, or none at all, would stop the task or let it spin: it is refused", []controlAnswer{
		{`idle rate_limit({"task_name": "diff.add", "rate_limit": "-1/s"})`, `{"error": "Invalid rate limit string: ValueError(\"a rate is zero or more: '-1/s'\")"}`},
		{`after rate '-1/s' registered({"taskinfoitems": ["rate_limit"]})`, `["diff.add [rate_limit=1/]", "diff.limits", "diff.quiet", "diff.rare [rate_limit=2/h]", "diff.sleep"]`},
		{`idle rate_limit({"task_name": "diff.add", "rate_limit": -1})`, `{"error": "Invalid rate limit string: ValueError('a rate is zero or more: -1')"}`},
		{`after rate -1 registered({"taskinfoitems": ["rate_limit"]})`, `["diff.add [rate_limit=1/]", "diff.limits", "diff.quiet", "diff.rare [rate_limit=2/h]", "diff.sleep"]`},
		{`idle rate_limit({"task_name": "diff.add", "rate_limit": "nan/s"})`, `{"error": "Invalid rate limit string: ValueError(\"a rate is zero or more: 'nan/s'\")"}`},
		{`after rate 'nan/s' registered({"taskinfoitems": ["rate_limit"]})`, `["diff.add [rate_limit=inf/s]", "diff.limits", "diff.quiet", "diff.rare [rate_limit=2/h]", "diff.sleep"]`},
	}},
	{"a limit of 0 is none, in the list too", []controlAnswer{
		{`after limits {"task_name": "diff.add", "soft": 0, "hard": 0} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
	}},
	{"what is no time is refused at once; Celery takes it, and every task fails when it starts", []controlAnswer{
		{`idle time_limit({"task_name": "diff.add", "soft": -1, "hard": -2})`, `{"error": "ValueError('soft is no time limit: -1')"}`},
		{`after limits {"task_name": "diff.add", "soft": -1, "hard": -2} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
		{`idle time_limit({"task_name": "diff.add", "soft": "10", "hard": "20"})`, `{"error": "TypeError('soft must be a real number, not str')"}`},
		{`after limits {"task_name": "diff.add", "soft": "10", "hard": "20"} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
		{`idle time_limit({"task_name": "diff.add", "soft": "x"})`, `{"error": "TypeError('soft must be a real number, not str')"}`},
		{`after limits {"task_name": "diff.add", "soft": "x"} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
		{`idle time_limit({"task_name": "diff.add", "hard": []})`, `{"error": "TypeError('hard must be a real number, not list')"}`},
		{`after limits {"task_name": "diff.add", "hard": []} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
		{`idle time_limit({"task_name": "diff.add", "hard": {"a": 1}})`, `{"error": "TypeError('hard must be a real number, not dict')"}`},
		{`after limits {"task_name": "diff.add", "hard": {"a": 1}} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
		{`idle time_limit({"task_name": "diff.add", "hard": 1e+300})`, `{"error": "ValueError('hard is no time limit: 1e+300')"}`},
		{`after limits {"task_name": "diff.add", "hard": 1e+300} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add [soft_time_limit=200 time_limit=100]", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
		{`idle time_limit({"task_name": "diff.add", "hard": 1000000000000000000000000000000})`, `{"error": "TypeError('hard must be a real number, not int')"}`},
		{`after limits {"task_name": "diff.add", "hard": 1000000000000000000000000000000} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add [soft_time_limit=200 time_limit=100]", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
	}},
	{"a limit is a number", []controlAnswer{
		{`after limits {"task_name": "diff.add", "soft": true} registered({"taskinfoitems": ["soft_time_limit", "time_limit"]})`, `["diff.add [soft_time_limit=1]", "diff.limits [soft_time_limit=40 time_limit=50.5]", "diff.quiet", "diff.rare", "diff.sleep"]`},
	}},
	{"a node without gossip takes no part in elections; a Python node raises", []controlAnswer{
		{`idle election({"id": "e1", "topic": "task"})`, `null`},
		{`idle election({"id": "e1", "topic": "task", "action": {"a": 1}})`, `null`},
		{`idle election({"id": null, "topic": null})`, `null`},
		{`idle election({"id": "e1", "topic": "x", "nonsense": 1})`, `null`},
		{`idle election({"id": [], "topic": {}})`, `null`},
	}},
	{"nothing is taken that could not start now", []controlAnswer{
		{`busy reserved({})`, `[]`},
		{`busy dump_reserved({})`, `[]`},
		{`busy reserved({"safe": true})`, `[]`},
		{`revoking query_task({"ids": ["ID-run", "ID-eta1", "ID-eta2", "ID-wait0"]})`, ""},
	}},
	{"what waits for its turn by the rate limit is shown; Celery knows nothing of it", []controlAnswer{
		{`busy scheduled({})`, ""},
		{`busy dump_schedule({})`, ""},
		{`busy scheduled({"safe": true})`, ""},
		{`busy query_task({"ids": ["ID-run", "ID-eta1", "ID-rare1", "ID-rare2", "ID-wait0", "ID-rare0", "none"]})`, ""},
		{`revoking scheduled({})`, ""},
	}},
	{"a revoked stamp marks the ids of the tasks that are here at once", []controlAnswer{
		{`revoking revoked(null)`, ""},
	}},
	{"an exchange is durable, however its queue was added", []controlAnswer{
		{`queues active_queues({}) #4`, ""},
	}},
	{"as many as the pool can have", []controlAnswer{
		{`autoscaled autoscale({"max": -1})`, ""},
	}},
}
