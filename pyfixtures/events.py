"""Records what the real Celery's event dispatcher writes into protocol/testdata/golden/events-<celery version>.json.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python events.py

No server is needed: messages are caught where Kombu's virtual transport would publish them. Time, process and
delivery tags are frozen, so recording twice gives the same file.

    events     each message: routing key, envelope, and the events in it
"""
import importlib.metadata as metadata
import json
import os
from unittest.mock import patch

import celery.events.dispatcher as dispatcher
import celery.events.event as event
import kombu.transport.virtual.base as virtual
from celery import Celery

OUT = os.path.join(os.path.dirname(__file__), '../protocol/testdata/golden')
ID = '76ab36e3-0000-4000-8000-000000000001'
caught = []


def publish(self, message, exchange, routing_key, **kwargs):
    self._inplace_augment_message(message, exchange, routing_key)
    message['properties']['delivery_tag'] = '00000000-0000-4000-8000-000000000001'
    caught.append({'exchange': exchange, 'routing_key': routing_key, 'envelope': json.dumps(message)})


def frozen(type, **fields):
    return event.Event(type, __now__=lambda: 1795243310.8351834, **fields)


HEART = {'freq': 2.0, 'active': 1, 'processed': 17, 'loadavg': [1.79, 1.04, 0.47],
         'sw_ident': 'py-celery', 'sw_ver': '5.7.0', 'sw_sys': 'Linux'}
CALL = {'uuid': ID, 'name': 'proj.add', 'args': '(1, 2)', 'kwargs': '{}', 'root_id': ID, 'parent_id': None,
        'retries': 0, 'eta': None, 'expires': None}
EVENTS = [
    ('online', [('worker-online', HEART)]),
    ('heartbeat', [('worker-heartbeat', HEART)]),
    ('offline', [('worker-offline', HEART)]),
    ('heartbeat by command', [('worker-heartbeat', {'freq': 5, 'sw_ident': 'py-celery', 'sw_ver': '5.7.0', 'sw_sys': 'Linux'})]),
    ('received', [('task-received', CALL)]),
    ('received later', [('task-received', dict(CALL, eta='2026-11-21T07:05:13.039403+00:00', expires='2026-11-22T07:05:13+00:00', retries=3))]),
    ('started', [('task-started', {'uuid': ID})]),
    ('succeeded', [('task-succeeded', {'uuid': ID, 'result': "'hå'", 'runtime': 0.0006718089998685173})]),
    ('failed', [('task-failed', {'uuid': ID, 'exception': "ValueError('boom')", 'traceback': 'Traceback\nValueError: boom\n'})]),
    ('unregistered', [('task-failed', {'uuid': ID, 'exception': "NotRegistered('no.such')"})]),
    ('retried', [('task-retried', {'uuid': ID, 'exception': "KeyError('again')", 'traceback': 'Traceback\n'})]),
    ('rejected', [('task-rejected', {'uuid': ID, 'requeue': False})]),
    ('terminated', [('task-revoked', {'uuid': ID, 'terminated': True, 'signum': 15, 'expired': False})]),
    ('expired', [('task-revoked', {'uuid': ID, 'terminated': False, 'signum': None, 'expired': True})]),
    ('cancelled', [('task-cancelled', {'uuid': ID})]),
    ('sent', [('task-sent', dict(CALL, queue='celery', exchange='', routing_key='celery'))]),
    ('several', [('task-received', CALL), ('task-started', {'uuid': ID})]),
]


def record():
    app = Celery(broker='memory://', set_as_current=False)
    out = []
    for name, group in EVENTS:
        caught.clear()
        with app.connection_for_write() as conn:
            d = app.events.Dispatcher(conn, hostname='w1@web1', buffer_group=['task'] if len(group) > 1 else None)
            d.pid = 18105
            for type, fields in group:
                d.send(type, utcoffset=lambda: 0.0, Event=frozen, **fields)
            d.flush()
        assert len(caught) == 1, caught
        out.append({'name': name, 'types': [t for t, _ in group], **caught[-1]})
    return {'versions': {p: metadata.version(p) for p in ('celery', 'kombu')}, 'events': out}


if __name__ == '__main__':
    with patch.object(virtual.Channel, 'basic_publish', publish), \
            patch.object(dispatcher, 'utcoffset', lambda: 0.0):
        data = record()
    with open(f"{OUT}/events-{data['versions']['celery']}.json", 'w') as f:
        json.dump(data, f, indent=1, ensure_ascii=False)
        f.write('\n')
