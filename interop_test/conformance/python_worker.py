"""The worker that the harness itself is checked with: Celery's own, with the settings of the suite's session app.

make conformance CMD='celery -A python_worker worker -P prefork -c 1 -n "$NODE" --without-mingle --without-gossip --without-heartbeat'
"""
import os

from celery.contrib.testing.app import TestApp

app = TestApp(set_as_current=True, enable_logging=True, config={
    'broker_url': os.environ['TEST_BROKER'],
    'result_backend': os.environ['TEST_BACKEND'],
    'result_extended': True,
    'task_create_missing_queues': False,
    'imports': ['t.integration.tasks', 'celery.contrib.testing.tasks'],
})
