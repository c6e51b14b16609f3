"""Records what the demo tasks mean: handlers/demo/testdata/demo.json.

    python3.11 pyfixtures/demo.py > handlers/demo/testdata/demo.json

Each task of `stalk worker --demo` is the Python function here; each call is made, and its value or exception is
written down, one call a line. Only the standard library is needed; json writes NaN and Infinity as Celery does.
"""

import builtins
import itertools
import json
import platform
import sys
import time
from datetime import datetime, timedelta


def add(x, y=1):
    return x + y


def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


def sleep(seconds=1):
    time.sleep(seconds)
    return seconds


def burn(seconds=1):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def fail(message="boom", exc_type="ValueError"):
    raise getattr(builtins, exc_type)(message)


def retry(times=1, countdown=0, *, retries=0):
    """retries is request.retries; what would be published is returned as {"countdown": ...}."""
    if retries < times:
        datetime.now() + timedelta(seconds=countdown)
        return {"countdown": max(0, countdown)}
    return retries


def progress(steps=5, seconds=0.1):
    for i in range(steps):
        time.sleep(seconds)
    return steps


BIG = 10 ** 30
ADDENDS = [0, 1, -7, 2 ** 53 + 1, 2 ** 63 - 1, -2 ** 63, BIG, -BIG, 2 ** 1024 - 2 ** 970, 2 ** 1024 - 2 ** 970 - 1,
           -2 ** 1024, 0.0, -0.0, 0.1, 0.2, 3.0, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"),
           True, False, "", "a", "\u00e9\U0001f600", [], [1, "b"], {}, {"k": 1}, None]
WRONG = ["a", None, [], {}, -1, -0.5, float("nan"), float("inf"), float("-inf"), 1e30, BIG, -BIG, 0, 0.0, 0.01, False, 0.002]
# EncodingWarning is new in 3.10: a caller on an older Python has no such class.
CLASSES = sorted(n for n, c in vars(builtins).items()
                 if isinstance(c, type) and issubclass(c, Exception) and n != "EncodingWarning")

CALLS = [
    *((add, [x, y], {}) for x, y in itertools.product(ADDENDS, ADDENDS)),
    (add, [2], {}), (add, [], {"y": 2, "x": 3}), (add, [], {}), (add, [1, 2, 3], {}),
    (echo, [], {}), (echo, [1, 2.0, None, [BIG], {"a": "\u00e9"}], {"k": True, "args": 1, "z": {}}),
    *((sleep, [v], {}) for v in WRONG),
    *((burn, [v], {}) for v in WRONG if v not in (float("inf"), 1e30, BIG)),
    (fail, [], {}), (fail, ["x"], {}), (fail, [], {"exc_type": "KeyError"}), (fail, [BIG, "TypeError"], {}),
    (fail, [None], {}), (fail, [["a", 1]], {}),
    *((fail, ["m", n], {}) for n in CLASSES),
    (fail, ["x", "ValueError", 3], {}),
    *((retry, [times], {"retries": n}) for times in (0, 1, 2, 2.5, BIG, -BIG, True, float("inf"), float("nan"), "a", None) for n in (0, 1, 2, 3)),
    *((retry, [1, c], {}) for c in (0, 2, 2.5, True, -3, "a", None, float("nan"))),
    *((progress, [v, 0], {}) for v in (0, 1, 3, -2, True, 2.0, "a", None, -BIG)),
    *((progress, [1, v], {}) for v in ("a", -1, float("nan"), 0.0)),
]


def main():
    lines = []
    for function, args, kwargs in CALLS:
        case = {"task": "demo." + function.__name__, "args": args, "kwargs": kwargs}
        try:
            case["value"] = function(*args, **kwargs)
        except Exception as exc:
            case["exc_type"], case["exc_message"] = type(exc).__qualname__, list(exc.args)
        lines.append(json.dumps(case))
    sys.stdout.write('{"python": %s,\n "cases": [\n%s\n]}\n' % (json.dumps(platform.python_version()), ",\n".join(lines)))


main()
