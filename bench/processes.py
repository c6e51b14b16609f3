"""Worker processes of either kind, and what they use of the machine."""
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STALK = ROOT / "bin" / "stalk"
TICK = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """A process and all below it."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                todo += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
        except OSError:
            pass
    return found


def cpu(pids):
    """Seconds of user and system time, to 10 ms."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:13]))
    return total / TICK


def fine_cpu(pids):
    """Seconds on a CPU, exact, and how often a thread gave one up: of the threads that live."""
    seconds = switches = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                base = Path(f"/proc/{pid}/task/{thread}")
                seconds += int((base / "schedstat").read_text().split()[0]) / 1e9
                for line in (base / "status").read_text().splitlines():
                    if "ctxt_switches" in line:
                        switches += int(line.split()[1])
        except OSError:
            pass
    return seconds, switches


def memory(pids):
    """Megabytes, resident (VmRSS, which counts a page once in each process that has it) and proportional (PSS)."""
    rss = pss = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                if line.startswith("Pss:"):
                    pss += int(line.split()[1])
        except OSError:
            pass
    return rss / 1024, pss / 1024


class Worker:
    """One worker process of either kind, and its children."""

    def __init__(self, kind, broker, backend, queue, folder, slots=2, options=(), images=False):
        self.kind, self.queue = kind, queue
        if kind == "stalk":
            argv = [STALK, "-b", broker, "--result-backend", backend, "worker", "--demo"] + (["--media-root", folder] if images else [])
        else:
            argv = [sys.executable, "-m", "celery", "-A", "app", "worker", "-P", "prefork", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        argv += ["-Q", queue, "-c", str(slots), "-l", "WARNING", "-n", f"{kind}-{uuid.uuid4().hex[:8]}@bench", *options]
        argv = [str(a) for a in argv]
        env = os.environ | {"BENCH_BROKER": broker, "BENCH_BACKEND": backend, "BENCH_MEDIA": str(folder), "C_FORCE_ROOT": "1"}
        self.log = open(Path(folder) / f"{kind}.log", "ab")
        self.began = time.perf_counter()
        self.process = subprocess.Popen(argv, cwd=ROOT / "bench", env=env, stdout=self.log, stderr=self.log, start_new_session=True)

    def pids(self):
        if self.process.poll() is not None:
            raise SystemExit(f"bench: the {self.kind} worker has ended with code {self.process.returncode}:\n" + Path(self.log.name).read_text()[-3000:])
        return tree(self.process.pid)

    def freeze(self):
        """Stops it from running at all, so that it takes nothing and disturbs nobody."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in reversed(self.pids()):
            os.kill(pid, signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.thaw()
        except (SystemExit, OSError):
            pass
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in tree(self.process.pid):
                os.kill(pid, 9)
            self.process.wait()
        self.log.close()
