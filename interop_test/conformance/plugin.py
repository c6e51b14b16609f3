"""Lets Celery's t/integration run against a worker in another process, unchanged; scripts/conformance.py loads it.

STALK_CMD      the worker: a shell command that sees NODE, TEST_BROKER and TEST_BACKEND
STALK_SHARD    a JSON list of what to run: files and tests, without parameters
STALK_RESULTS  the file for `item<TAB>outcome<TAB>seconds` lines
"""
import json
import os
import subprocess
import time
from contextlib import contextmanager

import celery.contrib.testing.worker as testing
import pytest
from celery.result import _set_task_join_will_block
from celery.utils.nodenames import anon_nodename

embedded, item = testing.start_worker, {}


@contextmanager
def start_worker(app, pool='solo', **kwargs):
    if pool != 'prefork':  # not the session worker
        with embedded(app, pool=pool, **kwargs) as worker:
            yield worker
        return
    app.finalize()
    name = anon_nodename()
    worker = subprocess.Popen(['/bin/sh', '-c', 'exec ' + os.environ['STALK_CMD']], env={**os.environ, 'NODE': name},
                              stdout=(log := open(os.environ['STALK_RESULTS'].replace('.tsv', '.worker.log'), 'a')), stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not app.control.ping(destination=[name], timeout=0.5):
            assert worker.poll() is None, f'the worker ended with {worker.returncode}'
            assert time.monotonic() < deadline, 'the worker does not answer ping'
        yield worker
        assert worker.poll() is None, f'the worker ended with {worker.returncode} during the tests'
    finally:
        worker.terminate()
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def pytest_configure():
    testing.start_worker = start_worker


def pytest_collection_modifyitems(config, items):
    shard = set(json.loads(os.environ['STALK_SHARD']))
    mine = [i for i in items if {i.nodeid.split('[')[0], i.nodeid.split('::')[0]} & shard]
    config.hook.pytest_deselected(items=[i for i in items if i not in mine])
    items[:] = mine


def pytest_runtest_setup():
    _set_task_join_will_block(False)  # what the embedded worker does once


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    if report.when == 'setup':  # also of a rerun, which forgets the run before
        item.update(outcome='passed', began=report.start)
    if report.failed and not str(report.longrepr).startswith('[XPASS(strict)]'):
        item['outcome'] = 'failed'
    elif report.skipped and item['outcome'] == 'passed':
        item['outcome'] = 'xfailed' if hasattr(report, 'wasxfail') else 'skipped'
    item['rerun'] = report.outcome == 'rerun' or (report.when != 'setup' and item.get('rerun', False))
    if report.when == 'teardown' and not item['rerun']:
        with open(os.environ['STALK_RESULTS'], 'a') as f:
            f.write(f"{report.nodeid}\t{item['outcome']}\t{report.stop - item['began']:.1f}\n")
