"""What one canvas did, as nested plain values that are the same for every worker that does it right.

Ids become positions: the label of a task, or for a group the labels of its members. What timing decides is
made equal: a chord's body is published by whichever part ends last, so its parent is "a part", and of a
canvas with several first messages the root of what follows them all is "a first".
"""
import json
import re
from collections import Counter

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SUFFIX = re.compile(r"^celery-task(?:set)?-meta-(%s)" % UUID.pattern)


def signatures(value):
    """Every signature inside of a value, the outer ones first."""
    if isinstance(value, dict):
        if "task" in value and isinstance(value.get("options"), dict):
            yield value
        for inner in value.values():
            yield from signatures(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from signatures(inner)


def labels_of(node, kind=None, inside=False):
    """The labels of a canvas: all, or those inside of its "link" or "link_error"."""
    found = {node["label"]} if "label" in node and (inside or kind is None) else set()
    for key in ("members", "link", "link_error"):
        for inner in node.get(key, ()):
            found |= labels_of(inner, kind, inside or key == kind)
    return found | labels_of(node["body"], kind, inside) if "body" in node else found


def labels(value):
    return [s["options"]["shadow"] for s in signatures(value) if "shadow" in s["options"]]


class Case:
    """The messages of one run of one canvas, in the order in which they were published."""

    def __init__(self, prefix, messages, client, errbacks, ordered):
        self.prefix, self.messages, self.client, self.errbacks, self.ordered = prefix, messages, client, errbacks, ordered
        self.by_id = {}
        for m in messages:
            self.by_id.setdefault(m.id, m)
        self.names = {}
        self.name_tasks()
        self.name_groups()
        firsts = [m.id for m in messages if m.headers["parent_id"] is None and m.headers["retries"] == 0]
        self.firsts = set(firsts) if len(firsts) > 1 else set()

    def short(self, label):
        return label.removeprefix(self.prefix)

    def name_tasks(self):
        found = {}  # label: ids, in order
        for m in self.messages:
            found.setdefault(self.short(m.label), {})[m.id] = m
        for m in self.messages:
            for s in signatures(m.embed):
                options = s["options"]
                if options.get("task_id") and "shadow" in options:
                    found.setdefault(self.short(options["shadow"]), {}).setdefault(options["task_id"], None)
        for label, of in found.items():
            if len(of) == 1 and label not in self.errbacks:
                self.names.update((id, label) for id in of)
        for label, of in found.items():  # what may run more than once is told by who caused it
            if len(of) > 1 or label in self.errbacks:
                seen = Counter()
                for id, m in of.items():
                    by = self.parent(id, m.headers["parent_id"]) if m else "?"
                    seen[by] += 1
                    self.names[id] = "%s@%s%s" % (label, by, "" if seen[by] == 1 else "#%d" % seen[by])

    def name_groups(self):
        members = {}
        for m in self.messages:
            if m.headers["group"] and m.headers["group_index"] is not None:
                members.setdefault(m.headers["group"], set()).add(self.names[m.id])
        for m in self.messages:
            for s in signatures(m.embed):
                options = s["options"]
                if options.get("group_id") and options.get("group_index") is not None and options.get("task_id") in self.names:
                    members.setdefault(options["group_id"], set()).add(self.names[options["task_id"]])
        for gid, of in members.items():
            self.names[gid] = "group(%s)" % ",".join(sorted(of))
        for m in self.messages:
            for s in signatures(m.embed):
                id = s["options"].get("task_id")
                if id and id not in self.names:
                    self.names[id] = "%s[%s]" % (s.get("subtask_type"), ",".join(map(self.short, labels(s))))

    def name(self, id):
        return self.names.get(id, "?") if id else id

    def clean(self, value):
        """A value with ids named and the prefix of labels removed."""
        if isinstance(value, str):
            return UUID.sub(lambda m: "<%s>" % self.name(m[0]), value.replace(self.prefix, ""))
        if isinstance(value, dict):
            if "subtask_type" in value and isinstance(value.get("options"), dict):
                # Where a task is sent is seen in its own message.
                value = {**value, "options": {k: v for k, v in value["options"].items() if k != "queue"}}
            return {self.clean(k): self.option(k, v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.clean(v) for v in value]
        return value

    def option(self, key, value):
        if key == "reply_to" and value:
            return "client" if value == self.client else "worker"
        if key == "root_id" and value in self.firsts:
            return "a first"
        return self.clean(value)

    def parent(self, id, parent):
        """The parent's name, or the chord whose body this is part of."""
        by = self.by_id.get(parent)
        m = self.by_id.get(id)
        # An errback of the part itself may be one of the body as well (task_allow_error_cb_on_chord_header).
        if by is not None and m is not None and m.label in labels(by.embed["chord"]) and m.label not in labels(by.embed["errbacks"]):
            return "a part of " + self.name(by.headers["group"]) if by.headers["group"] in self.names else "a part"
        return self.name(parent)

    def root(self, id, root):
        return "itself" if root == id else "a first" if root in self.firsts else self.name(root)

    def message(self, m, queues):
        h, p = dict(m.headers), m.properties
        known = {
            "parent_id": self.parent(m.id, h.pop("parent_id")), "root_id": self.root(m.id, h.pop("root_id")),
            "group": self.name(h.pop("group")), "eta": bool(h.pop("eta")), "id": self.name(h.pop("id")),
            "origin": bool(h.pop("origin")), 
            "queue": "its own" if queues.get(m.label) == m.queue else m.queue, "priority": p.get("priority"), "content": [p.get("content_type"), p.get("content_encoding")],
            "delivery_mode": p.get("delivery_mode"), "correlated": p.get("correlation_id") == m.id,
            "reply_to": "client" if p.get("reply_to") == self.client else bool(p.get("reply_to")),
            "args": self.clean(m.args), "kwargs": self.clean(m.kwargs), "embed": self.clean(m.embed),
        }
        h.pop("lang")
        return {**self.clean(h), **known}

    def order(self):
        """Who published what in which order: {parent: [what, ...]}."""
        out = {}
        for m in self.messages:
            by = self.parent(m.id, m.headers["parent_id"]) if m.headers["retries"] == 0 else "retry of " + self.name(m.id)
            out.setdefault(by, []).append("%s/%d" % (self.name(m.id), m.headers["retries"]))
        return out if self.ordered else {by: sorted(sent) for by, sent in out.items()}

    def all_ids(self):
        return set(self.names) | {m.id for m in self.messages}

    def record(self, raw, queues):
        """A result document."""
        meta = json.loads(raw)
        out = self.clean(meta)
        out["traceback"] = bool(meta.get("traceback"))
        out["date_done"] = bool(meta.get("date_done"))
        if meta.get("worker"):
            out["worker"] = True
        if meta.get("queue"):
            m = self.by_id.get(meta["task_id"])
            out["queue"] = "its own" if m and queues.get(m.label) == meta["queue"] else meta["queue"]
        if "parent_id" in meta:
            out["parent_id"] = self.parent(meta["task_id"], meta["parent_id"])
        return out

    def observe(self, client, keys, queues):
        """All there is to see: {name: value}."""
        out = {}
        for m in self.messages:
            name = "message %s/%d" % (self.name(m.id), m.headers["retries"])
            if name in out:
                out["repeated"] = out.get("repeated", 0) + 1
            out[name] = self.message(m, queues)
        for parent, sent in self.order().items():
            out["published by %s" % parent] = sent
        # A claim that is not done lives for seconds; who releases it early is free to.
        keys = [k for k in keys if not k.endswith(".c") or client.get(k) == b"done"]
        counts = Counter(self.clean(k) for k in keys)
        out["keys"] = sorted("%s x%d" % kn for kn in counts.items())
        for key in keys:
            id = SUFFIX.match(key)[1]
            if key == "celery-task-meta-" + id:
                out["result %s" % self.name(id)] = self.record(client.get(key), queues)
            elif key.endswith(".j"):
                rows = client.zrange(key, 0, -1, withscores=True)
                out["parts %s" % self.name(id)] = [[self.clean(json.loads(r)), s] for r, s in rows]
            elif not key.endswith((".c", ".d")):
                out["value %s" % self.clean(key)] = self.clean(client.get(key).decode())
            else:
                out["kind %s" % self.clean(key)] = client.type(key).decode()
        return out


def differences(want, got):
    """Lines that name what differs, in the order of the names."""
    lines = []
    for name in sorted(set(want) | set(got)):
        walk(name, want.get(name, MISSING), got.get(name, MISSING), lines)
    return lines


MISSING = type("Missing", (), {"__repr__": lambda self: "nothing"})()


def walk(path, want, got, lines):
    if isinstance(want, dict) and isinstance(got, dict):
        for k in sorted(set(want) | set(got), key=str):
            walk("%s.%s" % (path, k), want.get(k, MISSING), got.get(k, MISSING), lines)
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for i, (a, b) in enumerate(zip(want, got)):
            walk("%s[%d]" % (path, i), a, b, lines)
    elif repr(want) != repr(got):  # 1, 1.0 and True are not the same
        lines.append("%s: want %s, got %s" % (path, brief(want), brief(got)))


def brief(value):
    out = repr(value)
    return out if len(out) < 300 else out[:300] + "..."
