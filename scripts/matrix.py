"""Runs the tests on other versions of the brokers, one after the other, and prints what was run on what.

  scripts/matrix.py [VERSIONS...]      rabbitmq-4.0+redis-8 are tried in one run; see scripts/brokers.sh for the names
  PARTS="drivers interop soak conformance"     which; all
  TASKS=3000 KILLS=30                  a smaller soak
  TEST_FLAGS="-run TestX"              more flags of go test, for drivers and interop

Versions are what the running servers say. The exit code is 1 when anything failed. Output is in .build/matrix.
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

root = pathlib.Path(__file__).resolve().parent.parent
out = root / '.build/matrix'
DEFAULT = ['rabbitmq-4.0+redis-8', 'rabbitmq-4.3+valkey-9', 'valkey-8']
PARTS = ['drivers', 'interop', 'soak', 'conformance']
DRIVERS = ['./transports/...', './resultbackend/...', './internal/redisopt', './internal/testservers/...', './client']


def command(part, names):
    flags = shlex.split(os.environ.get('TEST_FLAGS', ''))
    test = ['.build/testservers', '--', os.environ.get('GO', 'go'), 'test', '-json', '-count=1', '-timeout', '40m', *flags]
    if part == 'drivers':
        return [*test, '-p', '2', *DRIVERS]
    if part == 'interop':
        return [*test, '-parallel', '4', './interop_test']
    # The brokers are what differs: the other one has had its run with the defaults.
    brokers = [b for b, kinds in (('redis', ('redis', 'valkey')), ('amqp', ('rabbitmq',)), ('rpc', ('rabbitmq',))) if any(n.startswith(kinds) for n in names)]
    if part == 'soak':
        return ['make', '-s', 'soak', 'BROKER=' + ' '.join(brokers), *(f'{v}={os.environ[v]}' for v in ('TASKS', 'KILLS') if os.environ.get(v))]
    return ['make', '-s', 'conformance', 'BROKER=' + ' '.join(b for b in brokers if b != 'rpc')]


def counts(part, text):
    """(passed, failed, skipped, names of what failed) as the output tells."""
    if part in ('drivers', 'interop'):
        ended = {}
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get('Action') in ('pass', 'fail', 'skip') and event.get('Test'):
                ended[event['Package'].rsplit('/', 1)[-1] + ' ' + event['Test']] = event['Action']
        # A test with parts is told by them.
        inner = [n for n in ended if not any(m.startswith(n + '/') for m in ended)]
        failed = sorted(n for n in inner if ended[n] == 'fail')
        return sum(ended[n] == 'pass' for n in inner), len(failed), sum(ended[n] == 'skip' for n in inner), failed
    if part == 'soak':
        ended = re.findall(r'^ +--- (PASS|FAIL): (\S+)', text, re.M)
        failed = [name for outcome, name in ended if outcome == 'FAIL']
        return len(ended) - len(failed), len(failed), 0, failed
    passed = sum(int(n) for n in re.findall(r'conformance: \w+: .*?(\d+) passed', text))
    failed = [line.strip() for line in text.splitlines() if line.startswith('  ') and not line.endswith('no external Python worker does')]
    return passed, len(failed), 0, failed


def main():
    names = sys.argv[1:] or DEFAULT
    parts = (os.environ.get('PARTS') or ' '.join(PARTS)).split()
    for p in parts:
        if p not in PARTS:
            sys.exit(f'matrix: "{p}" is none of {", ".join(PARTS)}')
    out.mkdir(parents=True, exist_ok=True)
    rows, bad = [], False
    for name in names:
        versions = name.split('+')
        chosen = subprocess.run(['scripts/brokers.sh', *versions], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
        env = {**os.environ, **dict(line.split('=', 1) for line in chosen.splitlines()), 'INTEROP': 'required'}
        for part in parts:
            print(f'matrix: {name}: {part}', file=sys.stderr, flush=True)
            began, log = time.monotonic(), out / f'{name}-{part}.log'
            with open(log, 'w') as f:
                code = subprocess.run(command(part, versions), cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT).returncode
            text = log.read_text(errors='replace')
            running = re.search(r'^testservers: ((?:RabbitMQ|Redis|Valkey) .*)$', text, re.M)
            passed, failed, skipped, which = counts(part, text)
            rows.append((running[1] if running else name, part, 'passed' if code == 0 else 'FAILED', passed, failed, skipped, f'{time.monotonic() - began:.0f} s'))
            bad |= code != 0
            if code != 0:
                print(f'matrix: {name}: {part} ended with {code}; see {log.relative_to(root)}', *which[:50], sep='\n  ', file=sys.stderr, flush=True)
    head = ('running', 'part', 'outcome', 'passed', 'failed', 'skipped', 'took')
    width = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print('  '.join(str(v).ljust(w) for v, w in zip(row, width)).rstrip())
    return 1 if bad else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
