"""Records what the real Kombu pidbox writes into protocol/testdata/golden/control-<celery version>.json.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python control.py

No server is needed: messages are caught where Kombu's virtual transport would publish them. Clock, ids and
delivery tags are frozen, so recording twice gives the same file.

    commands   what Celery's client broadcasts
    replies    what a worker's mailbox answers to the last of them
    chosen     which node names a pattern fits, by Kombu's matchers
"""
import importlib.metadata as metadata
import json
import os
import re
from unittest.mock import patch
from uuid import UUID

import kombu.pidbox
import kombu.transport.virtual.base as virtual
from celery import Celery
from kombu.matcher import match

OUT = os.path.join(os.path.dirname(__file__), '../protocol/testdata/golden')
TICKET = '0435bc56-66e6-4b40-8af0-a93c1143ed80'
OID = '99af5a14-057b-3c96-b380-bdc26be76851'
caught = []


def publish(self, message, exchange, routing_key, **kwargs):
    self._inplace_augment_message(message, exchange, routing_key)
    message['properties']['delivery_tag'] = '00000000-0000-4000-8000-000000000001'
    caught.append({'exchange': exchange, 'routing_key': routing_key, 'envelope': json.dumps(message)})


def record():
    app = Celery(broker='memory://', set_as_current=False)
    mailbox = app.control.mailbox
    commands = []
    calls = [
        ('ping', 'ping', {}, {}),
        ('one node', 'ping', {}, {'destination': ['w1@web1']}),
        ('a pattern', 'ping', {}, {'pattern': 'w*@web1', 'matcher': 'glob'}),
        ('a cast', 'revoke', {'task_id': '71dde540-0000-4000-8000-000000000001', 'terminate': True, 'signal': 'SIGTERM'}, {'cast': True}),
        ('arguments', 'registered', {'taskinfoitems': ['rate_limit', 'serializer'], 'builtins': True}, {}),
        ('with reply', 'active', {'safe': True}, {'destination': ['w1@web1', 'w2@web1']}),
    ]
    for name, method, arguments, o in calls:
        caught.clear()
        cast = o.pop('cast', False)
        with app.connection_for_write() as conn:
            box = mailbox(conn)
            box._publish(
                method, arguments, destination=o.get('destination'), pattern=o.get('pattern'), matcher=o.get('matcher'),
                reply_ticket=None if cast else TICKET, timeout=None if cast else 1, serializer=box.serializer,
                channel=conn.default_channel)
        commands.append({'name': name, 'method': method, **caught[-1]})
    replies = []
    for name, value in [
        ('pong', {'ok': 'pong'}), ('nothing', None), ('a list', ['proj.add', 'proj.limited [rate_limit=10/m]']),
        ('an error', {'error': "KeyError('nosuch')"}), ('unicode', {'ok': 'håå®ƒ\u2028'}), ('numbers', {'x': [1, 1.5, -3, 10**20]}),
    ]:
        caught.clear()
        with app.connection_for_write() as conn:
            node = mailbox(conn).Node('w1@web1', channel=conn.default_channel)
            node.reply({'w1@web1': value}, 'reply.celery.pidbox', OID, TICKET)
        replies.append({'name': name, 'value': json.dumps(value), **caught[-1]})
    chosen = []
    nodes = ['w1@web1', 'w2@web1', 'W1@web1', 'w1@web10', 'w@[x]', 'wé@web1', 'a-b@c']
    for matcher, pattern in [
        ('glob', 'w*@web1'), ('glob', '*'), ('glob', 'w?@web1'), ('glob', 'w[12]@web1'), ('glob', 'w[!1]@web1'), ('glob', 'w[1@web1'),
        ('glob', 'w@[[]x]'), ('glob', 'w[0-9]*'), ('glob', '[]w]*'), ('glob', 'w[9-0]@web1'), ('glob', 'a[-]b*'), ('glob', 'w.@web1'),
        ('pcre', 'w1'), ('pcre', '1@web1'), ('pcre', 'w1@web1$'), ('pcre', '.*web10'), ('pcre', 'W|a'), ('pcre', '(?i)W1@web1$'),
    ]:
        chosen.append({'matcher': matcher, 'pattern': pattern, 'nodes': [n for n in nodes if match(n, pattern, matcher)]})
    return {'versions': {p: metadata.version(p) for p in ('celery', 'kombu')}, 'nodes': nodes,
            'commands': commands, 'replies': replies, 'chosen': chosen}


if __name__ == '__main__':
    with patch.object(virtual.Channel, 'basic_publish', publish), \
            patch.object(kombu.pidbox, 'time', lambda: 1795243310.7507896), \
            patch.object(kombu.pidbox.Mailbox, 'oid', OID), \
            patch.object(kombu.pidbox, 'maybe_declare', lambda *a, **k: None):
        data = record()
    with open(f"{OUT}/control-{data['versions']['celery']}.json", 'w') as f:
        json.dump(data, f, indent=1, ensure_ascii=False)
        f.write('\n')
