"""Canvases made from a seed: plain dictionaries, which print as Celery code and build into signatures.

A task is {"kind": "task", "name", "args", "kwargs", "immutable", "options", "label"}, a composite {"kind", "members"} or,
a chord, {"kind", "members", "body"}; all may have "link", "link_error", "stamps" and "fixed" (set_immutable). Labels are unique in a
canvas: the observer knows a task by them (they travel as `shadow`).
"""
import copy
import random

from celery import chain, chord, group
from celery.canvas import xstarmap

PAST = "2020-01-01T00:00:00+00:00"
ERRORS = ("ValueError", "KeyError", "TypeError", "ZeroDivisionError", "RuntimeError")
VALUES = (None, True, 0, -7, 2.5, 1.0, "a", "\u00e9", "", [], [1, [2]], {}, {"k": [None]}, 10 ** 20)


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.labels = 0

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def canvas(self):
        """A canvas and the arguments of its call."""
        given = self.random.choice([None, None, "number"])
        root = self.random.choice(["chain"] * 4 + ["chord"] * 3 + ["group"] * 2 + ["task"])
        made = self.node(root, self.random.choice([1, 2, 2, 3]), given, root == "group")[0]
        return {"canvas": made, "args": [self.random.randrange(10)] if given else [], "kwargs": {"a": 1} if self.chance(10) else {}}

    # What a node is given by the one before it: None, "number" or "any"; each returns what it gives on.

    def node(self, kind, depth, given, open_end):
        """open_end: may end in a group, and so in a list of results."""
        made, gives = getattr(self, kind)(depth, given, open_end)
        if kind != "group" and self.chance(7):
            made["link"] = [self.small(gives) for _ in range(self.random.choice([1, 1, 2]))]
        if self.chance(14):
            made["link_error"] = [self.errback() for _ in range(self.random.choice([1, 1, 2]))]
        if kind != "task" and self.chance(4):
            made["fixed"] = True
        if self.chance(4):
            made["stamps"] = {"mark": self.random.choice(["x", 5, ["p", "q"]])}
        return made, gives

    def any(self, depth, given, open_end):
        kinds = ["task"] * 5
        if depth > 0:
            kinds += ["chain"] * 2 + ["chord"] + ["group"] * (2 if open_end else 0)
        return self.node(self.random.choice(kinds), depth, given, open_end)

    def label(self):
        self.labels += 1
        return "t%d" % self.labels

    def plain(self, name, args=(), kwargs=None, immutable=False, **options):
        return {"kind": "task", "name": name, "args": list(args), "kwargs": kwargs or {}, "immutable": immutable,
                "options": options, "label": self.label()}

    def values(self, most):
        return [self.random.choice(VALUES) for _ in range(self.random.randrange(most + 1))]

    def task(self, depth, given, open_end):
        immutable = self.chance(15)
        alone = immutable or given is None
        what = self.random.choice(["echo"] * 9 + ["add"] * 6 + ["retry"] * 2 + ["fail"] * 2 + ["expired", "starmap"] + ["unknown"] * self.chance(50))
        if what == "add" and given == "any" and not immutable and not self.chance(10):  # most cannot be added to
            what = "echo"
        number = self.random.randrange(100)
        if what == "add" and alone:
            made = self.plain("demo.add", [number, 2]) if self.chance(70) else self.plain("demo.add", [], {"x": number})
        elif what == "add":
            made = self.plain("demo.add", [number]) if self.chance(50) else self.plain("demo.add", [], {"y": 0.5})
        elif what == "retry" and alone:
            made = self.plain("demo.retry", [self.random.choice([1, 1, 2, 0])])
        elif what == "fail":
            made = self.plain("demo.fail", ["no %d" % number] if alone else [], {"exc_type": self.random.choice(ERRORS)})
        elif what == "unknown":
            made = self.plain("demo.unknown", self.values(1))
        elif what == "expired":
            made = self.plain("demo.echo", expires=PAST)
        elif what == "starmap":
            made = {"kind": "starmap", "it": [[number, 1], [2, 3]], "label": self.label(), "options": {}}
        else:
            kwargs = {k: self.random.choice(VALUES) for k in ("a", "b") if self.chance(15)}
            made = self.plain("demo.echo", self.values(2), kwargs)
        if made["kind"] == "task" and immutable:
            made["immutable"] = True
        options = made["options"]
        if self.chance(8):
            options["priority"] = self.random.randrange(10)
        if self.chance(4):
            options["countdown"] = 0
        if self.chance(6):
            options["ignore_result"] = True
        if self.chance(4):
            options["headers"] = {"tenant": self.random.choice(VALUES[:8])}
        if self.chance(3):
            options["time_limit"] = 60
        return made, "number" if what in ("add", "retry") and made.get("name") != "demo.echo" else "any"

    def small(self, given):
        if self.chance(75):
            return self.task(0, given, True)[0]
        return self.node(self.random.choice(["chain", "group", "chord"]), 0, given, True)[0]

    def errback(self):
        if self.chance(8):
            return self.group(0, "any", False)[0]
        # What takes one argument is sent, what takes more is called in place.
        return self.random.choice([
            lambda: self.plain("demo.add", kwargs={"y": "!"}),
            lambda: self.plain("demo.add", kwargs={"y": "!"}),
            lambda: self.plain("demo.sleep", [0], immutable=True),
            lambda: self.plain("demo.sleep"),
            lambda: self.plain("demo.fail", kwargs={"exc_type": self.random.choice(ERRORS)}),
            lambda: self.plain("demo.fail"),
            lambda: self.plain("demo.echo", self.values(1), immutable=self.chance(30)),
            lambda: self.plain("demo.unknown"),
        ])()

    def size(self):
        return self.random.choice([0, 1, 1, 2, 2, 2, 3, 3, 4])

    def chain(self, depth, given, open_end):
        members, count = [], self.size()
        for i in range(count):
            made, given = self.any(depth - 1, given, open_end or i < count - 1)
            if i < count - 1 and self.chance(25) and depth > 0:
                made, given = self.node("group", depth - 1, given, False)
            members.append(made)
        return {"kind": "chain", "members": members}, given

    def group(self, depth, given, open_end):
        members = []
        for _ in range(self.size()):
            if depth > 0 and self.chance(8):
                members.append(self.group(depth - 1, given, False)[0])
            else:
                members.append(self.any(depth - 1, given, False)[0])
        return {"kind": "group", "members": members}, "any"

    def chord(self, depth, given, open_end):
        members = self.group(depth, given, False)[0]["members"]
        body, gives = self.any(depth - 1, "any", open_end)
        if open_end and self.chance(15):
            body, gives = self.group(0, "any", False)
        return {"kind": "chord", "members": members, "body": body}, gives


def generate(seed, expiring=True):
    """The canvas of a seed; without expiring, nothing in it expires."""
    made = Generator(seed).canvas()
    if not expiring:
        keep(made["canvas"])
    return made


def keep(made):
    for node in nodes(made):
        node.get("options", {}).pop("expires", None)


def nodes(node):
    """The node and all inside of it."""
    yield node
    for inner in [*node.get("members", ()), *node.get("link", ()), *node.get("link_error", ()), *([node["body"]] if "body" in node else ())]:
        yield from nodes(inner)


def text(node):
    """The canvas as Celery code, for whoever looks into a difference."""
    if node["kind"] == "task":
        inner = [repr(a) for a in node["args"]] + ["%s=%r" % i for i in node["kwargs"].items()]
        out = "%s.%s(%s)" % (node["name"][5:], "si" if node["immutable"] else "s", ", ".join(inner))
    elif node["kind"] == "starmap":
        out = "add.starmap(%r)" % (node["it"],)
    else:
        out = ", ".join(map(text, node["members"]))
        out = "chord([%s], %s)" % (out, text(node["body"])) if node["kind"] == "chord" else "%s(%s)" % (node["kind"], out)
    if node.get("options"):
        out += ".set(%s)" % ", ".join("%s=%r" % i for i in node["options"].items())
    for kind in ("link", "link_error"):
        for linked in node.get(kind, ()):
            out += ".%s(%s)" % (kind, text(linked))
    if "fixed" in node:
        out += ".set_immutable(True)"
    if "stamps" in node:
        out += ".stamp(%s)" % ", ".join("%s=%r" % i for i in node["stamps"].items())
    return out if "label" not in node else "%s:%s" % (node["label"], out)


class Builder:
    """Builds signatures of an app. queue(label) names the queue of a task; None: by the app's defaults."""

    def __init__(self, app, prefix, queue):
        self.app, self.prefix, self.queue = app, prefix, queue

    def __call__(self, node):
        kind = node["kind"]
        if kind == "task":
            made = self.app.signature(node["name"], args=tuple(node["args"]), kwargs=dict(node["kwargs"]), immutable=node["immutable"])
        elif kind == "starmap":
            made = xstarmap(self.app.signature("demo.add"), [list(i) for i in node["it"]], app=self.app)
        elif kind == "chord":
            made = chord([self(m) for m in node["members"]], self(node["body"]), app=self.app)
        else:
            made = {"chain": chain, "group": group}[kind](*[self(m) for m in node["members"]], app=self.app)
        if "label" in node:
            queue = self.queue(node["label"])
            made.set(shadow=self.prefix + node["label"], **node["options"], **({"queue": queue} if queue else {}))
        for linked in node.get("link", ()):
            made.link(self(linked))
        for linked in node.get("link_error", ()):
            made.link_error(self(linked))
        if "fixed" in node:
            made.set_immutable(True)
        if "stamps" in node:
            made.stamp(**copy.deepcopy(node["stamps"]))  # Celery goes on adding to lists
        return made
