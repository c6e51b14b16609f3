"""Records what the real Celery writes into protocol/testdata/golden/celery-<version>.json.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python generate.py

Each requirements-<version>.txt gives another file. No server is needed: messages are caught where Kombu's
virtual transport would push them, results where the backend would store them. Clock, ids, process names
and delivery tags are frozen, so recording twice gives the same file.

A file holds
    tasks      a message each: the Redis envelope, the AMQP form, and how Celery itself reads it ("reading")
    refused    messages that a worker must not run, with the kind of error
    retries    what task.retry() publishes for one of the tasks
    results    stored documents, with what was stored
Values that must keep Python's types are kombu JSON text; bytes are base64.
"""
import base64
import importlib.metadata as metadata
import os
import platform
import sys
import time
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from uuid import UUID

os.environ['TZ'] = 'UTC'
time.tzset()

import amqp
import celery.app.amqp
import celery.backends.base
import kombu.transport.memory
from kombu.utils import uuid as make_uuid
from celery import Celery, chain, chord, group
from celery._state import _task_stack
from celery.app.task import Context
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import InvalidTaskError, MaxRetriesExceededError, NotRegistered, Reject, TaskRevokedError
from celery.worker import strategy
from celery.worker.request import Request
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from kombu.exceptions import ContentDisallowed, EncodeError
from kombu.utils.json import dumps

VERSION = metadata.version('celery')
NEWEST = VERSION.startswith('5.7')
NOW = datetime(2026, 11, 21, 12, 30, 45, 123456, tzinfo=timezone.utc)
TASK_ID = '7a2131ab-f5d6-4ad7-9e25-30b7ee104d56'
REPLY_TO = 'ab21c2a6-bd7e-327a-877d-7685b3e289f4'


# --- freezing ---------------------------------------------------------------------------------------

class Ids:
    count = 0

    @classmethod
    def fresh(cls):
        cls.count += 1
        return UUID(int=(0x4 << 76) | (0x8 << 60) | cls.count)


class Frozen(datetime):
    @classmethod
    def utcnow(cls):
        return NOW.replace(tzinfo=None)

    @classmethod
    def now(cls, tz=None):
        return NOW.astimezone(tz)


def freeze():
    make_uuid.__defaults__ = (Ids.fresh,)
    celery.app.amqp.anon_nodename = lambda: 'gen4711@vm'
    Celery.now = lambda self: NOW.astimezone(self.timezone)
    celery.backends.base.datetime = Frozen  # Celery up to 5.4 does not ask the app for date_done
    Celery.thread_oid = property(lambda self: REPLY_TO)


caught = []


class Channel(kombu.transport.memory.Channel):
    def prepare_message(self, body, priority=None, content_type=None, content_encoding=None,
                        headers=None, properties=None):
        self.amqp_form = amqp.Message(
            body, priority=priority, content_type=content_type, content_encoding=content_encoding,
            application_headers=headers, **(properties or {}))
        return super().prepare_message(body, priority, content_type, content_encoding, headers, properties)

    def _put(self, queue, message, **kwargs):
        caught.append((dumps(message), self.amqp_form, message))


class Store(KeyValueStoreBackend):
    """A backend of the key/value kind, as Redis is one, without a server."""
    supports_result_compression = True
    implements_incr = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.data = {}

    def get(self, key):
        return self.data.get(key)

    def set(self, key, value):
        self.data[key] = value

    def _set_with_state(self, key, value, state):
        self.data[key] = value


def app(**conf):
    a = Celery('golden', broker='memory://', backend='disabled', set_as_current=True)
    kombu.transport.memory.Transport.Channel = Channel
    a.conf.update(dict(result_expires=3600, accept_content=['json', 'yaml', 'msgpack', 'pickle']), **conf)

    a._get_backend = lambda: Store(app=a)

    @a.task(name='proj.add', bind=True, shared=False)
    def add(self, *args, **kwargs):
        pass

    @a.task(name='proj.tsum', shared=False)
    def tsum(*args, **kwargs):
        pass

    @a.task(name='proj.errb', shared=False)
    def errb(*args):
        pass

    return a


# --- tasks ------------------------------------------------------------------------------------------

def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


class Received:
    """A message as a worker gets it from the Redis transport."""

    def __init__(self, envelope):
        from kombu.transport.virtual.base import Message
        from kombu.utils.json import loads
        self.message = Message(loads(envelope), channel=Channel_decode)
        self.message.accept = None


class Channel_decode:
    @staticmethod
    def decode_body(body, encoding=None):
        return base64.b64decode(body) if encoding == 'base64' else body


def request(a, envelope):
    m = Received(envelope).message
    m.accept = {'application/json', 'application/x-yaml', 'application/x-msgpack'}
    if m.errors:
        m._reraise_error()
    if 'task' in m.headers:
        payload = m.payload
        if 'args' in payload:
            body, headers, decoded, utc = strategy.hybrid_to_proto2(m, payload)
        else:
            body, headers, decoded, utc = m.body, m.headers, False, True
    elif 'args' in m.payload:
        body, headers, decoded, utc = strategy.hybrid_to_proto2(m, m.payload)
    else:
        body, headers, decoded, utc = strategy.proto1_to_proto2(m, m.payload)
    name = headers['task']
    return Request(m, app=a, hostname='w1@vm', task=a.tasks.get(name) or a.tasks['proj.add'], body=body,
                   headers=headers, decoded=decoded, utc=utc)


def iso(d):
    return d and d.astimezone(timezone.utc).isoformat()


def reading(a, envelope):
    r = request(a, envelope)
    args, kwargs, embed = r._payload
    c = r._context
    try:
        typed = {'args': dumps(args), 'kwargs': dumps(kwargs)}
    except Exception:
        typed = {'args': None, 'kwargs': None}  # yaml sets
    hard, soft = c.timelimit or (None, None)
    return dict(
        typed, name=r._type, display=r.name, id=r.id, root_id=c.root_id, parent_id=c.parent_id,
        group=c.group, group_index=c.group_index, retries=c.retries, eta=iso(r._eta), expires=iso(r._expires),
        expires_text=c.expires, hard=hard, soft=soft, ignore_result=r._request_dict.get('ignore_result'),
        nesting=c.replaced_task_nesting, stamped_headers=c.stamped_headers, stamps=dumps(c.stamps or {}),
        argsrepr=r._argsrepr, kwargsrepr=r._kwargsrepr, origin=c.origin, custom=dumps(c.headers or {}),
        callbacks=dumps(c.callbacks), errbacks=dumps(c.errbacks), chain=dumps(c.chain), chord=dumps(c.chord),
        correlation_id=c.correlation_id, reply_to=c.reply_to, delivery_info=r.delivery_info)


def record(name, send, **conf):
    a = app(**conf)
    caught.clear()
    send(a)
    envelope, form, message = caught[0]
    properties = {k: v for k, v in form.properties.items() if k != 'application_headers'}
    entry = {
        'name': name,
        'zone': str(conf.get('timezone', 'UTC')),
        'serializer': conf.get('task_serializer', 'json'),
        'compression': conf.get('task_compression', ''),
        'envelope': envelope,
        'amqp': {'properties': properties, 'headers': dumps(form.properties['application_headers'])},
        'body': b64(form.body),
        'reading': reading(a, envelope),
    }
    return entry


def delay(*args, **options):
    """A call by apply_async; sig(a) may be given for options that need the app."""
    kwargs = options.pop('kwargs', {})

    def send(a):
        made = {k: v(a) if callable(v) else v for k, v in options.items()}
        a.tasks['proj.add'].apply_async(args, kwargs, **dict({'task_id': TASK_ID}, **made))
    return send


def by_name(*args, **options):
    return lambda a: a.send_task('go.thumbnail', args, **dict({'task_id': TASK_ID}, **options))


def canvas(build):
    return lambda a: build(a.tasks['proj.add'], a.tasks['proj.tsum'], a.tasks['proj.errb']).apply_async()


def tasks():
    t = []

    def add(name, send, **conf):
        t.append(record(name, send, **conf))

    add('plain', delay(2, 3))
    add('no arguments', delay())
    add('keyword arguments', delay(1, kwargs={'y': 2, 'z': None, 'ünï': 'x'}))
    add('numbers', delay(0, -1, 3.0, 1e16, 1e-5, 0.1, 2**63, -2**63 - 1, 10**40, float('inf'), float('-inf'), True))
    add('not a number', delay(float('nan')))
    add('texts', delay('', 'é', '\U0001f600', '\x00\x1f"\\/', '<&>', '\u2028'))
    add('lone surrogate', delay('\ud800'))
    add('nested', delay([1, [2, [3, [4, {'a': {'b': [None]}}]]]], {'k': []}))
    add('typed', delay(datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc), datetime(2024, 1, 2, 3, 4, 5),
                       date(2024, 1, 2), clock(3, 4, 5, 6), Decimal('1.10'), UUID(int=7), b'ab', b'\x00\xff',
                       datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30)))))
    add('looks typed but has a third key', delay({'__type__': 'x', '__value__': 1, 'k': 2}))
    add('long text', delay('word ' * 500))
    add('by name', by_name(1, 'a'))
    add('by name, ignored', by_name(1, ignore_result=True))
    add('named queue without priority', delay(1, queue='cap'))
    add('priority', delay(1, priority=5))
    add('priority zero', delay(1, priority=0))
    add('shadow', delay(1, shadow='shadow.name'))
    add('countdown', delay(1, countdown=10))
    add('eta', delay(1, eta=NOW + timedelta(hours=1)))
    add('eta on a whole second', delay(1, eta=datetime(2026, 11, 21, 13, 0, 0, tzinfo=timezone.utc)))
    add('naive eta', delay(1, eta=datetime(2026, 11, 21, 13, 0, 0, 5)))
    add('expires', delay(1, expires=60))
    add('expires with a fraction', delay(1, expires=59.123))
    add('already expired', delay(1, expires=NOW - timedelta(seconds=5)))
    add('limits', delay(1, time_limit=30, soft_time_limit=20))
    add('soft limit only, with a fraction', delay(1, soft_time_limit=1.5))
    add('ignore_result', delay(1, ignore_result=True))
    add('custom headers', delay(1, headers={'X-Custom': 'v', 'n': 1 << 40, 'f': 1.0, 'l': [1, None]}))
    add('nested headers table', delay(1, headers={'a': 1, 'headers': {'sentry-trace': 'x', 'baggage': ''}}))
    add('limits are no custom headers', delay(1, headers={'time_limit': 5, 'soft_time_limit': 4, 'mine': 1}))
    add('beat', delay(1, headers={'celery_beat_task': True, 'periodic_task_name': 'p'}))
    add('replaced', delay(1, replaced_task_nesting=2, root_id='root', parent_id='parent'))
    add('retried before', delay(1, retries=3, root_id='root', parent_id='parent'))
    add('group member', delay(1, group_id='gid', group_index=2))
    add('own repr', delay(1, argsrepr='(secret)', kwargsrepr='{secret}'))
    add('timezone Berlin', delay(1, countdown=10, expires=60), timezone='Europe/Berlin')
    add('timezone New York', delay(1, countdown=10), timezone='America/New_York')
    add('link and link_error', delay(
        1, link=lambda a: a.tasks['proj.tsum'].s(), link_error=lambda a: [a.tasks['proj.errb'].s(), a.signature('x.y')]))
    add('stamped', delay(1, stamped_headers=['foo', 'other'], foo='bar', other=[1, 2]))
    add('stamped with nothing', delay(1, stamped_headers=[]))
    add('chain', canvas(lambda a, s, e: a.s(1, 2) | a.s(3) | a.si(4, 5)))
    add('chain of one after another', canvas(lambda a, s, e: chain(a.s(1), s.s().set(queue='cap', unknown_option=[1]))))
    add('chord', canvas(lambda a, s, e: chord([a.s(1, 2), a.s(3, 4)], s.s())))
    add('chain with a chord', canvas(lambda a, s, e: a.s(1, 2) | group(a.s(3), a.s(4)) | s.s()))
    add('group', canvas(lambda a, s, e: group(a.s(1), a.s(2))))
    add('msgpack', delay(1, 'é', None, 2.5, [1], {'a': 1}, b'\x00\xff', 2**63), task_serializer='msgpack')
    add('yaml', delay(1, 'é', None, 2.5, [1], {'b': 1, 'a': 2}, date(2024, 1, 2)), task_serializer='yaml')
    add('yaml with sets', delay({1, 2}), task_serializer='yaml')
    for codec in ('gzip', 'bzip2', 'lzma') + (('brotli', 'zstd') if NEWEST else ()):
        add('compressed by ' + codec, delay('x' * 100, list(range(50))), task_compression=codec)
    add('compressed msgpack', delay('x' * 100), task_compression='gzip', task_serializer='msgpack')
    add('protocol 1', delay(2, 3, countdown=10, expires=60, time_limit=5, link=lambda a: a.tasks['proj.tsum'].s(),
                            link_error=lambda a: a.tasks['proj.errb'].s()), task_protocol=1)
    add('protocol 1 in a group', delay(2, 3, group_id='gid', group_index=1), task_protocol=1)
    # The forms below are what other clients send; Celery has no producer for them, but reads them.
    add('protocol 1 without args', raw(
        {'task': 'proj.add', 'id': TASK_ID, 'kwargs': {'x': 1}, 'taskset': 'gid', 'group_index': 3, 'utc': True,
         'retries': 1}, {'mine': 1}))
    add('hybrid: task header, old body', raw(
        {'task': 'body.task', 'id': 'body-id', 'args': [1], 'kwargs': {'k': 2}, 'taskset': 'lost', 'group_index': 3},
        {'task': 'proj.add', 'id': TASK_ID, 'mine': 1}))
    add('least headers', raw([[1], {}, None], {'task': 'proj.add', 'id': TASK_ID}))
    add('all null', raw([[1], {}, {}], dict.fromkeys(
        ['shadow', 'eta', 'expires', 'group', 'group_index', 'timelimit', 'root_id', 'parent_id', 'argsrepr',
         'kwargsrepr', 'origin', 'ignore_result', 'stamped_headers', 'stamps'], None, ) | {
             'task': 'proj.add', 'id': TASK_ID}))
    add('empty timelimit', raw([[1], {}, {}], {'task': 'proj.add', 'id': TASK_ID, 'timelimit': []}))
    add('stamp not declared', raw([[1], {}, {}], {
        'task': 'proj.add', 'id': TASK_ID, 'stamped_headers': ['a'], 'stamps': {'a': 1, 'b': 2}}))
    add('args is a text', raw(['aé', {}, {}], {'task': 'proj.add', 'id': TASK_ID}))
    add('dead-lettered and restored', raw([[1], {}, {}], {
        'task': 'proj.add', 'id': TASK_ID, 'redelivered': True, 'keep': 1, 'x-first-death-queue': 'q',
        'x-death': [{'count': 1, 'queue': 'q', 'time': datetime(2026, 1, 2, 3, 4, 5)}]}))
    return t


def raw(body, headers):
    def send(a):
        with a.producer_pool.acquire() as p:
            p.publish(body, serializer='json', routing_key='celery', exchange='', headers=headers,
                      correlation_id=TASK_ID, reply_to=REPLY_TO)
    return send


# --- messages nobody may run -------------------------------------------------------------------------

def refused():
    """What Celery 5.7 makes of them. "crash" is any exception it does not foresee: its worker dies."""
    out = []

    def add(name, body, headers, want=None, **kw):
        a = app()
        caught.clear()
        with a.producer_pool.acquire() as p:
            p.publish(body, routing_key='celery', exchange='', headers=dict(headers),
                      **dict({'serializer': 'json', 'correlation_id': TASK_ID}, **kw))
        envelope = caught[0][0]
        try:
            request(a, envelope)
            kind = 'runs'
        except InvalidTaskError:
            kind = 'invalid'
        except ContentDisallowed:
            kind = 'refused'
        except Exception as exc:
            kind = 'crash: ' + type(exc).__name__
        out.append({'name': name, 'envelope': envelope, 'celery': kind})

    head = {'task': 'proj.add', 'id': TASK_ID}
    good = [[1], {}, {}]
    json = {'serializer': None, 'content_type': 'application/json', 'content_encoding': 'utf-8'}
    for name, value in [('a number', 5), ('zero', 0), ('empty', ''), ('junk', 'tomorrow'), ('a list', []), ('true', True)]:
        add('eta is ' + name, good, head | {'eta': value})
        add('expires is ' + name, good, head | {'expires': value})
    for name, value in [('junk', 'x'), ('one element', [1]), ('three elements', [1, 2, 3])]:
        add('timelimit is ' + name, good, head | {'timelimit': value})
    add('no id', good, {'task': 'proj.add'})
    add('null id', good, head | {'id': None})
    add('integer id', good, head | {'id': 5})
    add('no task name', good, {'task': None, 'id': TASK_ID})
    add('null body', 'null', head, **json)
    add('empty body', '', head, **json)
    add('two elements', [[1], {}], head)
    add('four elements', [[1], {}, {}, {}], head)
    add('body is a number', '7', head, **json)
    add('args null', [None, {}, {}], head)
    add('kwargs null', [[1], None, {}], head)
    add('kwargs a list', [[1], [], {}], head)
    add('embed a list', [[1], {}, [1]], head)
    add('not json', '[[1], {}', head, **json)
    add('unknown typed value', '[[{"__type__": "nope", "__value__": 1}], {}, {}]', head, **json)
    add('byte order mark', b'\xef\xbb\xbf[[1], {}, {}]', head, **json)
    add('pickle', good, head, serializer='pickle')
    add('content type with a parameter', dumps(good), head, serializer=None,
        content_type='application/json; charset=utf-8', content_encoding='utf-8')
    add('application/data', dumps(good), head, serializer=None, content_type='application/data', content_encoding='utf-8')
    add('unknown compression', good, head | {'compression': 'application/nope'})
    add('not what the compression says', good, head | {'compression': 'application/x-gzip'})
    add('neither header nor body names a task', {'hello': 1}, {})
    add('a list without a task header', good, {})
    add('protocol 1 with kwargs null', {'task': 'proj.add', 'id': TASK_ID, 'args': [], 'kwargs': None}, {})
    return out


# --- retries ----------------------------------------------------------------------------------------

def retries(entries):
    out = []
    by = {e['name']: e for e in entries}

    def add(name, of, ignore=None, **options):
        a = app()
        if ignore is not None:
            a.tasks['proj.add'].ignore_result = ignore
        r = request(a, by[of]['envelope'])
        args, kwargs, embed = r._payload
        c = Context(r._request_dict | (embed or {}), args=args, kwargs=kwargs, called_directly=False)
        c.delivery_info = r.delivery_info
        task = a.tasks['proj.add']
        caught.clear()
        _task_stack.push(task)
        task.request_stack.push(c)
        try:
            task.retry(throw=False, max_retries=99, **options)
        finally:
            task.request_stack.pop()
            _task_stack.pop()
        eta = options.get('eta') or (options.get('countdown') and NOW + timedelta(seconds=options['countdown']))
        out.append({'name': name, 'of': of, 'eta': iso(eta) if eta else None, 'envelope': caught[0][0]})

    add('plain', 'plain', countdown=10)
    add('at once', 'plain', countdown=0)
    add('at an eta', 'plain', eta=NOW + timedelta(hours=2))
    for of in ('priority', 'named queue without priority', 'shadow', 'countdown', 'expires', 'limits',
               'soft limit only, with a fraction', 'ignore_result', 'custom headers', 'nested headers table', 'beat',
               'limits are no custom headers', 'replaced', 'retried before', 'group member', 'own repr', 'timezone Berlin',
               'link and link_error', 'stamped', 'chain', 'chord', 'msgpack', 'yaml', 'compressed by gzip',
               'protocol 1', 'protocol 1 without args', 'hybrid: task header, old body', 'least headers', 'all null',
               'stamp not declared', 'dead-lettered and restored', 'already expired', 'typed'):
        add('of ' + of, of, countdown=10)
    add('of a task that ignores results', 'all null', ignore=True, countdown=10)
    return out


# --- results ----------------------------------------------------------------------------------------

class Outer:
    class Inner(Exception):
        pass


Outer.Inner.__module__ = 'myapp.errors'
Outer.Inner.__name__, Outer.Inner.__qualname__ = 'DoesNotExist', 'Book.DoesNotExist'

TRACEBACK = 'Traceback (most recent call last):\n  File "/x.py", line 1, in f\nValueError: boom\n'


def results():
    out = []

    def add(name, state, value=None, traceback=None, request=None, stored=None, **conf):
        a = app(**conf)
        ctx = None
        if request is not False:
            ctx = Context(dict({'id': TASK_ID, 'task': 'proj.add', 'args': [1, 'é'], 'kwargs': {'k': 2.0}, 'hostname': 'w1@vm',
                                'retries': 2, 'delivery_info': {'routing_key': 'celery'}}, **(request or {})))
        b = a.backend
        serializer = conf.get('result_serializer', 'json')
        b.store_result(TASK_ID, value, state, traceback=traceback, request=ctx)
        data = b.get(b.get_key_for_task(TASK_ID))
        entry = {'name': name, 'serializer': serializer, 'compression': conf.get('result_compression', ''),
                 'zone': conf.get('timezone', 'UTC'), 'data': b64(data), 'state': state, 'traceback': traceback}
        if isinstance(value, BaseException):
            entry['exception'] = {'type': type(value).__qualname__, 'module': type(value).__module__,
                                  'repr': repr(value), 'str': str(value)}
            try:
                entry['exception']['args'] = dumps(value.args)
            except Exception:
                entry['exception']['args'] = None
        else:
            try:
                entry['value'] = dumps(value)
            except Exception:
                entry['value'] = None
        out.append(entry)

    add('success', 'SUCCESS', 3)
    for name, value in [('null', None), ('float', 3.0), ('huge', 10**40), ('not a number', float('nan')),
                        ('infinity', float('-inf')), ('text', 'é\U0001f600<&>\ud800'), ('list', [1, [2.5, None]]),
                        ('dict', {'b': 1, 'a': {'c': []}}),
                        ('typed', [datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc), Decimal('1.10'), UUID(int=7), b'\xff'])]:
        add('success with ' + name, 'SUCCESS', value)
    add('in Oslo', 'SUCCESS', 1, timezone='Europe/Oslo')
    add('in a group with a parent', 'SUCCESS', 1, request={'group': 'gid', 'parent_id': 'pid'})
    child = [['4f8d', None], None]
    add('with children', 'SUCCESS', 1, request={'_children': [Tuple(child), Tuple([['f012', None], [child]])]})
    add('without a request', 'REVOKED', TaskRevokedError('revoked'), request=False)
    add('started', 'STARTED', {'pid': 27793, 'hostname': 'w1@vm'})
    add('progress', 'PROGRESS', {'done': 1, 'total': 5})
    add('retry without a cause', 'RETRY', None, 'Traceback\n')
    add('retry', 'RETRY', ValueError('later'), 'Traceback\n', request={'_children': [Tuple([[TASK_ID, None], None])]})
    for exc in [ValueError('boom', 42), KeyError('k'), RuntimeError(), ValueError(''), ValueError('a\nb\\c\'d'), ValueError(2.5),
                ValueError("it's"), ValueError('é\x00\u200b'), ValueError(None), ValueError([1, 'a'], {'k': True}),
                FileNotFoundError(2, 'nope', '/x'), OSError(2, 'nope'), Outer.Inner('x'), NotRegistered('nosuch.h'),
                SoftTimeLimitExceeded(), TimeLimitExceeded(1), TimeLimitExceeded(2.5), WorkerLostError('gone'),
                MaxRetriesExceededError("Can't retry"), InvalidTaskError('bad'), Reject('no', False), Reject(None, True),
                EncodeError(TypeError('Object of type set is not JSON serializable')), ValueError(b'\x00'), ZeroDivisionError('division by zero')]:
        add('failure ' + repr(exc), 'FAILURE', exc, TRACEBACK)
    add('failure with a set', 'FAILURE', ValueError({1}, 'x'), TRACEBACK)
    for reason in ('revoked', 'expired', 'terminated'):
        add(reason, 'REVOKED', TaskRevokedError(reason))
    extended = {'result_extended': True}
    add('extended', 'SUCCESS', 6, **extended)
    add('extended and stamped', 'SUCCESS', 6, request={
        'stamped_headers': ['l', 'foo'], 'stamps': {'l': [1, 2], 'foo': 'bar', 'undeclared': 1}}, **extended)
    add('extended failure in a group', 'FAILURE', ValueError('x'), TRACEBACK, request={'group': 'gid', 'parent_id': 'p'}, **extended)
    for serializer in ('msgpack', 'yaml'):
        conf = {'result_serializer': serializer, 'result_accept_content': [serializer]}
        add(serializer + ' success', 'SUCCESS', {'b': [1, 2.5, None, 'é'], 'a': True}, **conf)
        add(serializer + ' failure', 'FAILURE', ValueError('boom', 42), TRACEBACK, **conf)
        add(serializer + ' failure with a date', 'FAILURE', ValueError(datetime(2024, 1, 2, 3, 4, 5)), **conf)
        add(serializer + ' extended', 'SUCCESS', 'x', **(conf | extended))
        add(serializer + ' text', 'SUCCESS', 'yes: no', **conf)
    if NEWEST:
        for codec in ('gzip', 'bzip2', 'lzma', 'brotli', 'zstd'):
            add('compressed by ' + codec, 'SUCCESS', 'x' * 200, result_compression=codec)
        add('compressed msgpack', 'SUCCESS', 'x' * 200, result_compression='gzip', result_serializer='msgpack',
            result_accept_content=['msgpack'])
    return out


class Tuple:
    """Stands for a result object in request.children."""

    def __init__(self, value):
        self.value = value

    def as_tuple(self):
        return self.value


# --- main -------------------------------------------------------------------------------------------

def versions():
    found = {'python': platform.python_version()}
    for package in ('celery', 'kombu', 'amqp', 'billiard', 'msgpack', 'PyYAML', 'Brotli', 'backports.zstd'):
        try:
            found[package.lower()] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def main():
    freeze()
    entries = tasks()
    doc = {
        'versions': versions(),
        'now': iso(NOW),
        'tasks': entries,
        'refused': refused(),
        'retries': retries(entries),
        'results': results(),
    }
    import json
    where = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'protocol', 'testdata', 'golden')
    os.makedirs(where, exist_ok=True)
    path = os.path.join(where, f'celery-{VERSION}.json')
    with open(path, 'w') as f:
        json.dump(doc, f, indent=1)
        f.write('\n')
    print(f'{os.path.relpath(path)}: {len(entries)} tasks, {len(doc["retries"])} retries, {len(doc["results"])} results')


if __name__ == '__main__':
    sys.exit(main())
