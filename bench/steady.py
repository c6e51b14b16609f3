"""The soak of make strain: a modest rate of all kinds of tasks for long, on all brokers at once, and what grows meanwhile.

Every ten seconds a look at the worker: memory (RSS), Go's heap, goroutines, file descriptors, sockets. A line is fitted to each over the
last two thirds; its slope says what a day would add.
"""
import os
import re
import socket
import statistics
import time
import urllib.request
from datetime import datetime, timedelta, timezone

EVERY = 10  # seconds between looks
GROWTH_MB_DAY = 200  # what an hour may extrapolate to; shorter runs are told, not judged
FIGURES = ("RSS MB", "heap MB", "goroutines", "descriptors", "sockets")

# One kind in each second, in turn. Each ends with one result.
TURNS = ["add"] * 5 + ["retry"] + ["add"] * 5 + ["fail"] + ["add"] * 4 + ["echo"] + ["add"] * 3 + ["later"] + ["add"] * 2 + ["sleep"]


def template(s, kind):
    name, args, eta = {
        "add": ("demo.add", (1, 2), None),
        "retry": ("demo.retry", (1, 0), None),
        "fail": ("demo.fail", ("no", "ValueError"), None),
        "echo": ("demo.echo", ("x" * 5000,), None),
        "sleep": ("demo.sleep", (0.02,), None),
        "later": ("demo.add", (1, 2), datetime.now(timezone.utc) + timedelta(seconds=20)),
    }[kind]
    s.template(name, args, eta=eta and eta.isoformat())


def look(pid, port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    metric = lambda name: float(re.search(rf"^{name} (\S+)", text, re.M).group(1))
    sockets = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            sockets += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
        except OSError:
            pass
    return (metric("process_resident_memory_bytes") / 2**20, metric("go_memstats_heap_objects_bytes") / 2**20,
            metric("go_goroutines"), metric("process_open_fds"), sockets)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def soak(s, minutes, rate, say, check, notes=None):
    """notes: a file for all looks."""
    port = free_port()
    s.template("demo.add", (1, 2))
    s.fresh()
    looks = []
    with s.worker("stalk", ["--http", f"127.0.0.1:{port}", "-E"]) as w:
        s.wait(lambda: listening(port), 60, "the worker's HTTP")
        began, sent, turns, looked = time.monotonic(), 0, 0, 0
        while (passed := time.monotonic() - began) < minutes * 60:
            while turns < passed:  # one that comes late sends what it owes
                template(s, TURNS[turns % len(TURNS)])
                s.fill(w.queue, rate)
                turns, sent = turns + 1, sent + rate
            if passed >= looked:
                looked += EVERY
                looks.append((passed, *look(w.process.pid, port)))
                if notes:
                    print(f"{s.setup.key} {passed:.0f} s, {sent} sent, {s.store.dbsize()} done:",
                          ", ".join(f"{x:.1f} {name}" for name, x in zip(FIGURES, looks[-1][1:])), file=notes, flush=True)
            time.sleep(0.2)
        s.wait(lambda: s.store.dbsize() >= sent, 120, f"all {sent} tasks")
        check(s.store.dbsize() == sent, f"{s.store.dbsize()} results of {sent} tasks")
    late = [row for row in looks if row[0] >= looks[-1][0] / 3]
    hours = [row[0] / 3600 for row in late]
    grown = []
    for i, name in enumerate(FIGURES, 1):
        values = [row[i] for row in late]
        slope = statistics.linear_regression(hours, values).slope if len(late) > 2 else 0.0
        grown.append((name, statistics.mean(values), slope, max(values)))
    say(f"  {s.setup.name}: {sent} tasks in {minutes:g} min. " + "; ".join(
        f"{name}: {mean:.1f} on average, {most:.1f} at most, {slope:+.2f} an hour" for name, mean, slope, most in grown)
        + f"; a day would add {grown[0][2] * 24:+.0f} MB")
    first, last = late[:max(1, len(late) // 4)], late[-max(1, len(late) // 4):]
    middle = lambda rows, i: statistics.median(row[i] for row in rows)
    # Pools of ten connections fill up once when the machine is busy.
    for i, name, slack in [(1, "memory", 5), (2, "heap", 5), (3, "goroutines", 5), (4, "file descriptors", 10), (5, "connections", 10)]:
        check(middle(last, i) <= middle(first, i) * 1.2 + slack, f"{name} grow: {middle(first, i):.1f} to {middle(last, i):.1f}")
    check(minutes < 50 or grown[0][2] * 24 < GROWTH_MB_DAY, f"memory would grow by {grown[0][2] * 24:.0f} MB a day, want less than {GROWTH_MB_DAY}")
