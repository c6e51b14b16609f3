"""Records what the real Celery publishes for canvases into canvas/testdata/canvas.json.gz, one case a line.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python canvas.py

No server is needed: messages are caught in Kombu's producer, and what goes to the result store in a Redis
backend whose commands are replaced. Clock, ids and process names are frozen.

Each canvas is written as an expression (see build). It is built, applied as a client does, and then lived
through: every message is run by Celery's own tracer, with a value or an exception, and chords are counted,
until nothing is left. Every step is recorded with its input and with what it publishes and stores, in order.
Ids made in a step are w-1, w-2, ... in that step and get a prefix of their own before the next.
"""
import gzip
import importlib.metadata as metadata
import io
import os
import random
import re
import sys
import time
import warnings
from datetime import datetime, timedelta, timezone

os.environ['TZ'] = 'UTC'
time.tzset()
warnings.simplefilter('ignore')

import logging

logging.disable(logging.CRITICAL)

import celery.app.amqp
import celery.app.base
import celery.canvas
import kombu.messaging
import kombu.utils.uuid
from celery import Celery, chain, chord, group, signature
from celery.app.task import Task
from celery.app.trace import build_tracer
from celery.backends.base import _create_chord_error_with_cause
from celery.backends.redis import RedisBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, Ignore
from celery.result import GroupResult
from kombu.utils.json import dumps, loads

VERSION = metadata.version('celery')
NOW = datetime(2026, 11, 21, 12, 30, 45, 123456, tzinfo=timezone.utc)


class Ids:
    count = 0

    @classmethod
    def fresh(cls, *_, **__):
        cls.count += 1
        return f'w-{cls.count}'


celery.canvas.uuid = Ids.fresh
celery.app.base.uuid = Ids.fresh
kombu.utils.uuid.uuid = Ids.fresh
celery.app.amqp.anon_nodename = lambda *a, **k: 'gen1@host'

EFFECTS = []


def plain(value):
    return loads(dumps(value))


def record(kind, **fields):
    EFFECTS.append(plain({'effect': kind, **fields}))


def publish(self, body, routing_key=None, delivery_mode=None, mandatory=False, immediate=False, priority=0,
            content_type=None, content_encoding=None, serializer=None, headers=None, compression=None,
            exchange=None, retry=False, retry_policy=None, declare=None, expiration=None, timeout=None,
            confirm_timeout=None, credential_provider=None, **properties):
    if 'task' not in headers:  # the broadcast that revokes the members of a group body
        return record('broadcast')
    record('send', exchange=getattr(exchange, 'name', exchange) or '', routing_key=routing_key, declare=[q.name for q in declare or []],
           serializer=serializer, compression=compression, delivery_mode=delivery_mode, priority=priority,
           expiration=None if expiration is None else str(int(expiration * 1000)),
           correlation_id=properties.get('correlation_id'), reply_to=properties.get('reply_to'),
           headers=headers, body=body)


kombu.messaging.Producer.publish = publish


def exc_of(exc):
    # Python's own texts name objects by their address.
    return {'module': type(exc).__module__, 'type': type(exc).__name__, 'args': [re.sub(r' at 0x[0-9a-f]+', '', a) if isinstance(a, str) else a for a in exc.args]}


class Backend(RedisBackend):
    """Redis, without Redis."""

    world = None

    def on_task_call(self, producer, task_id):
        return {}

    def add_pending_result(self, result, weak=False, start_drainer=True):
        return result

    def remove_pending_result(self, result):
        return result

    def get_state(self, task_id):
        return 'PENDING'

    def set_chord_size(self, group_id, chord_size):
        record('chord_size', group=group_id, n=chord_size)

    def apply_chord(self, header_result_args, body, **kwargs):
        header_result = self.app.GroupResult(*header_result_args)
        is_complex = any(isinstance(nr, GroupResult) for nr in header_result.results)
        record('chord_begin', group=header_result.id, record=header_result.as_tuple() if is_complex else None)

    def add_to_chord(self, chord_id, result):
        record('chord_grow', group=chord_id)

    def store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        if state == 'SUCCESS' or self.world.own == task_id:
            if state == 'SUCCESS':
                self.world.children = plain(self.current_task_children(request))
                self.world.value = plain(self.encode_result(result, state))
            self.world.states[task_id] = (state, result)
            return result
        self.world.states[task_id] = (state, result)
        record('store', id=task_id, group=getattr(request, 'group', None), parent=getattr(request, 'parent_id', None),
               exception=exc_of(result), traceback=bool(traceback), name=getattr(request, 'task', None) if request else None)
        return result

    def on_chord_part_return(self, request, state, result, **kwargs):
        record('part', id=request.id, group=request.group, index=request.group_index, body=request.chord, state=state)
        self.world.part(request, state, result)


class App(Celery):
    thread_oid = 'oid-worker'

    def now(self):
        return NOW


class ClientApp(App):
    thread_oid = 'oid-client'


class PollBackend(Backend):
    """A store that counts nothing."""
    supports_native_join = False

    def get_task_meta(self, task_id, cache=True):
        state, result = self.world.states.get(task_id, ('PENDING', None))
        return {'status': state, 'result': result, 'traceback': None, 'children': [], 'task_id': task_id}

    def on_chord_part_return(self, request, state, result, **kwargs):
        pass

    apply_chord = RedisBackend.__mro__[2].apply_chord
    for _cls in RedisBackend.__mro__:
        if _cls.__name__ == 'Backend':
            apply_chord = _cls.apply_chord
            set_chord_size = _cls.set_chord_size


def nothing(*args, **kwargs):
    pass


def make_app(cls, conf, known=None, poll=False):
    app = cls('proj', broker='memory://', backend='cache+memory://', set_as_current=True)
    app.conf.update(conf)
    app.conf.update(task_publish_retry=False)
    backend = (PollBackend if poll else Backend)(url='redis://127.0.0.1:1/0', app=app)
    app._local.backend = backend
    type(app).backend = property(lambda self: self._local.backend)
    app.set_current()
    app.finalize()
    for name, options in (known or {}).items():
        app.task(name=name, shared=False, **options)(nothing)
    return app


# --- canvases ---------------------------------------------------------------------------------------

def t(name, *args, **kwargs):
    return ['task', f'proj.{name}', list(args), kwargs]


def si(*x):
    return ['si', t(*x)]


def build(app, x):
    kind = x[0]
    if kind == 'task':
        return app.signature(x[1], args=tuple(x[2]), kwargs=dict(x[3]))
    if kind == 'si':
        sig = build(app, x[1])
        sig.set(immutable=True)
        return sig
    if kind == 'set':
        sig = build(app, x[1])
        sig.set(**loads(dumps(x[2])))
        return sig
    if kind == 'link':
        sig = build(app, x[1])
        for cb in x[2:]:
            sig.link(build(app, cb))
        return sig
    if kind == 'err':
        sig = build(app, x[1])
        for cb in x[2:]:
            sig.link_error(build(app, cb))
        return sig
    if kind == 'chain':
        return chain(*[build(app, y) for y in x[1:]])
    if kind == 'rawchain':  # not folded, as old clients and hands build them
        return celery.canvas._chain(*[build(app, y) for y in x[1:]])
    if kind == 'group':
        return group([build(app, y) for y in x[1:]])
    if kind == 'chord':
        return chord([build(app, y) for y in x[1]], build(app, x[2]))
    raise ValueError(kind)


def C(*x): return ['chain', *x]
def G(*x): return ['group', *x]
def D(header, body): return ['chord', header, body]


a, b, c, d, e = t('a', 1), t('b', 2), t('c', 3), t('d', 4), t('e', 5)
total, eb, eb2, cb = t('total'), t('onerror', 'own'), t('onerror2'), t('callback', 9)

CANVASES = {
    'task': a,
    'task without anything': t('a'),
    'task with kwargs': t('a', 1, x=1, y='z'),
    'task with options': ['set', a, {'queue': 'q1', 'countdown': 10, 'expires': 60, 'priority': 5, 'time_limit': 30, 'soft_time_limit': 20,
                                     'shadow': 'sh', 'headers': {'X-A': 1}, 'ignore_result': True, 'task_id': 'c-own', 'serializer': 'json'}],
    'task with links': ['link', ['err', a, eb, eb2], cb, t('cb2')],
    'two group callbacks and two tasks': ['link', a, G(b, c), cb, G(d), t('cb2')],
    'one group callback': ['link', a, G(b, c)],
    'one chain callback': ['link', a, C(b, c)],
    'one chord callback': ['link', a, D([b, c], total)],
    'chain and chord callbacks': ['link', a, C(b, c), D([b, c], total)],
    'callback with its own callback': ['link', a, ['link', b, c]],
    'immutable callbacks': ['link', a, si('b', 7)],
    'chain of two': C(a, b),
    'chain of three': C(a, b, si('c', 4, 5)),
    'chain of one': C(a),
    'nested chains': C(a, C(b, C(c, d)), e),
    'raw nested chains': ['rawchain', a, ['rawchain', b, ['rawchain', c, d]], e],
    'chain with link and errback': ['link', ['err', C(a, b, c), eb], cb],
    'chain with steps that have links': C(['link', a, cb], ['err', b, eb], c),
    'chain with queues': C(['set', a, {'queue': 'q1'}], ['set', b, {'queue': 'q2', 'priority': 3}], c),
    'chain with options': ['set', C(a, b, c), {'queue': 'q9', 'priority': 2, 'countdown': 5}],
    'chain with an id': ['set', C(a, b), {'task_id': 'c-chain'}],
    'chain whose step counts down': C(a, ['set', b, {'countdown': 3}], ['set', c, {'expires': 50}]),
    'chain of immutables with kwargs': C(['si', t('a', 1, k=2)], ['si', t('b', k=3)]),
    'group of one': G(a),
    'group of three': G(a, b, c),
    'empty group': G(),
    'nested groups': G(a, G(b, c), G(G(d), e)),
    'group of chains': G(C(a, b), C(c, d)),
    'group of groups in chains': G(C(a, G(b, c)), d),
    'group of one chain that ends in a group': G(C(a, G(b, c))),
    'group with options': ['set', G(a, ['set', b, {'queue': 'q2'}]), {'queue': 'q1', 'priority': 7}],
    'group with an errback': ['err', G(a, b), eb],
    'group with a link': ['link', G(a, b), cb],
    'group of immutables': ['si', G(a, b)],
    'group with an empty chain': ['group', a, ['rawchain'], b],
    'chain ending in a group': C(a, G(b, c)),
    'chain starting with a group': C(G(a, b), total),
    'chain with a group in the middle': C(a, G(b, c), total),
    'chain with a group in the middle and more': C(a, G(b, c), total, d, e),
    'raw chain with a group in the middle': ['rawchain', a, G(b, c), total, d],
    'chain with two groups': C(a, G(b, c), total, G(d, e), t('total2')),
    'chain with two groups in a row': C(G(a, b), G(c, d)),
    'chain with two groups in a row and a task': C(a, G(b, c), G(d, e), total),
    'raw chain of groups': ['rawchain', G(a, b), G(c, d), G(e, a), total],
    'chain with a group of one': C(a, G(b), c),
    'chain with an empty group': C(a, G(), c),
    'raw chain with an empty group': ['rawchain', G(), a, G(), c],
    'raw chain of empty groups': ['rawchain', G(), G()],
    'chain ending in a group of chains': C(a, G(C(b, c), d)),
    'chain with group, link and errback': ['link', ['err', C(a, G(b, c), total), eb], cb],
    'chain ending in a group with errback': ['err', C(a, G(b, c)), eb],
    'chord': D([a, b], total),
    'chord with one part': D([a], total),
    'chord with an empty header': D([], total),
    'chord with kwargs': D([t('a', x=1), t('b', y=2)], t('total', z=3)),
    'chord with immutable body': D([a, b], si('total', 5)),
    'chord with links': ['link', ['err', D([a, b], total), eb, eb2], cb],
    'chord whose body has links': D([a, b], ['link', ['err', total, eb], cb]),
    'chord whose parts have links': D([['link', a, cb], ['err', b, eb]], total),
    'chord with queues': D([['set', a, {'queue': 'q1'}], b], ['set', total, {'queue': 'q2', 'priority': 4}]),
    'chord with options': ['set', D([a, b], total), {'queue': 'q3', 'priority': 6}],
    'chord that counts down': ['set', D([a, b], total), {'countdown': 8}],
    'chord whose body counts down': D([a, b], ['set', total, {'countdown': 8}]),
    'chord with an id': ['set', D([a, b], total), {'task_id': 'c-chord'}],
    'chord whose body has an id': D([a, b], ['set', total, {'task_id': 'c-body'}]),
    'chord with a chain as body': D([a, b], C(total, c, d)),
    'chord with a group as body': D([a, b], G(c, d)),
    'chord with a group with errbacks as body': ['err', D([a, b], G(c, ['err', d, eb2])), eb],
    'chord with a group of chains as body': D([a, b], G(C(c, d), e)),
    'chord with a chord as body': D([a, b], D([c, d], total)),
    'chord with a chain that starts with a group as body': D([a, b], C(G(c, d), total)),
    'chord with a chain that ends in a group as body': D([a, b], C(total, G(c, d))),
    'chord with a chain with errback as body': D([a, b], ['err', C(total, c), eb]),
    'chord of chains': D([C(a, b), C(c, d)], total),
    'chord of chains that end in groups': D([C(a, G(b, c)), d], total),
    'chord of groups': D([G(a, b), c, G(d, e)], total),
    'chord of chords': D([D([a, b], t('inner')), c], total),
    'chord of chords of chords': D([D([D([a, b], t('i1')), c], t('i2')), d], total),
    'chord of chains with chords': D([C(a, G(b, c), t('inner')), d], total),
    'chord of chords with group bodies': D([D([a, b], G(c, d)), e], total),
    'chord of one chord': D([D([a, b], t('inner'))], total),
    'chord then task': C(D([a, b], total), c),
    'chord then group': C(D([a, b], total), G(c, d)),
    'chord then group then task': C(D([a, b], total), G(c, d), t('total2')),
    'three chords in a chain': C(G(a, b), t('s1'), G(c, d), t('s2'), G(e, a), t('s3')),
    'raw chain of chords': ['rawchain', a, D([b, c], total), D([d, e], t('total2'))],
    'raw chain of chords with chain bodies': ['rawchain', a, D([b, c], C(total, d)), e],
    'group of chords': G(D([a, b], total), D([c, d], t('total2'))),
    'chain, then a group of chords, then a task': C(a, G(D([b, c], total), d), t('total2')),
    'chain with deep links': C(a, ['link', G(b, c), cb], total),
    'chain with an errback on the inner chain': C(a, ['err', C(b, c), eb], d),
    'stamped chain': C(['set', a, {'stamped_headers': ['s'], 's': 'v'}], ['set', b, {'stamped_headers': ['s', 'l'], 's': 'v', 'l': [1, 2]}]),
    'stamped chord': D([['set', a, {'stamped_headers': ['s'], 's': 'v'}]], ['set', total, {'stamped_headers': ['s'], 's': 'w'}]),
    'null options': ['set', C(a, b), {'priority': None, 'queue': None}],
    'step with null options': C(a, ['set', b, {'priority': None, 'expires': None, 'time_limit': None}]),
    'map in a chain': C(a, ['si', ['task', 'celery.map', [], {'task': ['SIG', b], 'it': [1, 2]}]]),
    'accumulate by name': C(G(a, b), ['task', 'celery.accumulate', [], {'index': 0}]),
    'unlock of many': D([a] * 5, total),
    'ignored step': C(a, ['set', b, {'ignore_result': True}]),
    'deep nest': C(a, G(C(b, G(c, d), t('s1')), C(e, G(a, b))), t('s2'), ['link', d, cb]),
}


def expand(x):
    """SIG inside arguments is a signature as a value."""
    if isinstance(x, dict):
        return {k: expand(v) for k, v in x.items()}
    if isinstance(x, list):
        if len(x) == 2 and x[0] == 'SIG':
            y = x[1]
            return {'task': y[1], 'args': y[2], 'kwargs': y[3], 'options': {}, 'subtask_type': None, 'immutable': False}
        return [expand(y) for y in x]
    return x


CANVASES = {name: expand(x) for name, x in CANVASES.items()}

def S(name, *args, kind=None, immutable=False, kwargs=None, **options):
    return {'task': name, 'args': list(args), 'kwargs': kwargs or {}, 'options': options, 'subtask_type': kind, 'immutable': immutable}


def without(sig, *keys):
    return {k: v for k, v in sig.items() if k not in keys}


def many(kind, tasks, **options):
    return S(f'celery.{kind}', kind=kind, kwargs={'tasks': tasks}, **options)


def pending(header, body, immutable=False, args=(), extra=None, **options):
    return S('celery.chord', *args, kind='chord', immutable=immutable, kwargs={'kwargs': extra or {}, 'header': header, 'body': body}, **options)


pa, pb, pc, pt = S('proj.a', 1), S('proj.b', 2), S('proj.c', 3), S('proj.total')
old_body = S('proj.total', task_id='c-d', reply_to='c-r')
old_header = many('group', [
    S('proj.b', 3, task_id='c-b', reply_to='c-r', chord=old_body, group_index=0),
    S('proj.c', 4, task_id='c-e', reply_to='c-r', chord=old_body, group_index=1),
], task_id='c-f', chord=old_body, root_id=None, parent_id=None)
old_chord = pending(old_header, old_body, task_id='c-f')
nested_old = pending(many('group', [S('proj.b', 1, task_id='c-1'), S('proj.c', 2, task_id='c-2')], task_id='c-g'),
                     many('chain', [S('proj.total', task_id='c-3'), pending(old_header, S('proj.e', task_id='c-4'), task_id='c-f'), S('proj.d', task_id='c-5')], task_id='c-5'),
                     task_id='c-g')

# Signatures as other programs and older Celerys write them.
RAW = {
    'four keys only': without(pa, 'subtask_type', 'immutable'),
    'unknown keys': {**S('proj.a', 1, task_id='c-x'), 'chord_size': 3, 'foo': [1]},
    'null arguments': {**pa, 'args': None, 'kwargs': None},
    'a null id': S('proj.a', 1, task_id=None),
    'no options': without(pa, 'options'),
    'only a task': {'task': 'proj.a'},
    'unknown type': {**pa, 'subtask_type': 'nonsense'},
    'links that are no lists': S('proj.a', 1, link=pb, link_error=pc),
    'links that are null': S('proj.a', 1, link=None, link_error=None),
    'links without the optional keys': S('proj.a', 1, link=[without(pb, 'subtask_type', 'immutable')]),
    'address': S('proj.a', 1, exchange='ex', routing_key='rk'),
    'lone routing key': S('proj.a', 1, routing_key='rk'),
    'lone exchange': S('proj.a', 1, exchange='ex'),
    'queue and address': S('proj.a', 1, queue='q', exchange='ex', routing_key='rk'),
    'topic address': S('proj.a', 1, exchange='ex', exchange_type='topic', routing_key='rk'),
    'queue of a topic': S('proj.a', 1, queue='q', exchange_type='topic'),
    'null priority': S('proj.a', 1, priority=None),
    'null priority and a queue': S('proj.a', 1, priority=None, queue='q'),
    'null queue': S('proj.a', 1, queue=None),
    'odd numbers': S('proj.a', 1, time_limit=1.5, soft_time_limit=1, expires=2.5, countdown=0),
    'zero countdown with eta': S('proj.a', 1, countdown=0, eta='2026-11-21T13:00:00+00:00'),
    'eta text': S('proj.a', 1, eta='2026-11-21T13:00:00+00:00', expires='2026-11-21T14:00:00+00:00'),
    'retries and nesting': S('proj.a', 1, retries=2, replaced_task_nesting=3, shadow='sh', origin='gen9@x'),
    'immutable chain with arguments': {**many('chain', [pa, pb]), 'immutable': True, 'args': [9]},
    'immutable group with arguments': {**many('group', [pa, pb]), 'immutable': True, 'args': [9]},
    'chord with arguments': pending([pa, pb], pt, args=[9]),
    'immutable chord with arguments': pending([pa, pb], pt, immutable=True, args=[9]),
    'chord with extra kwargs': pending([pa, pb], pt, extra={'x': 1}),
    'chord whose header is a group': pending(many('group', [pa, pb], task_id='c-g', queue='qg'), pt),
    'chord whose header is a chain': pending(many('chain', [pa, pb]), pt),
    'chord whose header is a task': pending(pa, pt),
    'chord of 5.6': old_chord,
    'chain with a chord of 5.6': many('chain', [pa, old_chord]),
    'chain with a nested chord of 5.6': many('chain', [pa, nested_old]),
    'chain with a chord of 5.6 and a tail': many('chain', [S('proj.a', 1, task_id='c-0'), old_chord, S('proj.e', 5, task_id='c-9')]),
    'group of groups': many('group', [many('group', [pa, pb]), pc, many('group', [many('group', [pa]), pb])], task_id='c-g'),
    'chain of an empty chain': many('chain', [many('chain', []), pa]),
    'empty chain': many('chain', []),
    'group of an empty chain': many('group', [many('chain', [])]),
    'chord of an empty chain': pending([many('chain', [])], pt),
    'chain with the rest of another': many('chain', [pa, pb], chain=[pc]),
    'chain with a chord option': many('chain', [pa, pb], chord=old_body, group_id='c-g', group_index=2),
    'group with a link': many('group', [pa, pb], link=[pc]),
    'group with an errback': many('group', [pa, pb], link_error=[pc]),
    'chain that ends in a group, with a link': many('chain', [pa, many('group', [pb, pc])], link=[pt]),
    'chord in a chain with a link': many('chain', [pa, pending([pb, pc], pt)], link=[pt]),
    'chord with a link': pending([pa, pb], pt, link=[pc], link_error=[pc]),
    'chord with a link and a group body': pending([pa, pb], many('group', [pc, S('proj.d', 4, link_error=[pa])]), link=[pc], link_error=[pb]),
    'chord with an errback and a group body with its own': pending([pa, pb], many('group', [pc, S('proj.d', 4)], link_error=[pa]), link_error=[pb]),
    'chord with a delay': pending([pa, pb], pt, countdown=3, eta='2026-11-21T13:00:00+00:00'),
    'chord with limits': pending([pa, pb], pt, time_limit=5, expires=9, interval=2, max_retries=7),
    'map': S('celery.map', kind='xmap', kwargs={'task': pa, 'it': [1, 2]}, queue='q', priority=2),
    'starmap': S('celery.starmap', kind='xstarmap', kwargs={'task': pa, 'it': [[1, 2]]}),
    'chunks': S('celery.chunks', kind='chunks', kwargs={'task': pa, 'it': [[1], [2], [3]], 'n': 2}),
    'map in a group': many('group', [S('celery.map', kind='xmap', kwargs={'task': pa, 'it': [1]}), pb]),
    'stamps without a value': S('proj.a', 1, stamped_headers=['s', 't'], s=1),
    'stamped call': S('proj.a', 1, stamped_headers=['s'], s=1, queue='q'),
    'two steps of one id': many('chain', [S('proj.a', 1, task_id='c-1'), S('proj.b', 1, task_id='c-1')]),
    'chord whose parts share an id': pending([S('proj.a', 1, task_id='c-1'), S('proj.b', 1, task_id='c-1')], pt),
}

RAW.update({
    'chunks, as a task': S('celery.chunks', pa, [[1], [2], [3]], 2),
    'chunks, as a task with kwargs': S('celery.chunks', kwargs={'task': pa, 'it': [[1], [2], [3]], 'n': 2}),
    'group, as a task': S('celery.group', [pa, pb], [['c-g', None], [[['c-1', None], None], [['c-2', None], None]]], 'c-g', [7]),
    'group, as a task, apart': S('celery.group', [pa, pb], [['c-g', None], [[['c-1', None], None]]], 'c-g', [], kwargs={'add_to_parent': False}),
    'chord, as a task': S('celery.chord', [pa, pb], pt, [7]),
    'chord, as a task with a group': S('celery.chord', kwargs={'header': many('group', [pa, pb]), 'body': pt}),
    'chord, as a task with a chain as body': S('celery.chord', [pa, pb], many('chain', [pt, pc])),
    'accumulate': S('celery.accumulate', 5, 6, kwargs={'index': 1}),
    'accumulate all': S('celery.accumulate', 5, 6),
    'accumulate the last': S('celery.accumulate', 5, 6, kwargs={'index': -1}),
})

CALLS = {
    'partial args': {'args': [7, 8]},
    'partial kwargs': {'kwargs': {'k': 'v'}},
    'queue and priority': {'options': {'queue': 'q7', 'priority': 1}},
    'countdown': {'options': {'countdown': 4, 'expires': 100}},
    'task id': {'options': {'task_id': 'c-call'}},
    'root and parent': {'options': {'root_id': 'c-root', 'parent_id': 'c-parent'}},
    'headers': {'options': {'headers': {'X': 1}, 'shadow': 's', 'reply_to': 'me'}},
}

CALLED = ['task', 'chain of three', 'group of three', 'chord', 'chord of chains', 'chain with a group in the middle', 'chord with a chord as body',
          'chord with a group as body', 'nested groups', 'raw chain with an empty group', 'chord with immutable body', 'group of chains']


# --- living through a canvas ------------------------------------------------------------------------

# Celery's own tasks are run as they are.
REAL = ('celery.accumulate', 'celery.chunks', 'celery.group', 'celery.chord', 'celery.chord_unlock')


class World:
    """Runs the messages of one canvas and counts its chords."""

    def __init__(self, case, app, steps, failing=(), limit=60):
        self.case, self.app, self.steps, self.failing, self.limit = case, app, steps, set(failing), limit
        self.queue, self.own, self.children = [], None, None
        self.chords, self.stage = {}, 0
        self.states, self.value = {}, None
        app._local.backend.world = self

    # One step: what it published and stored, with ids made in it renamed before they go on.
    def begin(self):
        global EFFECTS
        EFFECTS = []
        Ids.count = 0

    def end(self, step):
        self.stage += 1
        step['effects'] = list(EFFECTS)
        self.steps.append(plain(step))
        prefix = f'{self.stage}-'
        later = loads(re.sub(r'\bw-(\d+)', lambda m: f'{prefix}{m.group(1)}', dumps(step['effects'])))
        for effect in later:
            if effect['effect'] == 'send':
                self.queue.append(effect)
            elif effect['effect'] == 'chord_begin':
                # the parts of a run before are forgotten
                self.chords[effect['group']] = {'parts': {}, 'size': None, 'complex': effect['record']}
            elif effect['effect'] == 'chord_size':
                self.chords.setdefault(effect['group'], {'parts': {}, 'size': None, 'complex': None})['size'] = effect['n']
        return later

    def part(self, request, state, result):
        self.pending_parts.append((request, state, result))

    def flow(self):
        while self.queue and len(self.steps) < self.limit:
            message = self.queue.pop(0)
            if message['headers']['task'] == 'celery.chord_unlock' and self.queue:
                wanted = dumps(message['body'][1]['result'])
                if any(m['headers']['task'] != 'celery.chord_unlock' or m['headers']['id'] in wanted for m in self.queue):
                    self.queue.append(message)  # not ready yet
                    continue
            self.run(message)

    def context(self, message):
        headers, (args, kwargs, embed) = message['headers'], message['body']
        delivery = {'exchange': message['exchange'], 'routing_key': message['routing_key'], 'priority': message['priority'], 'redelivered': False}
        request = {**headers, 'args': args, 'kwargs': kwargs, **embed, 'hostname': 'w1@host', 'is_eager': False,
                   'delivery_info': delivery, 'reply_to': message['reply_to'], 'correlation_id': message['correlation_id']}
        return request, args, kwargs

    def run(self, message, fun=None, op=None, extra=None):
        request, args, kwargs = self.context(plain(message))
        name, task_id = request['task'], request['id']
        fails = name.removeprefix('proj.') in self.failing
        value = f'{name}:{len(args)}' if len(args) != 1 or not isinstance(args[0], list) else args[0] + [name]
        self.own, self.children, self.pending_parts = task_id, None, []
        self.begin()

        def body(*a, **k):
            if fun is not None:
                return fun(task)
            if fails:
                raise ValueError('x', 42)
            return value

        task = type(name, (Task,), {'name': name, 'run': body, 'abstract': False, 'typing': False, '__bound__': True,
                                    '_app': self.app, 'ignore_result': False, 'track_started': False, 'request_stack': celery.utils.threads.LocalStack()})()
        task.acks_late = False
        before = {}
        if name in REAL:
            task, op = self.app.tasks[name], 'unlock' if name == 'celery.chord_unlock' else 'builtin'
            before = {k: {'state': s, 'result': exc_of(r) if isinstance(r, BaseException) else r} for k, (s, r) in self.states.items()}
            self.value = None
        error = None
        try:
            R, I, T, Rstr = build_tracer(name, task, app=self.app, propagate=False)(task_id, args, kwargs, request)
            if I is not None and I.state == 'FAILURE' and not fails:
                error = exc_of(I.retval) if isinstance(I.retval, BaseException) else exc_of(I.retval.exception)
        except Exception as exc:  # the tracer lets it through
            error = exc_of(exc)
        step = {'op': op or ('failure' if fails else 'success'), 'message': message, 'value': None if fails else value,
                'children': self.children, 'error': error, **(extra or {})}
        if name in REAL:
            step.update(value=self.value, states=before)
            step['error'] = None if name != 'celery.chain' else error
        parts = self.pending_parts
        self.end(step)
        for part in parts:
            self.report(task, request, *part)

    def report(self, task, running, request, state, result):
        gid = request.group
        chord_ = self.chords.setdefault(gid, {'parts': {}, 'size': None, 'complex': None})
        index = request.group_index
        chord_['parts'][request.id] = (float('inf') if index is None else index, state, result)
        if chord_['size'] is None or len(chord_['parts']) != chord_['size']:
            return
        del self.chords[gid]
        parts = sorted(chord_['parts'].items(), key=lambda kv: kv[1][0])
        wire = plain(request.chord)
        self.begin()
        self.own = None
        self.pending_parts = []
        from celery._state import _task_stack
        from celery.app.task import Context
        _task_stack.push(task)
        task.request_stack.push(Context(running, called_directly=False))
        step = {'op': 'body', 'body': wire, 'parent': {k: running.get(k) for k in ('id', 'root_id')} | {'priority': running['delivery_info']['priority']}}
        try:
            callback = maybe_signature(request.chord, app=self.app)
            bad = [(tid, r) for tid, (_, s, r) in parts if s != 'SUCCESS']
            if bad:
                tid, exc = bad[0]
                text = f'Dependency {tid} raised {exc!r}'
                step.update(op='chord_failed', text=text, cause=exc_of(exc))
                try:
                    raise _create_chord_error_with_cause(message=text, original_exc=exc)
                except ChordError as err:
                    self.app.backend.chord_error_from_stack(callback, err)
            else:
                results = plain([r for _, (_, _, r) in parts])
                step['results'] = results
                callback.delay(results)
        finally:
            task.request_stack.pop()
            _task_stack.pop()
        self.end(step)
        for part in self.pending_parts:
            self.report(task, running, *part)


def applied(app, sig, call, case):
    """The effects of applying sig, its result tuple or the error."""
    global EFFECTS
    EFFECTS = []
    Ids.count = 0
    try:
        if callable(sig) and not isinstance(sig, dict):
            sig = sig()
        res = sig.apply_async(tuple(call.get('args', ())), dict(call.get('kwargs', {})), **loads(dumps(call.get('options', {}))))
        return plain(res.as_tuple()) if res is not None else None, None
    except Exception as exc:
        return None, exc_of(exc)


def brackets(text):
    """A signature read from a message prints its arguments as the list they came as."""
    return re.sub(r'"argsrepr": "[(\[](.*?),?[)\]]"', r'"argsrepr": "(\1)"', text)


def live(case, x, steps, conf=None, known=None, failing=(), call=None, poll=False, lives=True, limit=60, raw=None):
    conf, call = conf or {}, call or {}
    client = make_app(ClientApp, conf, known, poll)
    world = World(case, client, steps, failing, limit)
    wire = plain(raw or build(client, x))
    first = None
    if not raw:
        applied(client, build(client, x), call, case)
        first = list(EFFECTS)
    result, err = applied(client, lambda: client.signature(plain(wire)), call, case)
    canonical = dumps(EFFECTS)
    if first and brackets(canonical) != brackets(dumps(first)):
        print('  note: the object itself publishes something else than its wire form:', case, file=sys.stderr)
        print(dumps(first)[:1500], canonical[:1500], sep='\n')
    step = {'op': 'apply', 'expr': x, 'sig': wire, 'call': call, 'result': result, 'error': err}
    world.queue = []
    world.end(step)
    if lives and not err:
        worker = make_app(App, conf, known, poll)
        worker._local.backend.world = world
        world.app = worker
        world.flow()


def main(path):
    cases = []

    def case(name, x, **kw):
        steps = []
        live(name, x, steps, **{k: v for k, v in kw.items()})
        conf = dict(kw.get('conf') or {})
        cases.append({'name': name, 'conf': conf, 'known': kw.get('known') or {}, 'poll': kw.get('poll', False), 'steps': steps})

    for name, x in CANVASES.items():
        case(name, x)
        failing = ['b']
        if name == 'task with links':
            failing = ['a']
        if any(k in dumps(x) for k in ('proj.b',)) or failing != ['b']:
            case(name + ', failing', x, failing=failing)
        if 'proj.c' in dumps(x):
            case(name + ', failing later', x, failing=['c'])
        if 'inner' in dumps(x) or 'proj.total' in dumps(x):
            case(name + ', failing body', x, failing=['inner', 'total', 's1', 'i2'])
    for name, raw in RAW.items():
        case('raw: ' + name, None, raw=raw)
        if 'proj.b' in dumps(raw):
            case(f'raw: {name}, failing', None, raw=raw, failing=['b'])
        if raw.get('task') in REAL and not raw.get('subtask_type'):
            continue
        case(f'raw: {name}, after a task', None, raw=many('chain', [S('proj.first'), raw]))
        case(f'raw: {name}, as a callback', None, raw=S('proj.first', link=[raw]))
    for canvas in CALLED:
        for name, call in CALLS.items():
            case(f'{canvas}, called with {name}', CANVASES[canvas], call=call, lives=False)
    KNOWN = {'proj.a': {'queue': 'qa', 'priority': 3, 'ignore_result': True}, 'proj.b': {'time_limit': 9, 'soft_time_limit': 7, 'serializer': 'json'},
             'proj.total': {'queue': 'qt', 'expires': 30}}
    for canvas in ['task', 'task with options', 'chain of three', 'chord', 'chord with queues', 'chain with a group in the middle', 'group of three']:
        case(f'{canvas}, of known tasks', CANVASES[canvas], known=KNOWN)
    ROUTES = {'task_routes': [{'proj.a': 'ra', 'proj.t*': {'queue': 'rt', 'priority': 8}}, {'proj.b': {'exchange': 'xb', 'routing_key': 'kb'}, 'proj.*': {'queue': 'other'}}]}
    for canvas in ['task', 'task with options', 'chain of three', 'chord', 'chord with queues', 'chain with a group in the middle']:
        case(f'{canvas}, routed', CANVASES[canvas], conf=ROUTES)
    for canvas in ['chain of three', 'chord', 'chain with a group in the middle', 'task with links']:
        case(f'{canvas}, inheriting priority', CANVASES[canvas], conf={'task_inherit_parent_priority': True}, call={'options': {'priority': 6}})
    for canvas in ['chord', 'chord with queues', 'chord with options', 'chain with a group in the middle', 'chord of groups', 'chord with a chain as body',
                   'chord of chords', 'chord with an empty header', 'chord with links', 'chord with a group as body', 'three chords in a chain',
                   'chord of chains that end in groups', 'stamped chord']:
        case(f'{canvas}, on a store that counts nothing', CANVASES[canvas], poll=True)
        case(f'{canvas}, on a store that counts nothing, failing', CANVASES[canvas], poll=True, failing=['b'])
    for name in ['topic address', 'queue and address', 'stamped call']:
        body = {**RAW[name], 'options': {**RAW[name]['options'], 'headers': {'X': 1}}}
        case(f'chord whose body has {name}, on a store that counts nothing', None, raw=pending([pa], body), poll=True)
    case('chord, on a store that counts nothing, known', CANVASES['chord'], poll=True, known=KNOWN)
    for canvas in ['chord with links', 'chain with group, link and errback', 'chord of chords']:
        case(f'{canvas}, errbacks on headers', CANVASES[canvas], conf={'task_allow_error_cb_on_chord_header': True})
    for seed in range(RANDOM):
        rnd = random.Random(seed)
        x = anything(rnd, 3)
        failing = rnd.sample('abcdefgh', rnd.choice([0, 0, 1, 2]))
        conf = rnd.choice([{}, {}, {}, {'task_inherit_parent_priority': True}, {'task_allow_error_cb_on_chord_header': True}])
        try:
            case(f'random {seed}', x, failing=failing, conf=conf, poll=rnd.random() < 0.2, limit=25)
        except IndexError:  # a link to a group that is empty cannot be built
            pass
    replacing(cases)
    routes = list(routing())
    out = {'celery': VERSION, 'kombu': metadata.version('kombu'), 'now': NOW.isoformat(), 'routes': routes, 'cases': cases}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # No name and no time in the file, so recording twice gives the same one.
    with open(path, 'wb') as raw, gzip.GzipFile('', 'wb', 9, raw, 0) as packed, io.TextIOWrapper(packed, 'utf-8') as f:
        f.write('{"celery": %s, "kombu": %s, "now": %s, "routes": %s, "cases": [\n' % tuple(dumps(out[k]) for k in ('celery', 'kombu', 'now', 'routes')))
        f.write(',\n'.join(dumps(x) for x in cases))
        f.write('\n]}\n')
    print(len(cases), 'cases,', sum(len(x['steps']) for x in cases), 'steps')


REPLACED = {  # where the replaced task r stands
    'alone': t('r', 1),
    'with links': ['link', ['err', t('r', 1), eb], cb],
    'in a chain': C(t('r', 1), b, c),
    'last in a chain': C(a, t('r', 1)),
    'in a chord': D([t('r', 1), b], total),
    'in a chain in a chord': D([C(t('r', 1), c), b], total),
    'last of a chain in a chord': D([C(a, t('r', 1)), b], total),
    'before a group': C(t('r', 1), G(b, c), total),
    'as body': D([a, b], ['link', t('r'), cb]),
}

SUBSTITUTES = {
    'a task': d, 'a chain': C(d, e), 'a group': G(d, e), 'a chord': D([d, e], t('sub')), 'a chain that ends in a group': C(t('x'), G(d, e)),
    'a task with links': ['link', ['err', d, eb2], t('cb2')], 'a chain with links': ['link', C(d, e), t('cb2')],
    'a chain with a chord': C(t('x'), G(d, e), t('sub')),
}


def replacing(cases):
    for where, x in REPLACED.items():
        for what, y in SUBSTITUTES.items():
            name = f'{what} replaces a task {where}'
            steps = []
            client = make_app(ClientApp, {})
            world = World(name, client, steps, limit=25)
            result, err = applied(client, client.signature(plain(build(client, x))), {}, name)
            world.end({'op': 'apply', 'expr': x, 'sig': plain(build(client, x)), 'call': {}, 'result': result, 'error': err})
            worker = make_app(App, {})
            worker._local.backend.world = world
            world.app = worker
            while world.queue and len(steps) < 25:
                message = world.queue.pop(0)
                if message['headers']['task'] == 'proj.r':
                    sub = plain(build(worker, y))
                    world.run(message, fun=lambda task: task.replace(worker.signature(plain(sub))), op='replace', extra={'sig': sub})
                else:
                    world.run(message)
            cases.append({'name': name, 'conf': {}, 'known': {}, 'poll': False, 'steps': steps})
    for what, y in {'a task': d, 'a chain': C(d, e)}.items():
        steps = []
        name = f'{what} joins a chord'
        client = make_app(ClientApp, {})
        world = World(name, client, steps)
        sig = plain(build(client, D([t('r', 1), b], total)))
        result, err = applied(client, client.signature(plain(sig)), {}, name)
        world.end({'op': 'apply', 'expr': D([t('r', 1), b], total), 'sig': sig, 'call': {}, 'result': result, 'error': err})
        worker = make_app(App, {})
        worker._local.backend.world = world
        world.app = worker
        sub = plain(build(worker, y))
        message = world.queue.pop(0)

        def fun(task):
            task.add_to_chord(worker.signature(plain(sub)))
            raise Ignore()
        world.run(message, fun=fun, op='add_to_chord', extra={'sig': sub})
        cases.append({'name': name, 'conf': {}, 'known': {}, 'poll': False, 'steps': steps})


RANDOM = int(os.environ.get("RANDOM_CANVASES", 400))


def anything(rnd, depth):
    """A canvas of at most this depth."""
    kind = rnd.choice(['task'] * 3 + ['chain'] * 3 + ['group'] * 2 + ['chord'] * 2 + ['rawchain']) if depth else 'task'
    some = lambda least: [anything(rnd, depth - 1) for _ in range(rnd.choice([least, 1, 2, 2, 3]))]
    if kind == 'task':
        x = t(rnd.choice('abcdefgh'), *range(rnd.randrange(3)))
        if rnd.random() < 0.15:
            x = ['si', x]
    elif kind == 'chord':
        x = D(some(0) if rnd.random() < 0.1 else some(1), anything(rnd, depth - 1))
    else:
        x = [kind, *some(0 if rnd.random() < 0.1 else 1)]
    if rnd.random() < 0.15:
        x = ['set', x, rnd.choice([{'queue': 'q1'}, {'priority': 3}, {'countdown': 5}, {'expires': 9, 'queue': 'q2'}, {'priority': None}, {'ignore_result': True},
                                   {'stamped_headers': ['s'], 's': 1}, {'task_id': f'c-{rnd.randrange(10**6)}'}, {'headers': {'X': 1}}])]
    if rnd.random() < 0.15 and not empty(x):
        x = ['link', x, anything(rnd, min(depth, 1))]
    if rnd.random() < 0.15:
        x = ['err', x, t('onerror')]
    return x


def empty(x):
    """Whether linking to x fails in Python."""
    while x[0] in ('set', 'err', 'link', 'si'):
        x = x[1]
    if x[0] == 'chord':
        return empty(x[2])
    return x[0] in ('group', 'chain') and (len(x) == 1 or any(empty(y) for y in x[1:]))


SETTINGS = {
    'nothing': {},
    'default queue': {'task_default_queue': 'main'},
    'default queue and address': {'task_default_queue': 'main', 'task_default_exchange': 'mx', 'task_default_exchange_type': 'topic', 'task_default_routing_key': 'mk'},
    'topic default': {'task_default_exchange_type': 'topic'},
    'map': {'task_routes': {'proj.a': 'qa', 'proj.b': {'queue': 'qb', 'routing_key': 'kb'}, 'proj.*': {'queue': 'rest', 'priority': 4}}},
    'map with null': {'task_routes': {'proj.a': {'queue': None}, 'proj.b': {}}},
    'globs': {'task_routes': [['*.a', 'any a'], ['proj.[bc]', 'letters'], ['proj.[bc]*', 'set'], ['proj.?', 'one'], ['pr*j.d?', 'dd'], ['*', {'queue': 'all'}]]},
    'expressions': {'task_routes': [['re:(proj|other)\\.a', 'qa'], ['re:.*b$', {'queue': 'qb'}], ['re:^c', 'qc']]},
    'list of maps': {'task_routes': [{'proj.a': 'first'}, {'proj.a': 'second', 'proj.b': 'second', 'other*': {'exchange': 'ox', 'routing_key': 'ok'}}]},
    'list of lists of pairs': {'task_routes': [[['proj.a', 'first'], ['proj.*', 'more']], [['other*', {'queue': 'o'}]]]},
    'route without a queue': {'task_routes': {'proj.a': {'exchange': 'ex', 'routing_key': 'rk'}, 'proj.b': {'exchange': 'ex', 'exchange_type': 'topic', 'routing_key': 'rk'}, 'proj.c': {'priority': 3}}},
    'queues as a map': {'task_queues': {'qa': {'exchange': 'xa', 'exchange_type': 'topic', 'routing_key': 'ka.#'}, 'qb': {'exchange': 'xb'}, 'qc': {}, 'qd': {'binding_key': 'kd', 'exchange': 'xd', 'exchange_type': 'topic'}, 'celery': {}},
                        'task_routes': {'proj.a': 'qa', 'proj.b': 'qb', 'proj.c': 'qc', 'proj.d': {'queue': 'qd', 'routing_key': 'own'}}},
    'queues as a list': {'task_queues': [{'name': 'qa', 'exchange': 'xa', 'exchange_type': 'topic', 'routing_key': 'ka'}, {'name': 'qb'}, {'name': 'celery', 'exchange': 'cx', 'exchange_type': 'fanout'}],
                         'task_routes': {'proj.a': 'qa', 'proj.b': 'qb'}},
    'queues that must be declared': {'task_queues': {'qa': {}, 'celery': {}}, 'task_create_missing_queues': False, 'task_routes': {'proj.b': 'nowhere'}},
    'made up queues of a type': {'task_create_missing_queue_exchange_type': 'topic', 'task_create_missing_queue_type': 'quorum', 'task_routes': {'proj.a': 'made'}},
    'queues without the default': {'task_queues': {'qa': {'exchange': 'xa'}}, 'task_default_queue': 'main', 'task_default_exchange': 'mx', 'task_default_exchange_type': 'topic'},
}
ROUTED = [{}, {'queue': 'q1'}, {'queue': 'qa'}, {'queue': 'qa', 'routing_key': 'k1'}, {'routing_key': 'k1'}, {'exchange': 'e1'}, {'exchange': 'e1', 'routing_key': 'k1'},
          {'queue': 'qa', 'exchange': 'e1', 'routing_key': 'k1'}, {'queue': None}, {'exchange': 'e1', 'exchange_type': 'topic', 'routing_key': 'k1'}, {'priority': 9},
          {'queue': 'q1', 'exchange_type': 'topic'}, {'exchange_type': 'topic', 'routing_key': 'k1'}]


def python_settings(conf):
    """Settings as a Python project writes them: expressions compiled, queues as objects."""
    conf = plain(conf)
    def key(k):
        return re.compile(k[3:]) if k.startswith('re:') else k
    routes = conf.get('task_routes')
    if isinstance(routes, list) and all(isinstance(x, list) and isinstance(x[0], str) for x in routes):
        conf['task_routes'] = ([(key(k), v) for k, v in routes],)
    elif isinstance(routes, list):
        conf['task_routes'] = [x if isinstance(x, dict) else [(key(k), v) for k, v in x] for x in routes]
    queues = conf.get('task_queues')
    if isinstance(queues, list):
        from kombu import Exchange, Queue
        conf['task_queues'] = [Queue(q['name'], exchange=Exchange(q['exchange'], q.get('exchange_type', 'direct')) if 'exchange' in q else None,
                                     routing_key=q.get('routing_key', '')) for q in queues]
    return conf


def routing():
    global EFFECTS
    for name, conf in SETTINGS.items():
        app = make_app(ClientApp, python_settings(conf))
        calls = []
        for task in ['proj.a', 'proj.b', 'proj.c', 'proj.d', 'proj.dd', 'other.a', 'a']:
            for options in ROUTED:
                EFFECTS = []
                call = {'task': task, 'options': options}
                try:
                    app.send_task(task, **plain(options))
                    sent, = EFFECTS
                    call.update({k: sent[k] for k in ('exchange', 'routing_key', 'declare', 'priority')})
                except Exception as exc:
                    call['error'] = type(exc).__name__
                calls.append(call)
        yield {'name': name, 'conf': conf, 'calls': calls}


if __name__ == '__main__':
    here = os.path.dirname(os.path.abspath(__file__))
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, '..', 'canvas', 'testdata', 'canvas.json.gz'))
