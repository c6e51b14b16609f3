"""What Stalk does otherwise than Celery, on purpose.

ALIKE are differences nobody can act on; both sides are brought to one form. REPEATED: Celery, and Stalk with it,
sends what follows a chord whose body is a group once for each member, under the same ids; which of them is seen is
decided by timing. FURTHER is one rule: Celery leaves somebody waiting for ever whom Stalk tells. Generated canvases
may meet any of them; CASES show each by itself, with what both do, so that a change on either side is noticed.
"""
from .canvases import nodes
from .observe import differences, labels_of


def alike(seen):
    """ALIKE: the observation without what may differ. Each line says why it may."""
    ran = {name.split()[1].split("/")[0] for name in seen if name.startswith("message ")}
    out = {}
    for name, value in seen.items():
        if name.startswith("message "):
            # A Python worker sends false for tasks that it has itself and null for others; Stalk always null. Both
            # leave it to the task.
            value = {**value, "ignore_result": bool(value["ignore_result"])}
            # Only for the eye: an immutable signature from a message has a list of arguments where another has a tuple.
            text = value["argsrepr"]
            if text[:1] + text[-1:] == "[]":
                inner = text[1:-1]
                value["argsrepr"] = "(%s)" % (inner + "," if len(value["args"]) == 1 else inner)
        elif name.startswith("result ") and name[7:] not in ran and value["status"] == "FAILURE":
            # Of what never ran Stalk lists the errbacks as children; Celery before them the children of whichever task
            # happened to end the chord.
            # A chord and the chord that is its body share an id, so with result_extended either may be described.
            drop = {"children", "kwargs"} if name.startswith("result chord[") else {"children"}
            value = {k: v for k, v in value.items() if k not in drop}
        out[name] = value
    return out


def subsequence(few, many):
    rest = iter(many)
    return all(x in rest for x in few)


def repeated(want, got):
    """REPEATED: what is left to compare where a task ran more than once under one id: who ran how often."""
    if "repeated" not in want:
        return want, got
    return tuple({name: seen[name] if name == "repeated" else "there" for name in seen if name.split()[0] in ("message", "result", "repeated")}
                 for seen in (want, got))


def told(want, got):
    """Names of those of whose end Stalk tells a client or a chord, and Celery does not: they never ran."""
    found = set()
    for name, value in got.items():
        kind, _, id = name.partition(" ")
        if kind == "result" and name not in want and value["status"] == "FAILURE" and "message %s/0" % id not in got:
            found.add(id)
        elif kind == "parts":
            for _, id, state, result in (part[0] for part in value if part not in want.get(name, [])):
                if state != "SUCCESS" and ("message %s/0" % id[1:-1] not in got or result["exc_type"] == "NotRegistered"):
                    found.add(id)
    return found


def further(want, got, canvas):
    """FURTHER: what differs more than by telling somebody that a chord has failed."""
    lines, errbacks = [], labels_of(canvas, "link_error")
    for name, value in want.items():
        kind = name.split()[0]
        if kind in ("message", "result"):
            lines += differences({name: value}, {name: got[name]} if name in got else {})
        elif kind == "published" and not subsequence(value, got.get(name, [])):
            lines.append("%s: want %s in it, got %s" % (name, value, got.get(name)))
        elif kind == "parts" and not all(p in got.get(name, []) for p in value):
            lines.append("%s: want %s in it, got %s" % (name, value, got.get(name)))
    for name in sorted(set(got) - set(want)):
        if name.startswith("message ") and name.split()[1].split("@")[0].split("/")[0] not in errbacks:
            lines.append("%s: is no errback, and Celery does not send it" % name)
        elif name.startswith("result ") and "message %s/0" % name[7:] not in got and got[name]["status"] != "FAILURE":
            lines.append("%s: want FAILURE or nothing, got %s" % (name, got[name]))
    return lines


def hopeless(canvas):
    """HOPELESS: whether somebody may wait for ever on Stalk as well: for what is ignored, and for what is to follow a task
    that expired or a chord's body of no tasks."""
    for node in nodes(canvas):
        if "body" in node and not any("label" in inner for inner in nodes(node["body"])):
            return True
        options = node.get("options", {})
        if "expires" in options or options.get("ignore_result"):
            return True
    return False


class Known:
    """A canvas, and the states that each leaves of the tasks with these labels; PENDING: no result at all."""

    def __init__(self, title, canvas, celery, stalk):
        self.title, self.canvas, self.celery, self.stalk = title, canvas, celery, stalk


def task(label, name="demo.echo", **options):
    return {"kind": "task", "name": name, "args": [], "kwargs": {}, "immutable": False, "options": options, "label": label}


def chord(members, body):
    return {"kind": "chord", "members": members, "body": body}


def chain(*members):
    return {"kind": "chain", "members": list(members)}


def group(*members):
    return {"kind": "group", "members": list(members)}


def failing():
    return task("bad", "demo.fail")


def late():
    return task("late", expires="2020-01-01T00:00:00+00:00")


def unknown():
    return task("unknown", "demo.nobody")


S, F, R, P = "SUCCESS", "FAILURE", "REVOKED", "PENDING"

CASES = [
    # Stalk goes further.
    Known("a chord in a header whose own header fails",
          chord([chord([failing(), task("good")], task("inner")), task("other")], task("outer")),
          {"bad": F, "good": S, "inner": F, "other": S, "outer": P}, {"bad": F, "good": S, "inner": F, "other": S, "outer": F}),
    Known("a chord as the body of one that fails", chord([failing()], chord([task("part")], task("last"))),
          {"bad": F, "part": P, "last": P}, {"bad": F, "part": P, "last": F}),
    Known("a name in a header that the worker does not know", chord([unknown(), task("good")], task("body")),
          {"unknown": F, "good": S, "body": P}, {"unknown": F, "good": S, "body": F}),
    Known("a chain that fails before its last group", chain(failing(), group(task("one"), task("two"))),
          {"bad": F, "one": P, "two": P}, {"bad": F, "one": F, "two": F}),
    Known("a chain that fails before a chord with a group as its body",
          chain(failing(), chord([task("part")], group(task("one"), task("two")))),
          {"bad": F, "part": P, "one": P, "two": P}, {"bad": F, "part": P, "one": F, "two": F}),
    # Celery calls the chain with the exception itself as an argument, which no message can carry.
    Known("a chain as errback", {**failing(), "link_error": [chain(task("first"), task("second"))]},
          {"bad": F, "first": P, "second": P}, {"bad": F, "first": S, "second": S}),
    Known("a step of a chain that the worker does not know", chain(task("good"), unknown(), task("next")),
          {"good": S, "unknown": F, "next": P}, {"good": S, "unknown": F, "next": F}),
    Known("a chain in a header with a step that expires", chord([chain(late(), task("next")), task("good")], task("body")),
          {"late": R, "next": P, "good": S, "body": P}, {"late": R, "next": P, "good": S, "body": F}),
    # Neither tells anybody.
    Known("a step of a chain that expires", chain(late(), task("next")), {"late": R, "next": P}, {"late": R, "next": P}),
]
