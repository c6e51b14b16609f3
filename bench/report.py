"""What a benchmark has found, as text, as a picture, and in the documents."""
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from xml.sax.saxutils import escape

import thumbnails
from processes import ROOT

LATEST = ROOT / "bench" / "latest.json"
PICTURE = ROOT / "bench" / "ratios.svg"
DOCUMENTS = ("README.md", "docs/performance.md")


def shell(*argv):
    try:
        return subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def heading():
    """When, where and what of."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    package = lambda name: metadata.version(name)
    server = lambda variable: os.environ.get(variable, "").rpartition(" ")[2]
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpu": model.group(1) if model else platform.machine(), "cpus": len(os.sched_getaffinity(0)),
                    "memory_gb": round(int(memory.group(1)) / 2**20, 1) if memory else None, "kernel": platform.release(), "load_before": os.getloadavg()[0]},
        "versions": {"Stalk": shell("git", "describe", "--always", "--dirty"), "Go": shell("go", "env", "GOVERSION").removeprefix("go"),
                     "Celery": package("celery"), "Kombu": package("kombu"), "redis-py": package("redis"), "Pillow": package("pillow"), "Python": platform.python_version(),
                     "Redis": server("STALK_REDIS_VERSION"), "RabbitMQ": server("STALK_AMQP_VERSION")},
    }


class Row:
    """One line of the table: a figure of Stalk, Celery and, where there is one, the limit."""

    def __init__(self, name, unit, form, pick, less=False, goal=None):
        self.name, self.unit, self.form, self.pick, self.less, self.goal = name, unit, form, pick, less, goal

    def of(self, out, kind):
        try:
            return self.pick(out["setups"], kind)
        except KeyError:
            return None

    def ratio(self, out, kind="stalk"):
        ours, theirs = self.of(out, kind), self.of(out, "celery")
        if not ours or not theirs:
            return None
        return theirs / ours if self.less else ours / theirs

    def show(self, value):
        return "-" if value is None else format(value, self.form)


def both_cpu(figures):
    return figures["cpu_s_per_1000"] + figures["server_cpu_s_per_1000"]


# goal: what was aimed at, as a ratio to Celery 5.7, must and excellent.
ROWS = [
    Row("Redis broker + Redis results", "tasks/s", ",.0f", lambda s, k: s["redis"][k]["tasks_per_s"], goal=(20, 35)),
    Row("the same: CPU per 1,000 tasks, worker + Redis", "s", ".3f", lambda s, k: both_cpu(s["redis"][k]), less=True, goal=(28, 40)),
    Row("the same with task events", "tasks/s", ",.0f", lambda s, k: s["redis"][k]["events"]["tasks_per_s"]),
    Row("one task in flight, Redis", "tasks/s", ",.0f", lambda s, k: s["redis"][k]["one_in_flight_per_s"]),
    Row("RabbitMQ + rpc", "tasks/s", ",.0f", lambda s, k: s["rpc"][k]["tasks_per_s"], goal=(5, 6)),
    Row("the same with task events", "tasks/s", ",.0f", lambda s, k: s["rpc"][k]["events"]["tasks_per_s"]),
    Row("RabbitMQ + Redis results", "tasks/s", ",.0f", lambda s, k: s["amqp_redis"][k]["tasks_per_s"], goal=(6, 7)),
    Row("RabbitMQ, results ignored", "tasks/s", ",.0f", lambda s, k: s["ignored"][k]["tasks_per_s"], goal=(2.7, 3.2)),
    Row("delay() to get(), idle worker, Redis, median", "ms", ".2f", lambda s, k: s["redis"][k]["latency_p50_ms"], less=True),
    Row("the same, 99 of 100 within", "ms", ".2f", lambda s, k: s["redis"][k]["latency_p99_ms"], less=True),
    Row("delay() to get(), idle worker, RabbitMQ + rpc, median", "ms", ".2f", lambda s, k: s["rpc"][k]["latency_p50_ms"], less=True),
    Row("start of the process to the first task done, Redis", "s", ".2f", lambda s, k: s["redis"][k]["start_s"], less=True, goal=(9, 18)),
    Row("the same, RabbitMQ + rpc", "s", ".2f", lambda s, k: s["rpc"][k]["start_s"], less=True, goal=(9, 18)),
    Row("memory (RSS), idle", "MB", ".0f", lambda s, k: s["redis"][k]["idle_rss_mb"], less=True, goal=(7.8, 10.4)),
    Row("memory (RSS), busy, Redis", "MB", ".0f", lambda s, k: s["redis"][k]["busy_rss_mb"], less=True, goal=(4.5, 6.3)),
    Row("memory (PSS), idle", "MB", ".0f", lambda s, k: s["redis"][k]["idle_pss_mb"], less=True),
    Row("memory (PSS), busy, Redis", "MB", ".0f", lambda s, k: s["redis"][k]["busy_pss_mb"], less=True),
    Row("CPU of an idle worker, Redis", "%", ".2f", lambda s, k: s["redis"][k]["idle_cpu_percent"], less=True),
    Row("CPU of an idle worker, RabbitMQ", "%", ".2f", lambda s, k: s["amqp_redis"][k]["idle_cpu_percent"], less=True),
]

# The rows of the picture, under shorter names.
BARS = [("Redis, tasks/s", 0), ("Redis, CPU per task", 1), ("Redis, one in flight", 3), ("RabbitMQ + rpc, tasks/s", 4), ("RabbitMQ + Redis, tasks/s", 6),
        ("RabbitMQ, results ignored", 7), ("latency, Redis", 8), ("start to first task", 11), ("memory, idle (PSS)", 15), ("memory, busy (PSS)", 16)]


def times(ratio):
    return "-" if ratio is None else f"x{ratio:.2g}" if ratio < 10 else f"x{ratio:.0f}"


def origin(out):
    m, v = out["machine"], out["versions"]
    return (f"{out['when'][:10]}, {m['cpu']}, {m['cpus']} CPUs for worker, broker and client together, {m['memory_gb']} GB, Linux {m['kernel']}; "
            + ", ".join(f"{name} {version}" for name, version in v.items() if version))


def text(out):
    lines = ["", origin(out), f"two slots each, median of {out['rounds']} alternating runs; took {out['took_s']} s, load before {out['machine']['load_before']:.1f}", "",
             f"{'':56}{'':9}{'Stalk':>9}{'Celery':>9}{'ratio':>8}{'goal':>10}{'limit':>9}{'of it':>7}"]
    for row in ROWS:
        s, c, limit = (row.of(out, kind) for kind in ("stalk", "celery", "limit"))
        if s is None and c is None:
            continue
        near = "" if not limit or not s else f"{(limit / s if row.less else s / limit):.0%}"
        goal = f"{row.goal[0]:g}/{row.goal[1]:g}" if row.goal else ""
        lines.append(f"{row.name:56}{row.unit:9}{row.show(s):>9}{row.show(c):>9}{times(row.ratio(out)):>8}{goal:>10}{row.show(limit):>9}{near:>7}")
    lines.append(f"\n{'CPU s per 1,000 tasks: worker, broker and store':56}{'':9}{'Stalk':>16}{'Celery':>16}{'limit':>16}")
    for found in out["setups"].values():
        cells = []
        for kind in ("stalk", "celery", "limit"):
            f = found.get(kind, {})
            cells.append(f"{f['cpu_s_per_1000']:.3f} + {f['server_cpu_s_per_1000']:.3f}" if "cpu_s_per_1000" in f else "-")
        if any(c != "-" for c in cells):
            lines.append(f"{found['name']:65}" + "".join(f"{c:>16}" for c in cells))
    if t := out.get("thumbnail"):
        lines.append("\nThumbnail of a 12-megapixel JPEG to 256x192, one slot, delay() to get():")
        lines += ["  " + line for line in thumbnail_lines(out)]
    if found := out.get("thumbnails"):
        lines += ["", thumbnails.table(found, out["versions"]["Pillow"]), "", thumbnails.summary(found)]
    return "\n".join(lines) + "\n"


def thumbnail_lines(out):
    t, pillow = out["thumbnail"], "Celery + Pillow " + out["versions"]["Pillow"]
    for key, label in [("stalk", "Stalk"), ("pillow_draft", f"{pillow} with draft"), ("pillow", f"{pillow} without draft")]:
        factor = "" if key == "stalk" else f"   Stalk is x{t[key]['ms'] / t['stalk']['ms']:.2f} as fast, x{t[key]['cpu_ms'] / t['stalk']['cpu_ms']:.2f} on CPU"
        yield f"{label:38}{t[key]['ms']:8.0f} ms{t[key]['cpu_ms']:8.0f} ms CPU{factor}"


def markdown(out, short):
    """The table for a document."""
    here = "bench/ratios.svg" if short else "../bench/ratios.svg"
    lines = [f"![Stalk as a multiple of Celery]({here})", "", "| | Stalk | Celery | ratio | limit |", "|---|---:|---:|---:|---:|"]
    for i, row in enumerate(ROWS):
        s, c, limit = (row.of(out, kind) for kind in ("stalk", "celery", "limit"))
        if s is None or short and i not in [number for _, number in BARS]:
            continue
        lines.append(f"| {row.name} | {row.show(s)} {row.unit} | {row.show(c)} | {times(row.ratio(out))} | {row.show(limit) if limit else ''} |")
    if not short and "thumbnail" in out:
        t = out["thumbnail"]
        for key, label in [("pillow_draft", "with draft"), ("pillow", "without draft")]:
            lines.append(f"| thumbnail of 12 megapixels, one slot, beside Pillow {out['versions']['Pillow']} {label} | {t['stalk']['ms']:.0f} ms | {t[key]['ms']:.0f} | x{t[key]['ms'] / t['stalk']['ms']:.2g} | |")
    return "\n".join(lines) + "\n\n" + origin(out) + ".\n"


def pictures(out):
    """The table of thumbnails, file to file."""
    if "thumbnails" not in out:
        return "The next full run writes them.\n"
    found = out["thumbnails"]
    return f"{thumbnails.table(found, out['versions']['Pillow'])}\n\n{thumbnails.summary(found)}\n\n{origin(out)}.\n"


def picture(out):
    """An SVG of the ratios, bars from Celery's 1, on a logarithmic scale; a line marks the limit."""
    bars = [(name, ROWS[i].ratio(out), ROWS[i].ratio(out, "limit")) for name, i in BARS]
    bars = [b for b in bars if b[1]]
    left, width, top, step = 190, 470, 46, 27
    least = min([1.0] + [r for _, r, _ in bars])
    most = max([2.0] + [v for _, r, l in bars for v in (r, l or 1)])
    low = 0.5 if least < 1 else 1.0
    low = min(low, 10 ** math.floor(math.log10(least)) if least < 0.5 else low)
    x = lambda v: left + width * (math.log(v) - math.log(low)) / (math.log(most * 1.05) - math.log(low))
    bottom = top + step * len(bars)
    out_of = origin(out)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {bottom + 50}" width="760" height="{bottom + 50}" role="img" aria-label="Stalk as a multiple of Celery">',
           "<style>text{font:13px system-ui,sans-serif;fill:#1f2328}.s{font-size:11px;fill:#59636e}.g{stroke:#d1d9e0}.one{stroke:#59636e;stroke-width:1.5}"
           ".b{fill:#2da44e}.w{fill:#cf222e}.l{stroke:#9a6700;stroke-width:2}.n{font-weight:600}"
           "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.s{fill:#9198a1}.g{stroke:#3d444d}.one{stroke:#9198a1}.b{fill:#3fb950}.w{fill:#f85149}.l{stroke:#d29922}}</style>",
           f'<text x="{left}" y="16" class="n">Stalk as a multiple of a Celery prefork worker, two slots each</text>',
           f'<text x="{left}" y="32" class="s">larger is better for Stalk; logarithmic; the upright mark is a program that is no worker, the limit</text>']
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if low <= tick <= most * 1.05:
            svg.append(f'<line class="{"one" if tick == 1 else "g"}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{bottom}"/>')
            svg.append(f'<text class="s" x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    for i, (name, ratio, limit) in enumerate(bars):
        y = top + i * step
        begin, end = sorted((x(1), x(ratio)))
        svg.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        svg.append(f'<rect class="{"b" if ratio >= 1 else "w"}" x="{begin:.1f}" y="{y}" width="{max(end - begin, 1):.1f}" height="17" rx="2"/>')
        if limit:
            svg.append(f'<line class="l" x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="{y - 2}" y2="{y + 19}"/>')
        after = max(end, x(limit) if limit and 0 <= x(limit) - end < 40 else end) + 6
        svg.append(f'<text class="n" x="{after:.1f}" y="{y + 13}">{ratio:.{0 if ratio >= 10 else 1}f}×</text>')
    svg.append(f'<text class="s" x="4" y="{bottom + 38}">{escape(out["when"][:10] + ", " + out["machine"]["cpu"] + ", " + str(out["machine"]["cpus"]) + " CPUs; Celery " + out["versions"]["Celery"] + ", Redis " + out["versions"]["Redis"] + ", RabbitMQ " + out["versions"]["RabbitMQ"])}</text>')
    return "\n".join(svg) + "\n</svg>\n"


REGION = re.compile(r"(<!-- bench (\w+): written by make bench -->\n).*?(<!-- /bench -->)", re.S)


def write(out, final):
    """A full run is kept, drawn and shown; any other lies in .build/."""
    if not final:
        (ROOT / ".build" / "bench-quick.json").write_text(json.dumps(out, indent=1) + "\n")
        (ROOT / ".build" / "bench-quick.svg").write_text(picture(out))
        return
    LATEST.write_text(json.dumps(out, indent=1) + "\n")
    redraw(out)


def redraw(out):
    PICTURE.write_text(picture(out))
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(REGION.sub(lambda m: m[1] + (pictures(out) if m[2] == "thumbnails" else markdown(out, m[2] == "short")) + m[3], path.read_text()))


if __name__ == "__main__":  # draws the last full run anew
    redraw(json.loads(LATEST.read_text()))
    print(text(json.loads(LATEST.read_text())), file=sys.stdout)
