"""Runs Celery's t/integration against a worker in another process and compares it with what is expected.

scripts/conformance.sh starts it, with servers: CELERY_REDIS_URL and CELERY_AMQP_URL hold one address for each
part of the run. Parts run side by side, because almost all of the suite is waiting; each is one pytest with
one worker. Exit code 0: as expected, but for what pending.txt names. Every process it starts ends before it does.
"""
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

SHARDS = 6
ALONE = ['test_redis_backend.py', 'test_worker.py', 'test_security.py']  # want a process of their own
MOST = 20 * 60  # seconds for one part
FEW = 12  # items that may be run again
root = pathlib.Path(__file__).resolve().parent.parent
here = root / 'interop_test/conformance'
build = root / '.build/conformance'
suite = build / 'celery-5.7.0'


def expected(broker):
    lines = (here / f'expected-{broker}.tsv').read_text().splitlines()
    return dict(line.split('\t')[:2] for line in lines)


def pending(broker):
    """Items not passed yet, each with its reason: `item<TAB>reason`, `redis:item` or `amqp:item` for one broker."""
    found = {}
    for line in (here / 'pending.txt').read_text().splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        item, reason = line.split('\t', 1)
        assert reason.strip(), f'pending.txt: {item} has no reason'
        for b in ('redis', 'amqp'):
            if item.startswith(b + ':'):
                item, only = item[len(b) + 1:], b
                break
        else:
            only = broker
        if only == broker:
            found[item] = reason
    return found


def parts(items):
    """The items as one list of tests or files for each pytest, of about the same length in time."""
    weight = collections.Counter()
    for line in (here / 'slow.tsv').read_text().splitlines():
        test, seconds = line.split('\t')
        weight[test] = float(seconds)
    tests = collections.Counter(i.split('[')[0] for i in items)
    cost = {t: weight[t] or 0.7 * n for t, n in tests.items() if not t.split('::')[0].endswith(tuple(ALONE))}
    shards = [[] for _ in range(SHARDS)]
    took = [0.0] * SHARDS
    for test in sorted(cost, key=lambda t: (-cost[t], t)):
        least = took.index(min(took))
        shards[least].append(test)
        took[least] += cost[test]
    return shards + [[f't/integration/{f}'] for f in ALONE]


def start(broker, number, tests, command, out):
    redis = os.environ['CELERY_REDIS_URL'].split()[number]
    url = redis + '/0' if broker == 'redis' else os.environ['CELERY_AMQP_URL'].split()[number]
    host, port = redis.removeprefix('redis://').split(':')
    env = {
        **os.environ, 'TEST_BROKER': url, 'TEST_BACKEND': redis + '/0', 'REDIS_HOST': host, 'REDIS_PORT': port,
        'STALK_CMD': command, 'STALK_SHARD': json.dumps(tests), 'STALK_RESULTS': str(out / f'{number}.tsv'),
        'PATH': f'{build}/venv/bin:' + os.environ['PATH'], 'PYTHONPATH': f'{here}:{suite}', 'PYTHONDONTWRITEBYTECODE': '1',
        'PYTHONUNBUFFERED': '1', 'STALK_ROOT': str(root),
    }
    files = sorted({t.split('::')[0] for t in tests})
    with open(out / f'{number}.log', 'w') as log:
        return subprocess.Popen(
            [build / 'venv/bin/python', '-m', 'pytest', '-p', 'celery.contrib.pytest', '-p', 'plugin', '-v', '--timeout', '300',
             '-p', 'no:cacheprovider', '-o', 'faulthandler_timeout=0', *os.environ.get('PYTEST_FLAGS', '').split(), *files],
            cwd=suite, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def end(process):
    """Ends a pytest with all it started: its group."""
    for sig, grace in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            break
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass


def execute(broker, command, items, out):
    """Runs the items, side by side in parts, and returns their outcomes and the parts' exit codes."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob('*.*'):
        old.unlink()
    chosen = {i.split('[')[0] for i in items}
    todo = [(n, [t for t in tests if t in chosen or any(c.startswith(t + '::') for c in chosen)]) for n, tests in enumerate(parts(items))]
    todo = [(n, t) for n, t in todo if t]
    running, codes = {}, {}
    try:
        while todo or running:
            while todo and len(running) < SHARDS:
                number, tests = todo.pop(0)
                running[number] = start(broker, number, tests, command, out), time.monotonic()
            for number, (process, since) in list(running.items()):
                if process.poll() is None and time.monotonic() - since < MOST:
                    continue
                codes[number] = process.poll()
                end(process)
                del running[number]
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            end(process)
    got = {}
    for part in out.glob('*.tsv'):
        for line in part.read_text().splitlines():
            item, outcome, _ = line.split('\t')
            got[item] = outcome
    return got, codes


def run(broker, command, only):
    want = expected(broker)
    items = [i for i in want if any(o in i for o in only)] if only else list(want)
    began, out = time.monotonic(), build / f'last-{broker}'
    got, codes = execute(broker, command, items, out)
    # The suite waits for many things by the clock. A few items that failed get a second chance, and the report
    # says which they were. Those that want a chord's own exception from the body's get() race every fast worker:
    # Celery's client looks at the parents, subscribes, and reads the body's record; when the header's failure and
    # the body's ChordError are both stored between that look and that read, it never looks at the parents again
    # (drain_events_until does nothing once the result is there) and raises the ChordError. A worker could only
    # lose the race on purpose, by telling the body later than the client takes.
    again = [i for i in items if got.get(i, 'not run') != want[i] and got.get(i) != 'passed' and i not in pending(broker)]
    if 0 < len(again) <= FEW:
        second, _ = execute(broker, command, again, out / 'again')
        for item in again:
            if second.get(item) == want[item]:
                print(f'conformance: {broker}: {item}: {got.get(item, "not run")} at first, {second[item]} when run again')
                got[item] = second[item]
    return report(broker, {i: want[i] for i in items}, got, codes, time.monotonic() - began, out)


def report(broker, want, got, codes, took, out):
    every, excused, wrong = expected(broker), pending(broker), []
    better = [i for i, outcome in want.items() if got.get(i) == 'passed' and outcome in ('failed', 'xfailed')]
    for item, outcome in want.items():
        is_ = got.get(item, 'not run')
        if is_ == outcome or item in better:
            if item in excused:
                wrong.append(f'{item}: as expected, but listed in pending.txt')
        elif item not in excused:
            wrong.append(f'{item}: {is_}, want {outcome}')
    wrong += [f'{item}: {outcome}, not in the expected list' for item, outcome in got.items() if item not in every]
    for number, code in codes.items():
        if code not in (0, 1):  # 1: some tests failed, which the items say
            wrong.append(f'part {number}: pytest ended with {code}; see {out.relative_to(root)}/{number}.log')
        elif 'during the tests' in (out / f'{number}.log').read_text():
            wrong.append(f'part {number}: the worker died; see {out.relative_to(root)}/{number}.log')
    print(f'conformance: {broker}: ' + ', '.join(f'{n} {o}' for o, n in sorted(collections.Counter(got.values()).items()))
          + f' of {len(want)} in {took:.0f} s; expected {sum(o == "passed" for o in want.values())} passed, '
          f'{sum(i in want and want[i] != got.get(i, "not run") for i in excused)} pending')
    for item in better:
        print(f'  {item}: passed, although no external Python worker does')
    for line in wrong:
        print('  ' + line)
    return not wrong


def main():
    brokers = (os.environ.get('BROKER') or 'redis amqp').split()
    command = os.environ['STALK_CMD']
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    return 0 if all([run(b, command, os.environ.get('ONLY', '').split()) for b in brokers]) else 1


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
