"""Asks two workers the same things by remote control: a Python one and Stalk, for interop_test/controldiff_test.go.

Served by `celery -A controldiff worker` on the Python side; interop_test/shopworker has the same tasks in Go. The
client's part is Conversation: a fixed sequence of commands, each answer normalised (names, ids, pids and times become
words) and returned under a label. What the two sides say under one label must be the same.
"""
import datetime
import json
import os
import re
import time
import traceback

from amqp.exceptions import ResourceLocked
from celery import Celery
from celery.result import AsyncResult

app = Celery("controldiff", broker=os.environ["STALK_BROKER"], backend=os.environ["STALK_BACKEND"], strict_typing=False)
app.conf.update(json.loads(os.environ.get("STALK_SETTINGS") or "{}"))


@app.task(name="diff.add")
def add(x, y=1):
    return x + y


@app.task(name="diff.sleep")
def sleep(seconds=1):
    time.sleep(seconds)
    return seconds


@app.task(name="diff.rare", rate_limit="2/h")
def rare(x=0):
    return x


@app.task(name="diff.limits", soft_time_limit=40, time_limit=50.5, max_retries=7, default_retry_delay=11)
def limits():
    return None


@app.task(name="diff.quiet", ignore_result=True, acks_late=False)
def quiet():
    return None


FAR = "2099-11-21T07:05:13.039403+00:00"
INSPECT = ["ping", "active", "reserved", "scheduled", "revoked", "registered", "query_task", "active_queues", "clock"]
ALIASES = ["dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks"]
LENIENT = INSPECT[:6] + ["clock", "memsample", *ALIASES]  # take any argument more
STRICT = ["active_queues", "report", "enable_events", "disable_events", "heartbeat", "autoscale"]

# What an idle worker is asked: method and arguments.
IDLE = [
    *((m, a) for m in [*INSPECT, *ALIASES] for a in ({}, None)),
    *((m, {"nonsense": 1}) for m in [*LENIENT, *STRICT]),
    *((m, {"state": 1}) for m in ("ping", "active_queues", "revoke", "dump_tasks")),  # the name of the function's own first parameter
    *((m, {"nonsense": 1, "other": 2}) for m in STRICT),
    *((m, a) for m in ("ping", "active_queues", "revoke") for a in ([], "", 0, False)),
    ("ping", {"": 1}), ("ping", {"with space": 1}), ("active_queues", {"": 1}), ("ping", {"x" * 3000: [{}] * 100}),
    # Names that no command has.
    *((m, {}) for m in ("nosuch", "Ping", " ping", "ping ", "", "__init__", "dump_ping", "dump_stats", "it's", 'it\'s "x"', "h\u00e5", "a\nb", "x" * 2000)),
    ("nosuch", {"a": 1}), ("ping", [1]), ("ping", "text"), ("nosuch", 7),
    # registered
    *((m, {"taskinfoitems": items}) for m in ("registered", "dump_tasks") for items in (
        ["rate_limit"], "rate_limit", ["name"], ["max_retries", "default_retry_delay"], ["time_limit", "soft_time_limit"], ["acks_late", "ignore_result"],
        ["serializer", "track_started", "store_errors_even_if_ignored"], ["nosuch"], ["_app"], ["__class__"], [], None, 0, False, "",
        [1, None, {}], ["rate_limit", 1], ["", "rate_limit"], ["rate_limit", "rate_limit"], {}, {"rate_limit": 1},
        ["priority", "compression", "expires", "routing_key", "exchange", "queue"], ["acks_on_failure_or_timeout", "reject_on_worker_lost"],
    )),
    *(("registered", {"taskinfoitems": items}) for items in (1, True, 1.5)),
    ("registered", {"builtins": True}), ("registered", {"builtins": 0}), ("registered", {"builtins": "no"}), ("registered", {"builtins": []}),
    ("registered", {"builtins": True, "taskinfoitems": ["rate_limit"]}),
    # query_task
    *(("query_task", {"ids": ids}) for ids in ([], "none", ["none"], None, 0, 1, 1.5, True, False, {}, {"a": 1}, [1], [None], [[]], [{}], ["a", ["b"]], "", ["\u0000"])),
    ("query_task", {"id": "x"}), ("query_task", {"ids": ["x"], "more": 1}),
    # revoke: the ids of each call are new, so that nothing else is touched
    *(("revoke", a) for a in (
        {}, {"task_id": None}, {"task_id": []}, {"task_id": ""}, {"task_id": {}}, {"task_id": "ID-r1"},
        {"task_id": ["ID-r2"]}, {"task_id": ["ID-r3", "ID-r3"]}, {"task_id": ["ID-r6"]}, {"task_id": "ID-r7", "terminate": True},
        {"task_id": "ID-r8", "terminate": True, "signal": "KILL"}, {"task_id": "ID-r9", "terminate": True, "signal": "BOGUS"},
        {"task_id": "ID-r10", "terminate": True, "signal": 9}, {"task_id": "ID-r11", "terminate": True, "signal": "sigkill"},
        {"task_id": "ID-r12", "terminate": True, "signal": None}, {"task_id": "ID-r13", "terminate": True, "signal": 4711},
        {"task_id": "ID-r14", "terminate": True, "signal": -1}, {"task_id": "ID-r15", "terminate": True, "signal": 1.5},
        {"task_id": "ID-r16", "terminate": True, "signal": []}, {"task_id": "ID-r17", "terminate": True, "signal": ["KILL"]},
        {"task_id": "ID-r18", "terminate": True, "signal": {"a": 1}}, {"task_id": "ID-r19", "terminate": True, "signal": ""},
        {"task_id": "ID-r20", "terminate": True, "signal": "SIGUSR1"}, {"task_id": "ID-r21", "terminate": True, "signal": True},
        {"task_id": "ID-r22", "terminate": True, "signal": "_DFL"}, {"task_id": "ID-r23", "terminate": True, "signal": "__doc__"},
        {"task_id": "ID-r24", "terminate": 0, "signal": "BOGUS"}, {"task_id": "ID-r25", "terminate": "no"}, {"task_id": "ID-r26", "nonsense": 1},
        {"task_id": "ID-r27", "connection": None, "reply": True}, {"task_id": [["ID-r28"]]}, {"task_id": [{}]}, {"task_id": ["ID-r29", ["x"]]},
        {"task_id": "it's", "terminate": 0}, {"task_id": 'both \' and "'}, {"task_id": "new\nline"}, {"task_id": "h\u00e5\u00e5\u00ae"},
        {"task_id": "ID-r30", "terminate": True, "signal": "RTMIN"}, {"task_id": "ID-r31", "terminate": True, "signal": "kill"},
        {"task_id": [], "terminate": True, "signal": "KILL"}, {"task_id": [], "terminate": True, "signal": "BOGUS"},
    )),
    ("revoked", {}), ("dump_revoked", {"x": 1}),
    *(("terminate", a) for a in (
        {}, {"signal": "KILL"}, {"task_id": "ID-t1"}, {"signal": "KILL", "task_id": "ID-t2"}, {"signal": None, "task_id": "ID-t3"},
        {"signal": "BOGUS", "task_id": "ID-t4"}, {"signal": "KILL", "task_id": "ID-t7", "terminate": False},
        {"signal": "KILL", "task_id": None}, {"signal": 0, "task_id": "ID-t8"},
    )),
    *(("revoke_by_stamped_headers", a) for a in (
        {}, {"headers": {"monitoring_id": "a"}}, {"headers": {"monitoring_id": ["b", "c"], "other": "d"}}, {"headers": ["monitoring_id=e"]},
        {"headers": ["monitoring_id=f=g"]}, {"headers": ["x=y", "x=z"]}, {"headers": ["nothing"]}, {"headers": []}, {"headers": {}}, {"headers": None}, {"headers": "a=b"},
        {"headers": 1}, {"headers": [1]}, {"headers": [None]}, {"headers": {"k": None}}, {"headers": {"k": 1}}, {"headers": {"k": [1, None, "t"]}},
        {"headers": {"k": {"a": 1}}}, {"headers": {"k": True}}, {"headers": {"k": 1.5}}, {"headers": {"it's": "\u00e5"}}, {"headers": {"t": "u"}, "terminate": True},
        {"headers": {"t": ["u", "v"]}, "terminate": True, "signal": "KILL"}, {"headers": {"t": "w"}, "terminate": True, "signal": "BOGUS"},
        {"headers": {"t": "x"}, "signal": "BOGUS"}, {"headers": {"t": "x2"}, "signal": 5}, {"headers": {"t": "y"}, "nonsense": 1},
        {"headers": ["t=z"], "terminate": True}, {"headers": [], "terminate": True}, {"headers": {}, "terminate": True},
    )),
    # rate_limit; the list of tasks shows its effect
    *(("rate_limit", a) for a in (
        {}, {"task_name": "diff.add"}, {"rate_limit": "1/s"}, {"task_name": "nosuch", "rate_limit": "1/s"}, {"task_name": "nosuch", "rate_limit": "x"},
        {"task_name": None, "rate_limit": "1/s"}, {"task_name": 1, "rate_limit": "1/s"}, {"task_name": ["diff.add"], "rate_limit": "1/s"},
        {"task_name": {}, "rate_limit": 1}, {"task_name": "diff.add", "rate_limit": {}}, {"task_name": "diff.add", "rate_limit": []},
        {"task_name": "diff.add", "rate_limit": [1]}, {"task_name": "diff.add", "rate_limit": {"a": 1}},
        {"task_name": "diff.add", "rate_limit": "1/s", "nonsense": 1}, {"task_name": "celery.chord", "rate_limit": "1/s"},
        {"task_name": "celery.chord", "rate_limit": None},
    )),
    *(step for limit in (
        "1/s", "10/m", "100/h", "7", 5, 2.5, "0.5/s", 0, "0", "0/s", 0.0, None, "", True, False, " 1/s", "1 /s", "1/ s", "1/s ", "1/x", "1/d", "/s", "1/", "1/s/s", "a", "a/s",
        "-1/s", -1, "1e3/s", "1_000/s", "inf/s", "nan/s", "inf", "1.5.5/s", "0x10", "+3/m", "9" * 400, "1/S", "1/sec",
    ) for step in (("rate_limit", {"task_name": "diff.add", "rate_limit": limit}), ("registered", {"taskinfoitems": ["rate_limit"]}, "after rate %.20r" % (limit,)))),
    ("rate_limit", {"task_name": "diff.rare", "rate_limit": None}), ("registered", {}), ("rate_limit", {"task_name": "diff.rare", "rate_limit": "2/h"}),
    ("rate_limit", {"task_name": "diff.add", "rate_limit": 0}), ("registered", {}),
    # time_limit
    *(step for a in (
        {}, {"task_name": "nosuch"}, {"task_name": "nosuch", "soft": 1, "hard": 2}, {"task_name": None}, {"task_name": 1}, {"task_name": []}, {"task_name": {}},
        {"task_name": "diff.add"}, {"task_name": "diff.add", "soft": 100}, {"task_name": "diff.add", "hard": 200}, {"task_name": "diff.add", "soft": 100.5, "hard": 200.25},
        {"task_name": "diff.add", "soft": 0, "hard": 0}, {"task_name": "diff.add", "soft": None, "hard": None}, {"task_name": "diff.add", "soft": -1, "hard": -2},
        {"task_name": "diff.add", "soft": "10", "hard": "20"}, {"task_name": "diff.add", "soft": "x"}, {"task_name": "diff.add", "hard": []},
        {"task_name": "diff.add", "hard": {"a": 1}}, {"task_name": "diff.add", "soft": True}, {"task_name": "diff.add", "soft": 200, "hard": 100},
        {"task_name": "diff.add", "hard": 1e300}, {"task_name": "diff.add", "hard": 10 ** 30}, {"task_name": "diff.add", "soft": 1, "nonsense": 1},
        {"task_name": "celery.chord", "hard": 100}, {"task_name": "celery.chord"}, {"task_name": "diff.add"},
        {"task_name": "diff.limits", "soft": 41, "hard": 51}, {"task_name": "diff.limits"}, {"task_name": "diff.limits", "soft": 40, "hard": 50.5},
    ) for step in (("time_limit", a), ("registered", {"taskinfoitems": ["soft_time_limit", "time_limit"]}, "after limits " + json.dumps(a)))),
    # events
    ("disable_events", {}), ("disable_events", {}), ("enable_events", {}), ("enable_events", {}), ("enable_events", None), ("heartbeat", {}), ("disable_events", {}),
    ("heartbeat", {}), ("disable_events", []),
    # mingle, gossip
    *(("hello", a) for a in (
        {}, {"from_node": "NODE"}, {"from_node": "NODE", "revoked": ["ID-h0"]}, {"from_node": "other@test"}, {"from_node": "other@test", "revoked": ["ID-h1", "ID-h2"]},
        {"from_node": "other@test", "revoked": {"ID-h3": [2069.798, "ID-h3"]}}, {"from_node": "other@test", "revoked": {"ID-h4": 2069.798, "ID-h5": 1}},
        {"from_node": "other@test", "revoked": None}, {"from_node": "other@test", "revoked": []}, {"from_node": "other@test", "revoked": ""},
        {"from_node": "other@test", "revoked": 7}, {"from_node": "other@test", "revoked": True},
        {"from_node": "other@test", "revoked": {"ID-h8": None, "ID-h9": "x"}},
        {"from_node": None}, {"from_node": 1}, {"from_node": []}, {"from_node": "other@test", "nonsense": 1}, {"revoked": []},
    )),
    ("revoked", {}),
    *(("election", a) for a in (
        {}, {"id": "e1"}, {"id": "e1", "topic": "task"}, {"id": "e1", "topic": "task", "action": {"a": 1}}, {"id": None, "topic": None}, {"topic": "x"},
        {"id": "e1", "topic": "x", "nonsense": 1}, {"id": [], "topic": {}},
    )),
    # the pool
    *(("autoscale", a) for a in ({}, {"max": 3}, {"max": 3, "min": 1}, {"max": "x"}, {"max": None, "min": None}, {"max": 1, "min": 3}, {"n": 1})),
    *(("pool_restart", a) for a in ({}, {"reload": True}, {"modules": ["x"]}, {"modules": 1, "reloader": 2}, {"nonsense": 1})),
    # debugging
    *(("objgraph", a) for a in ({}, {"num": 1, "max_depth": 2, "type": "dict"}, {"nonsense": 1}, {"num": "x"})),
    *(("memdump", a) for a in ({}, {"samples": 3}, {"nonsense": 1}, {"samples": "x"}, {"samples": None})),
    ("memsample", {}), ("report", {}), ("clock", {"clock": 10}), ("stats", {}), ("stats", {"nonsense": 1}),
    # queues: refused ones only; those that are added come later
    *((m, a) for m in ("add_consumer", "cancel_consumer") for a in ({}, {"exchange": "x"}, {"name": "x"}, {"state": 1, "queue": "x"})),
]

# What leaves ids behind that are no texts, or in any order: asked last.
ODD = [
    ("terminate", {"signal": "KILL", "task_id": 5}), ("revoke", {"task_id": ["ID-r4", "ID-r5", "ID-r4"]}), ("terminate", {"signal": "KILL", "task_id": ["ID-t5", "ID-t6"]}), ("revoke", {"task_id": 0}), ("revoke", {"task_id": False}), ("revoke", {"task_id": 1.5}), ("hello", {"from_node": "other@test", "revoked": [{}]}),
    ("hello", {"from_node": "other@test", "revoked": ["ID-h7", ["x"]]}),
]


class Conversation:
    """One node, asked everything."""

    def __init__(self, node, queue, prefix):
        self.node, self.queue, self.prefix = node, queue, prefix
        self.said, self.seen = [], {}

    def told(self, value):
        """Ours in, theirs out: NODE, QUEUE and ID- in arguments are this side's."""
        if isinstance(value, str):
            return self.node if value == "NODE" else re.sub(r"\bID-", self.prefix + "-", value).replace("QUEUE", self.queue)
        if isinstance(value, list):
            return [self.told(v) for v in value]
        if isinstance(value, dict):
            return {k: self.told(v) for k, v in value.items()}
        return value

    def plain(self, value, key=None):
        if isinstance(value, str):
            value = value.replace(self.node, "NODE").replace(self.queue, "QUEUE").replace(self.prefix + "-", "ID-")
            return re.sub(r"\{('[^{}]*'(?:, '[^{}]*')*)\}", lambda m: "{%s}" % ", ".join(sorted(m[1].split(", "))), value)  # a set has no order
        if isinstance(value, dict):
            return {self.plain(k): self.plain(v, k) for k, v in value.items()}
        if isinstance(value, list):
            rows = [self.plain(v) for v in value]
            if rows and all(isinstance(r, dict) and ("id" in r or "request" in r) for r in rows):
                rows.sort(key=lambda r: r.get("id") or r["request"]["id"])
            return rows
        if key in ("worker_pid", "time_start", "clock", "uptime", "pid") and value is not None:
            return type(value).__name__
        return value

    def once(self, method, arguments, seconds):
        """One question on a connection of its own. RabbitMQ 4.3 deletes what was exclusive to the last connection a
        moment after it has closed that: while the queue for answers still has its owner, nothing is asked yet."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with app.connection_for_write() as conn:
                    answers = app.control.mailbox(conn)._broadcast(
                        method, arguments, destination=[self.node], reply=True, timeout=seconds, limit=1, channel=conn.default_channel)
                return answers[0] if answers else None
            except ResourceLocked:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def ask(self, method, arguments=None, label="", seconds=3):
        """Asks, and notes the answer under the situation, the method and its arguments."""
        text = self.numbered("%s %s(%s)" % (label or self.situation, method[:40] or "''", short(arguments)))
        answer = self.once(method, self.told(arguments), seconds)
        if answer is None:
            self.said.append([text, "(no answer)"])
            return None
        value = answer[self.node]
        known = normal.get(method, Conversation.plain)(self, value)
        self.said.append([text, json.dumps(known, ensure_ascii=False, sort_keys=True)])
        return value

    def numbered(self, text):
        self.seen[text] = count = self.seen.get(text, 0) + 1
        return text if count == 1 else "%s #%d" % (text, count)

    def note(self, text, value):
        self.said.append([self.numbered(self.situation + " " + text), json.dumps(self.plain(value), ensure_ascii=False, sort_keys=True)])

    def asked(self, method, **arguments):
        """An answer for ourselves."""
        for _ in range(5):
            answer = self.once(method, arguments, 10)
            if answer is not None:
                return answer[self.node]
        raise AssertionError("%s does not answer %s" % (self.node, method))

    def send(self, task, *args, id, **options):
        return app.send_task(task, args, queue=self.queue, task_id=self.prefix + "-" + id, **options)

    def result(self, id):
        return AsyncResult(self.prefix + "-" + id, app=app)

    def record(self, id):
        """The stored bytes, without what differs by nature."""
        raw = app.backend.get(app.backend.get_key_for_task(self.prefix + "-" + id))
        if raw is None:
            return None
        meta = json.loads(raw)
        if meta.get("date_done"):
            meta["date_done"] = "date"
        if meta.get("traceback"):
            meta["traceback"] = "traceback"
        return meta

    def play(self, situations):
        """Goes through the situations; one that goes wrong ends there, and says why."""
        for self.situation in situations.split():
            try:
                getattr(self, self.situation)()
            except Exception:
                self.said.append([self.situation + " to the end", traceback.format_exc()])
            else:
                self.said.append([self.situation + " to the end", "yes"])
        return self.said

    # The situations.

    def idle(self):
        for method, arguments, *where in IDLE:
            self.ask(method, arguments, *where)
        for id in ("r1", "r2", "r6", "r7", "r9", "r24", "t2", "t4"):
            self.note("record of " + id, self.record(id))
        self.note("runs a task", self.send("diff.add", 2, id="good").get(timeout=60))
        self.note("expired", gone(self.send("diff.add", 2, id="expired", expires=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc))))
        for method in ("revoked", "query_task", "active", "reserved", "stats"):
            self.ask(method, {"ids": ["ID-good", "ID-expired"]} if method == "query_task" else {}, "afterwards")

    def odd(self):
        for method, arguments in ODD:
            self.ask(method, arguments)

    def busy(self):
        """One runs, two wait for their eta, two for the rate limit, three are reserved."""
        self.send("diff.sleep", 2, id="eta1", eta=FAR, priority=3)
        self.send("diff.sleep", 3, id="eta2", eta=FAR.replace("2099", "2098"), kwargs={}, stamped_headers=["mark"], mark="m1")
        self.send("diff.rare", 0, id="rare0").get(timeout=60)
        for i in (1, 2):
            self.send("diff.rare", i, id="rare%d" % i)
        wait(lambda: len(self.asked("scheduled")) >= 2)
        self.send("diff.sleep", 300, id="run", shadow="shadow.name", stamped_headers=["mark"], mark=["m2", "m3"])
        wait(lambda: self.asked("active"))
        for i in range(3):
            self.send("diff.add", i, id="wait%d" % i, kwargs={"y": i}, argsrepr="(ours,)", kwargsrepr="{ours}")
        if self.prefix.startswith("py"):
            wait(lambda: self.asked("reserved"))
        else:
            time.sleep(1)  # what it has not taken cannot be asked for
        for method, arguments in [
            *((m, {}) for m in [*INSPECT, *ALIASES]), ("stats", {}),
            *(("active", {"safe": safe}) for safe in (True, 1, 0, None, "no", [], {}, "")), ("dump_active", {"safe": True}), ("reserved", {"safe": True}),
            ("scheduled", {"safe": True}), ("query_task", {"ids": ["ID-run", "ID-eta1", "ID-rare1", "ID-rare2", "ID-wait0", "ID-rare0", "none"]}),
            ("query_task", {"ids": "ID-eta2"}), ("query_task", {"ids": ["ID-run", "ID-run"]}), ("query_task", {"ids": {"ID-run": 1}}),
        ]:
            self.ask(method, arguments)
        for id in ("run", "eta1", "rare1", "wait0", "rare0"):
            self.note("record of " + id, self.record(id))

    def revoking(self):
        for method, arguments in [
            ("revoke", {"task_id": "ID-eta1"}), ("revoke", {"task_id": ["ID-run", "ID-rare0"]}), ("revoke", {"task_id": ["ID-wait0"]}),
            ("revoke", {"task_id": "ID-wait1", "terminate": True, "signal": "BOGUS"}),
            ("revoke_by_stamped_headers", {"headers": {"mark": "m1"}}), ("revoke_by_stamped_headers", {"headers": {"mark": "nobody's"}, "terminate": True}),
            ("active", {}), ("scheduled", {}), ("query_task", {"ids": ["ID-run", "ID-eta1", "ID-eta2", "ID-wait0"]}),
        ]:
            self.ask(method, arguments)
        for id in ("eta1", "eta2", "run", "rare0", "wait0", "wait1"):
            self.note("record of " + id, self.record(id))
        self.ask("revoke_by_stamped_headers", {"headers": {"mark": ["m3", "m9"]}, "terminate": True, "signal": "KILL"})
        self.note("the running one", gone(self.result("run")))
        self.note("wait2", self.result("wait2").get(timeout=60))
        self.note("wait0", gone(self.result("wait0")))
        wait(lambda: not self.asked("active") and not self.asked("reserved"))
        for id in ("run", "wait0", "wait1"):
            self.note("record at the end of " + id, self.record(id))
        again = self.send("diff.sleep", 300, id="again")
        wait(lambda: self.asked("active"))
        self.ask("terminate", {"signal": "TERM", "task_id": ["ID-again", "none"]})
        self.note("terminated", gone(again))
        self.note("record of again", self.record("again"))
        by_id = self.send("diff.sleep", 300, id="byid")
        wait(lambda: [r for r in self.asked("active") if r["id"].endswith("byid")])
        self.ask("revoke", {"task_id": "ID-byid", "terminate": True, "signal": "SIGKILL"})
        self.note("revoked", gone(by_id))
        self.note("record of byid", self.record("byid"))
        self.ask("revoked")
        self.note("one more", self.send("diff.add", 5, id="onemore").get(timeout=60))
        self.ask("stats")

    def queues(self):
        mine = self.queue + ".more"
        for method, arguments in [
            ("add_consumer", {"queue": "QUEUE.more"}), ("add_consumer", {"queue": "QUEUE.more"}), ("active_queues", {}),
            ("add_consumer", {"queue": "QUEUE.keyed", "exchange": "QUEUE.ex", "exchange_type": "topic", "routing_key": "a.#"}), ("active_queues", {}),
            ("cancel_consumer", {"queue": "QUEUE.keyed"}), ("cancel_consumer", {"queue": "QUEUE.keyed"}), ("active_queues", {}),
            ("cancel_consumer", {"queue": "nosuch", "nonsense": 1}), ("cancel_consumer", {"queue": None}), ("cancel_consumer", {"queue": 7}),
            ("add_consumer", {"queue": "QUEUE.opts", "exchange": None, "exchange_type": None, "routing_key": None, "auto_delete": True, "durable": False}),
            ("active_queues", {}), ("cancel_consumer", {"queue": "QUEUE.opts"}), ("active_queues", {}),
            ("add_consumer", {"queue": "QUEUE"}), ("active_queues", {}),
        ]:
            self.ask(method, arguments)
            if method != "active_queues":
                time.sleep(0.5)  # the answer comes before the effect
        self.note("runs from there", app.send_task("diff.add", (1,), queue=mine, task_id=self.prefix + "-there").get(timeout=60))
        self.ask("cancel_consumer", {"queue": "QUEUE.more"})
        wait(lambda: len(self.asked("active_queues")) == 1)
        left = app.send_task("diff.add", (1,), queue=mine, task_id=self.prefix + "-left")
        self.note("own queue", self.send("diff.add", 7, id="own").get(timeout=60))
        self.note("left alone", left.state)
        self.ask("add_consumer", {"queue": "QUEUE.more"})
        self.note("taken at last", left.get(timeout=60))
        self.ask("cancel_consumer", {"queue": "QUEUE"})
        wait(lambda: [q["name"] for q in self.asked("active_queues")] == [mine])
        self.ask("active_queues")
        self.ask("add_consumer", {"queue": "QUEUE"})
        wait(lambda: len(self.asked("active_queues")) == 2)

    def pool(self):
        """Grows and shrinks. A Python pool follows after a while, and takes a moment to see that a process is idle."""
        size = 1
        for method, n in (("grow", 1), ("grow", 2), ("shrink", 1), ("shrink", 2), ("grow", 0), ("grow", 3), ("shrink", 2)):
            size += int(n) if method == "grow" else -int(n)
            self.ask("pool_" + method, {"n": n})
            wait(lambda: len(self.asked("stats")["pool"]["processes"]) == size)
            stats = self.asked("stats")
            self.note("%s by %r" % (method, n), [len(stats["pool"]["processes"]), stats["prefetch_count"]])
            self.note("runs a task", self.send("diff.add", size, id="pool%d-%d" % (size, len(self.said))).get(timeout=60))
        for method, arguments in [
            *(("pool_grow", {"n": n}) for n in ("x", None, 1.5, [], {})), ("pool_shrink", {"n": []}),
            ("pool_grow", {"n": 0, "nonsense": 1}), ("pool_grow", {"state": 1}),
        ]:
            self.ask(method, arguments)

    def autoscaled(self):
        for method, arguments in [
            ("stats", {}), ("pool_grow", {}), ("pool_shrink", {"n": 1}), ("autoscale", {"max": 6, "min": 2}), ("autoscale", {"max": 5}), ("autoscale", {"min": 1}),
            ("autoscale", {}), ("autoscale", {"max": "x"}), ("autoscale", {"max": 3, "min": "x"}), ("autoscale", {"max": 2, "min": 4}), ("autoscale", {"max": 0, "min": 0}),
            ("autoscale", {"max": -1}), ("autoscale", {"nonsense": 1}), ("autoscale", {"max": [], "min": {}}), ("autoscale", {"max": 4, "min": 1}),
        ]:
            self.ask(method, arguments)
            time.sleep(0.3)

    def ending(self):
        self.ask("shutdown", {}, seconds=1)


def short(arguments):
    text = json.dumps(arguments, ensure_ascii=False)
    return text if len(text) <= 120 else text[:120] + "..."


def wait(condition, seconds=40):
    end = time.monotonic() + seconds
    while not (got := condition()):
        assert time.monotonic() < end, "waited %s s in vain" % seconds
        time.sleep(0.1)
    return got


def gone(result):
    try:
        return result.get(timeout=60)
    except Exception as exc:
        return "%s: %s" % (type(exc).__name__, exc)


def shape(value):
    """Types in place of values."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    return type(value).__name__


def stats(self, value):
    if not isinstance(value, dict) or "pool" not in value:
        return self.plain(value)
    value = dict(value)
    assert value["clock"].isdigit(), value["clock"]
    for k in ("pid", "uptime", "clock", "rusage"):
        value[k] = shape(value[k])
    # Python's are settings of its libraries; ours are what we do.
    value["broker"] = dict(value["broker"], **{k: type(value["broker"][k]).__name__ for k in ("connect_timeout", "heartbeat")})
    value["pool"] = dict(value["pool"], processes=[type(p).__name__ for p in value["pool"]["processes"]], implementation="pool", writes="writes")
    return value


def pattern(expression, word):
    def found(self, value):
        text = value.get("ok", value) if isinstance(value, dict) else value
        return {**value, "ok": word} if isinstance(value, dict) and re.fullmatch(expression, str(text), re.S) else \
            word if isinstance(text, str) and re.fullmatch(expression, text, re.S) else self.plain(value)
    return found


def registered(self, value):
    """The Go program serves more tasks than these."""
    return [t for t in value if t.startswith(("diff.", "celery."))] if isinstance(value, list) else self.plain(value)


normal = {
    "registered": registered, "dump_tasks": registered,
    "stats": stats,
    "report": pattern(r"\nsoftware -> .*\nplatform -> .*\nloader   -> .*\nsettings -> .*", "a report"),
    # Python's without psutil tell nothing.
    "memsample": lambda self, value: "a size" if value is None else pattern(r"\d+(\.\d+)?MB", "a size")(self, value),
    "memdump": pattern(r"- rss: \(psutil not installed\)\.\n|(- rss \(sample\):\n(- *> \d+(\.\d+)?MB,\n)*)?- rss \(end\): \d+(\.\d+)?MB\.\n", "a dump"),
}
