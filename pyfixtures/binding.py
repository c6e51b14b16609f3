"""Records how Python binds arguments: handlers/testdata/binding.json.

    python3.11 pyfixtures/binding.py > handlers/testdata/binding.json

Each signature is a real function; each call is made, and what the parameters got or what the TypeError said is
written down, one call a line. handlers/bind_test.go has a Go struct for each signature. Only the standard library
is needed. The texts are those of Python 3.11.
"""

import inspect
import itertools
import json
import platform
import sys


def none(): return locals()
def one(x): return locals()
def two(x, y): return locals()
def three(a, b, c): return locals()
def four(a, b, c, d): return locals()
def opt(x, y=1): return locals()
def opts(a=1, b=2): return locals()
def star(x, *args): return locals()
def staropt(x, y=1, *args): return locals()
def kw(x, **kwargs): return locals()
def both(*args, **kwargs): return locals()
def only(x, *, k): return locals()
def onlyopt(x, y=1, *, k=5, m): return locals()
def onlythree(*, a, b, c): return locals()
def mix(a, b=2, *args, c, d=4, **kwargs): return locals()


FUNCTIONS = [none, one, two, three, four, opt, opts, star, staropt, kw, both, only, onlyopt, onlythree, mix]


def calls(function):
    """Positional counts up to 5, keywords in every choice of up to 2 names, all names, and both orders."""
    names = [p.name for p in inspect.signature(function).parameters.values()
             if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = names + ["z"]
    choices = [c for n in range(3) for c in itertools.combinations(unknown, n)]
    choices += [tuple(reversed(c)) for c in choices if len(c) == 2]
    choices += [tuple(names), tuple(reversed(unknown)), ("z", "Did you mean")]
    if names:
        choices += [(names[0] + "x",), (names[0].upper(),)]
    for n in range(6):
        for choice in dict.fromkeys(choices):
            yield list(range(10, 10 + n)), {k: 20 + i for i, k in enumerate(choice)}


def main():
    lines = []
    for function in FUNCTIONS:
        for args, kwargs in calls(function):
            case = {"function": function.__name__, "args": args, "kwargs": kwargs}
            try:
                case["bound"] = function(*args, **kwargs)
            except TypeError as exc:
                case["error"] = str(exc)
            lines.append(json.dumps(case))
    sys.stdout.write('{"python": %s,\n "signatures": %s,\n "cases": [\n%s\n]}\n' % (
        json.dumps(platform.python_version()),
        json.dumps({f.__name__: str(inspect.signature(f)) for f in FUNCTIONS}),
        ",\n".join(lines)))


main()
