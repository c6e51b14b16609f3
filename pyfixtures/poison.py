"""Malformed task messages, the same ones each time, and what a worker makes of each.

A message is a Case: a name, what it is made of, and where it can be sent. Each is followed by a good task through
the same queue. Afterwards it has either been kept whole in quarantine, or its caller has been told, or both, or it has
run: poison.tsv says which.
"""
import base64
import bz2
import json
import lzma
import pickle
import struct
import time
import zlib
from urllib.parse import urlparse

import amqp

JUNK = [("number", 5), ("negative", -1), ("fraction", 1.5), ("true", True), ("empty", ""), ("text", "x"), ("list", []), ("numbers", [1]), ("object", {}),
        ("members", {"a": 1}), ("huge", 2 ** 70), ("deep", [[[[[[[[[[["x"]]]]]]]]]]]), ("long", "y" * 5000), ("nul", "\x00\n\x1b[31m")]
OWN_IDS = ("i" * 255, "i" * 256, "a\nb\x00", "../../etc/passwd", "*", " ", *(v for _, v in JUNK if isinstance(v, str) and v))
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
JSON = "application/json"


def dumps(v):
    return json.dumps(v).encode()


class Case:
    def __init__(self, name, body=None, raw=None, content_type=JSON, content_encoding="utf-8", headers=True, drop=(), key="", **changes):
        self.name, self.body, self.raw, self.content_type, self.content_encoding = name, body, raw, content_type, content_encoding
        self.headers, self.drop, self.changes, self.key = headers, drop, changes, key

    def make(self, run, n):
        self.id = "%s-%d" % (run, n)
        if self.headers is True:
            self.headers = {"lang": "py", "task": "demo.echo", "id": self.id, "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None, "retries": 0,
                            "timelimit": [None, None], "root_id": self.id, "parent_id": None, "argsrepr": "(1,)", "kwargsrepr": "{}", "origin": "x@y", "ignore_result": False,
                            "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}}
            self.headers.update(self.changes)
            for key in self.drop:
                del self.headers[key]
        if callable(self.body):
            self.body = self.body(self.id)
            told = json.loads(self.body).get("id")
        else:
            told = (self.headers or {}).get("id")
        if isinstance(told, str) and told:  # who waits for that
            self.id = told
        if self.body is None:
            self.body = dumps([[1], {}, EMBED])
        return self


def common():
    """What both brokers can carry."""
    names = "lang task id shadow eta expires group group_index retries timelimit root_id parent_id argsrepr kwargsrepr origin ignore_result replaced_task_nesting stamped_headers stamps".split()
    for key in names:
        yield Case("header %s missing" % key, drop=(key,))
        yield Case("header %s null" % key, **{key: None})
        for what, junk in JUNK:
            if key == "replaced_task_nesting" and what == "true" or key == "lang" and what not in ("number", "object"):
                continue
            yield Case("header %s %s" % (key, what), **{key: junk})
    for what, eta in (("year 0", "0000-01-01T00:00:00"), ("month 13", "2024-13-01T00:00:00"), ("far", "9999-12-31T23:59:59+00:00"), ("offset", "2024-01-01T00:00:00+99:99"), ("date", "2024-01-01"),
                      ("space", "2024-01-01 00:00:00"), ("zone name", "2024-01-01T00:00:00 Europe/Berlin"), ("nanoseconds", "2024-01-01T00:00:00.123456789Z"), ("words", "tomorrow"), ("cut", "2024-01-01T00:"),
                      ("arabic digits", "\u0662\u0660\u0662\u0664-01-01T00:00:00"), ("epoch text", "1700000000")):
        yield Case("eta " + what, eta=eta)
        yield Case("expires " + what, expires=eta)
    for what, limit in (("one", [1]), ("three", [1, 2, 3]), ("texts", ["a", "b"]), ("negative", [-5, -5]), ("huge", [1e300, 2 ** 70]), ("objects", [{}, []]), ("object", {"hard": 1})):
        yield Case("timelimit " + what, timelimit=limit)
    for what, name in (("unknown", "no.such.task"), ("builtin", "builtins.eval"), ("long", "t" * 20000), ("control", "a\x00b\nc\x1b"), ("unicode", "h\u00e5\U0001f600"), ("blank", " ")):
        yield Case("task " + what, task=name)
    for what, id in zip(("255", "256", "controls", "path", "glob", "blank"), OWN_IDS):
        yield Case("id " + what, id=id)
    yield Case("no headers", headers=None)
    yield Case("empty headers", headers={})
    yield Case("many headers", **{"k%d" % i: i for i in range(1000)})
    yield Case("large header", extra="x" * 60000)

    good = dumps([[1], {}, EMBED])
    bodies = [
        ("empty", b""), ("null", b"null"), ("list", b"[]"), ("one", b"[1]"), ("two", b"[[1], {}]"), ("four", b"[[1], {}, {}, {}]"), ("object", b"{}"), ("number", b"17"), ("text", b'"text"'), ("swapped", b"[{}, [], {}]"),
        ("args text", b'["ab", {}, {}]'), ("args null", b"[null, {}, {}]"), ("args number", b"[5, {}, {}]"), ("args object", b'[{"a": 1}, {}, {}]'), ("kwargs null", b"[[], null, {}]"), ("kwargs list", b"[[], [], {}]"),
        ("kwargs text", b'[[], "x", {}]'), ("embed list", b"[[], {}, []]"), ("embed number", b"[[], {}, 5]"), ("embed text", b'[[], {}, "x"]'), ("embed null", b"[[], {}, null]"), ("embed missing keys", b"[[], {}, {}]"),
        ("trailing", good + b"x"), ("two documents", good + good), ("leading", b"x" + good), ("bom", b"\xef\xbb\xbf" + good), ("utf16", good.decode().encode("utf-16")), ("latin1", b'[["\xe5"], {}, {}]'),
        ("invalid utf8", b'[["\xff\xfe"], {}, {}]'), ("overlong", b'[["\xc0\xaf"], {}, {}]'), ("surrogate", b'[["\\ud800"], {}, {}]'), ("nul", b"\x00" + good), ("raw control", b'[["\x01"], {}, {}]'), ("nan", b"[[NaN, Infinity, -Infinity], {}, {}]"),
        ("1e999", b"[[1e999], {}, {}]"), ("digits", b"[[" + b"9" * 5000 + b"], {}, {}]"), ("4300 digits", b"[[" + b"9" * 4300 + b"], {}, {}]"), ("minus", b"[[-], {}, {}]"), ("leading zero", b"[[01], {}, {}]"), ("hex", b"[[0x1], {}, {}]"),
        ("single quotes", b"[['a'], {}, {}]"), ("comment", b"[[1], /* x */ {}, {}]"), ("comma", b"[[1,], {}, {}]"), ("twice", b'[[], {"a": 1, "a": 2}, {}]'), ("number key", b"[[], {1: 2}, {}]"), ("deep 300", b"[[" + b"[" * 300 + b"]" * 300 + b"], {}, {}]"),
        ("deep 401", b"[[" + b"[" * 401 + b"]" * 401 + b"], {}, {}]"), ("deep 100000", b"[" * 100000), ("deep objects", b'{"a":' * 100000), ("bad escape", b'[["\\q"], {}, {}]'), ("cut escape", b'[["\\u12"], {}, {}]'),
        ("typed junk", b'[[{"__type__": "datetime", "__value__": "junk"}], {}, {}]'), ("typed unknown", b'[[{"__type__": "os.system", "__value__": "x"}], {}, {}]'), ("typed number", b'[[{"__type__": 5, "__value__": {}}], {}, {}]'),
        ("typed decimal", b'[[{"__type__": "decimal", "__value__": "1e99999999"}], {}, {}]'), ("typed bytes", b'[[{"__type__": "bytes", "__value__": "!!"}], {}, {}]'), ("typed uuid", b'[[{"__type__": "uuid", "__value__": {"hex": "x", "version": 9}}], {}, {}]'),
        ("pickle", pickle.dumps([[1], {}, {}])), ("python", b"[[1], {}, None]"), ("xml", b"<a/>"), ("2 MB text", b'[["' + b"x" * 2_000_000 + b'"], {}, {}]'), ("100000 lists", b"[[" + b"[]," * 99999 + b"[]], {}, {}]"),
        ("spaces", b" " * 100000 + good), ("only spaces", b" " * 1000),
    ]
    for at in range(1, len(good), 6):
        bodies.append(("cut at %d" % at, good[:at]))
    for what, body in bodies:
        yield Case("body " + what, body)
    for at, flip in [(i, b) for i in range(0, 30, 3) for b in (0x80, 0x20)]:
        body = bytearray(good)
        body[at] ^= flip
        yield Case("body flip %d %02x" % (at, flip), bytes(body))

    signature = {"task": "demo.echo", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    for key in EMBED:
        for what, junk in JUNK:
            yield Case("embed %s %s" % (key, what), dumps([[1], {}, {**EMBED, key: junk}]))
        for what, sig in (("empty", {}), ("number", 5), ("null", None), ("task number", {**signature, "task": 5}), ("task null", {**signature, "task": None}), ("args text", {**signature, "args": "ab"}), ("args null", {**signature, "args": None}),
                          ("kwargs list", {**signature, "kwargs": [1]}), ("options list", {**signature, "options": []}), ("options junk", {**signature, "options": {"task_id": {}, "queue": 5, "countdown": "x"}}),
                          ("subtask_type", {**signature, "subtask_type": "nonsense"}), ("group without tasks", {**signature, "subtask_type": "group", "task": "celery.group"}), ("chain number", {**signature, "subtask_type": "chain", "task": "celery.chain", "kwargs": {"tasks": 5}}),
                          ("chord empty", {**signature, "subtask_type": "chord", "task": "celery.chord", "kwargs": {}})):
            yield Case("embed %s of %s" % (key, what), dumps([[1], {}, {**EMBED, key: sig if key == "chord" else [sig]}]), **({"group": "g-" + what} if key == "chord" else {}))
    yield Case("arguments too many", dumps([[1, 2, 3, 4], {}, EMBED]), task="diff.add")
    yield Case("arguments unknown", dumps([[], {"z": 1}, EMBED]), task="diff.add")
    yield Case("arguments twice", dumps([[1], {"x": 1}, EMBED]), task="diff.add")
    yield Case("arguments of another type", dumps([["a", {}], {}, EMBED]), task="diff.add")
    yield Case("arguments overflow", dumps([[2 ** 63, 1], {}, EMBED]), task="diff.add")
    for task in ("celery.map", "celery.starmap", "celery.chunks", "celery.group", "celery.chain", "celery.chord", "celery.accumulate"):
        for what, args in (("none", []), ("number", [5]), ("nulls", [None, None]), ("objects", [{}, {}]), ("wrong task", [{"task": "no.such"}, [1]])):
            yield Case("%s of %s" % (task, what), dumps([args, {}, EMBED]), task=task)

    for what, content_type in (("none", None), ("empty", ""), ("plain", "text/plain"), ("charset", "application/json; charset=utf-8"), ("case", "Application/JSON"), ("data", "application/data"), ("text", "application/text"), ("octets", "application/octet-stream"),
                               ("long", "x" * 255), ("pickle", "application/x-python-serialize"), ("control", "a\nb"), ("auth", "application/auth"), ("msgpack of json", "application/x-msgpack"), ("yaml of json", "application/x-yaml")):
        yield Case("content type " + what, content_type=content_type)
    yield Case("pickle", pickle.dumps([[1], {}, {}]), content_type="application/x-python-serialize", content_encoding="binary")
    yield Case("pickle of evil", b"cos\nsystem\n(S'true'\ntR.", content_type="application/x-python-serialize", content_encoding="binary")
    for encoding in (None, "", "utf-16", "binary", "latin-1", "nonsense", "ascii", "us-ascii", "base64"):
        yield Case("content encoding %s" % encoding, content_encoding=encoding)

    codecs = {"zlib": ("application/x-gzip", zlib.compress), "bzip2": ("application/x-bz2", bz2.compress), "lzma": ("application/x-lzma", lzma.compress)}
    for codec, (content_type, compress) in codecs.items():
        packed = compress(good)
        yield Case(codec, packed, compression=content_type)
        for what, data in (("cut", packed[:-5]), ("half", packed[:len(packed) // 2]), ("head", packed[:4]), ("empty", b""), ("none", good), ("trailing", packed + b"junk"), ("flipped", packed[:9] + bytes([packed[9] ^ 0xff]) + packed[10:]), ("of nothing", compress(b"")),
                           ("of junk", compress(b"junk")), ("twice", compress(packed)), ("deep", compress(b"[" * 10_000_000))):
            yield Case("%s %s" % (codec, what), data, compression=content_type)
    # Of what Python has no module for everywhere: [[1], {}, {}].
    for codec, content_type, packed in (("brotli", "application/x-brotli", base64.b64decode("CwaAW1sxXSwge30sIHt9XQM=")), ("zstd", "application/zstd", base64.b64decode("KLUv/SQNaQAAW1sxXSwge30sIHt9XXzZI08="))):
        for what, data in (("", packed), (" cut", packed[:-3]), (" head", packed[:4]), (" empty", b""), (" none", good), (" trailing", packed + b"junk"), (" flipped", packed[:6] + bytes([packed[6] ^ 0xff]) + packed[7:]),
                           (" huge", b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 if codec == "zstd" else b"\xff" * 50)):
            yield Case(codec + what, data, compression=content_type)
    for what, compression in (("unknown", "application/x-nonsense"), ("number", 5), ("list", ["zlib"]), ("object", {}), ("long", "z" * 1000)):
        yield Case("compression " + what, compression=compression)

    for what, text in (("laughs", b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 110))), ("object", b"!!python/object/apply:os.system ['true']"), ("name", b"- [!!python/name:os.system ]\n- {}\n- {}"),
                       ("cycle", b"&a [*a, {}, {}]"), ("tabs", b"-\t[1]\n\t- {}"), ("unclosed", b"[[1], {}, {"), ("number keys", b"[[], {1: 2}, {}]"), ("no alias", b"[*nobody, {}, {}]"), ("two documents", b"--- [[1], {}, {}]\n--- 5"), ("directive", b"%YAML 9.9\n--- [[1], {}, {}]"),
                       ("binary", b"[[!!binary '!!!'], {}, {}]"), ("timestamp", b"[[2024-99-99], {}, {}]"), ("control", b"[[\x01], {}, {}]"), ("sexagesimal", b"[[1:60:61], {}, {}]"), ("merge", b"- [1]\n- {<<: 5}\n- {}"), ("set", b"[!!set {1, 2}, {}, {}]"), ("deep", b"[" * 50000), ("many", b"- " * 100000),
                       ("good", b"[[1], {}, {}]"), ("empty", b""), ("invalid utf8", b"[[\xff], {}, {}]")):
        yield Case("yaml " + what, text, content_type="application/x-yaml")
    for what, data in (("huge list", b"\xdd\xff\xff\xff\xff"), ("huge map", b"\xdf\xff\xff\xff\xff"), ("huge text", b"\xdb\xff\xff\xff\xff"), ("huge bytes", b"\xc6\xff\xff\xff\xff"), ("huge ext", b"\xc9\xff\xff\xff\xff\x01"), ("never used", b"\xc1"), ("empty", b""), ("cut", b"\x93\x91\x01"),
                       ("deep", b"\x91" * 100000), ("trailing", b"\x93\x91\x01\x80\x80\x01"), ("number key", b"\x93\x91\x01\x81\x01\x02\x80"), ("bytes key", b"\x93\x91\x01\x81\xc4\x01a\x02\x80"), ("invalid utf8", b"\x93\x91\xa1\xff\x80\x80"), ("ext", b"\x93\x91\xd4\x05\x00\x80\x80"),
                       ("timestamp", b"\x93\x91\xd6\xff\xff\xff\xff\xff\x80\x80"), ("cut timestamp", b"\x93\x91\xd4\xff\x00\x80\x80"), ("good", b"\x93\x91\x01\x80\x80"), ("map", b"\x80"), ("nil", b"\xc0"), ("million", b"\xdd\x00\x0f\x42\x40" + b"\xc0" * 1_000_000)):
        yield Case("msgpack " + what, data, content_type="application/x-msgpack", content_encoding="binary")

    # Protocol 1: the body says everything.
    def old(**changes):
        def make(id):
            body = {"id": id, "task": "demo.echo", "args": [1], "kwargs": {}, "retries": 0, "eta": None, "expires": None, "utc": True, "callbacks": None, "errbacks": None, "timelimit": [None, None], "taskset": None, "chord": None}
            body.update(changes)
            return dumps({k: v for k, v in body.items() if v is not old})
        return make
    yield Case("v1", old(), headers={})
    for key in "id task args kwargs retries eta expires utc callbacks errbacks timelimit taskset chord".split():
        yield Case("v1 %s missing" % key, old(**{key: old}), headers={})
        for what, junk in JUNK[:11]:
            yield Case("v1 %s %s" % (key, what), old(**{key: junk}), headers={})
    yield Case("v1 without headers", old(), headers=None)
    for what, body in bodies[:10]:
        yield Case("v1 body " + what, body, headers={})


def envelopes():
    """Redis: elements of the list that are no message of Kombu's, whole or in part. They are sent as they are."""
    def envelope(drop=(), **changes):
        e = {"body": base64.b64encode(dumps([[1], {}, EMBED])).decode(), "content-encoding": "utf-8", "content-type": JSON, "headers": {"task": "demo.echo", "id": "ID", "lang": "py"},
             "properties": {"delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "t", "correlation_id": "ID", "reply_to": "r"}}
        for key, value in changes.items():
            where = e
            *path, last = key.split("__")
            for step in path:
                where = where[step]
            where[last.replace("_", "-") if last.startswith("content_") else last] = value
        for key in drop:
            where = e
            *path, last = key.split("__")
            for step in path:
                where = where[step]
            del where[last.replace("_", "-") if last.startswith("content_") else last]
        return dumps(e)
    whole = envelope()
    for what, raw in (("empty", b""), ("null", b"null"), ("list", b"[]"), ("number", b"17"), ("object", b"{}"), ("brace", b"{"), ("text", b'"x"'), ("bytes", b"\xff\xfe\x00"), ("deep", b"[" * 100000), ("2 MB", b"x" * 2_000_000), ("body only", b'{"body": 1}'), ("nul", b"\x00" * 1000),
                      ("trailing", whole + b"x"), ("bom", b"\xef\xbb\xbf" + whole), ("utf16", whole.decode().encode("utf-16")), ("crlf", b"\r\n" + whole + b"\r\n"), ("gzip", zlib.compress(whole)), ("pickle", pickle.dumps({"body": b"x"})), ("nan", whole.replace(b'"priority": 0', b'"priority": NaN')),
                      ("twice", whole[:-1] + b', "body": 5}'), ("headers twice", whole[:-1] + b', "headers": {}}'), ("invalid utf8", whole.replace(b"demo.echo", b"demo.\xff\xfe")), ("surrogate", whole.replace(b"demo.echo", b"demo.\\ud800")), ("escape", whole.replace(b"demo.echo", b"demo.\\q")), ("as an array", b"[" + whole + b"]")):
        yield Case("element " + what, raw=raw)
    for at in range(5, len(whole), len(whole) // 25):
        yield Case("element cut at %d" % at, raw=whole[:at])
    for key in ("body", "content_encoding", "content_type", "headers", "properties", "headers__task", "headers__id", "properties__delivery_mode", "properties__delivery_info", "properties__priority", "properties__body_encoding", "properties__delivery_tag",
                "properties__correlation_id", "properties__reply_to", "properties__delivery_info__exchange", "properties__delivery_info__routing_key"):
        yield Case("envelope %s missing" % key, raw=envelope(drop=(key,)))
        for what, junk in JUNK[:10] + [("null", None)]:
            if key.startswith("headers__"):
                continue
            yield Case("envelope %s %s" % (key, what), raw=envelope(**{key: junk}))
    for what, body in (("no base64", "!!!!"), ("cut base64", "W1sxXSw"), ("base64 with breaks", "W1sx\nXSwge30sIHt9XQ=="), ("url base64", "_-_-"), ("unicode", "h\u00e5")):
        yield Case("envelope body " + what, raw=envelope(body=body))
    for what, encoding in (("hex", "hex"), ("gzip", "gzip"), ("long", "b" * 10000)):
        yield Case("envelope body_encoding " + what, raw=envelope(properties__body_encoding=encoding))
    for what, priority in (("99", 99), ("-7", -7), ("3", 3), ("text", "high"), ("huge", 2 ** 80)):
        yield Case("envelope priority " + what, raw=envelope(properties__priority=priority))
    yield Case("redelivered junk", raw=envelope(headers__redelivered="often", properties__delivery_info__redelivered={"a": 1}))
    yield Case("other list", raw=b"junk", key="\x06\x163")
    yield Case("last list", raw=whole, key="\x06\x169")


def frames():
    """RabbitMQ: header tables and body frames, written by hand: table and parts of the body."""
    def short(s):
        return bytes([len(s)]) + s

    def long(s):
        return struct.pack(">I", len(s)) + s

    def entry(key, value):
        return short(key) + value
    good = dumps([[1], {}, EMBED])
    task = entry(b"task", b"S" + long(b"demo.echo")) + entry(b"lang", b"S" + long(b"py"))
    values = {
        "t": b"\x02", "b": b"\x80", "B": b"\xff", "s": b"\x80\x00", "u": b"\xff\xff", "I": b"\x80\x00\x00\x00", "i": b"\xff\xff\xff\xff", "l": b"\x80" + b"\x00" * 7, "f": b"\x7f\x7f\xff\xff", "d": b"\x7f\xef" + b"\xff" * 6, "D": b"\xff\xff\xff\xff\xff",
        "S": long(b"\xff\xfe\x00"), "x": long(b"\x00\x01"), "T": struct.pack(">Q", 1 << 32), "V": b"", "F": long(b""), "A": long(b""),
    }
    for kind, data in values.items():
        yield "field " + kind, task + entry(b"id", b"S" + long(b"ID")) + entry(b"retries", kind.encode() + data), [good]
        yield "id as " + kind, task + entry(b"id", kind.encode() + data), [good]
    deep = b""
    for _ in range(100):
        deep = entry(b"a", b"F" + long(deep))
    yield "tables deep", task + entry(b"id", b"S" + long(b"ID")) + deep, [good]
    deep = b"V"
    for _ in range(100):
        deep = b"A" + long(deep)
    yield "arrays deep", task + entry(b"id", b"S" + long(b"ID")) + entry(b"a", deep), [good]
    yield "key empty", task + entry(b"id", b"S" + long(b"ID")) + entry(b"", b"V"), [good]
    yield "key of bytes", task + entry(b"id", b"S" + long(b"ID")) + entry(b"\xff\x00\n", b"V"), [good]
    yield "key twice", task + entry(b"id", b"S" + long(b"ID")) + entry(b"task", b"V"), [good]
    yield "key longest", task + entry(b"id", b"S" + long(b"ID")) + entry(b"k" * 255, b"V"), [good]
    yield "thousands", task + entry(b"id", b"S" + long(b"ID")) + b"".join(entry(b"k%d" % i, b"V") for i in range(9000)), [good]
    yield "100 kB", task + entry(b"id", b"S" + long(b"ID")) + entry(b"big", b"S" + long(b"x" * 100_000)), [good]
    yield "array of everything", task + entry(b"id", b"S" + long(b"ID")) + entry(b"a", b"A" + long(b"".join(k.encode() + v for k, v in values.items()))), [good]
    ok = task + entry(b"id", b"S" + long(b"ID"))
    yield "body of no frame", ok, []
    yield "body byte by byte", ok, [good[i:i + 1] for i in range(len(good))]
    yield "body with an empty frame", ok, [good[:5], b"", good[5:]]
    yield "body of zeros", ok, [b"\x00" * 100_000] * 5


class Attack:
    def __init__(self, app, broker, queue, run):
        self.app, self.queue, self.run, self.url = app, queue, run, urlparse(broker)
        self.redis = None
        self.cases, self.good, self.refused = [], [], []
        if self.url.scheme == "redis":
            import redis
            self.redis = redis.Redis.from_url(broker)
        else:
            self.open()

    def open(self):
        from urllib.parse import unquote
        self.connection = amqp.Connection("%s:%s" % (self.url.hostname, self.url.port), userid=self.url.username, password=self.url.password, virtual_host=unquote(self.url.path[1:]) or "/")
        self.connection.connect()
        self.channel = self.connection.channel()

    def sent_good(self):
        self.good.append(self.app.send_task("diff.add", (len(self.good), 1), queue=self.queue))

    def send(self, case):
        n = len(self.cases)
        case.make(self.run, n)
        if self.redis is not None:
            if case.raw is None:
                case.raw = dumps({"body": base64.b64encode(case.body).decode(), "content-encoding": case.content_encoding, "content-type": case.content_type, "headers": case.headers,
                                  "properties": {"delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": self.queue}, "priority": 0, "body_encoding": "base64", "delivery_tag": "%s-%d" % (self.run, n)}})
            else:
                case.raw = case.raw.replace(b'"ID"', b'"%s"' % case.id.encode())
            self.redis.lpush(self.queue + case.key, case.raw)
        else:
            given = {k: v for k, v in (("content_type", case.content_type), ("content_encoding", case.content_encoding), ("application_headers", case.headers)) if v is not None}
            try:
                message = amqp.Message(case.body, message_id=str(n), **given)
                self.channel.basic_publish(message, exchange="", routing_key=self.queue)
            except Exception as exc:  # what the library cannot write
                self.refused.append("%s: %r" % (case.name, exc))
                if not self.connection.connected:
                    self.open()
                return
        self.cases.append(case)
        self.sent_good()

    def send_frames(self):
        """Messages whose header and body frames are written by hand; they are told apart by their place in the quarantine."""
        for name, table, parts in frames():
            n = len(self.cases)
            case = Case("frame " + name)
            case.make(self.run, n)
            # The key's length may change with the id.
            table = table.replace(struct.pack(">I", 2) + b"ID", struct.pack(">I", len(case.id)) + case.id.encode())
            case.body = b"".join(parts)
            case.handmade = True
            number = str(n).encode()
            head = struct.pack(">HHQH", 60, 0, len(case.body), 1 << 15 | 1 << 14 | 1 << 13 | 1 << 7) + bytes([16]) + JSON.encode() + bytes([5]) + b"utf-8" + struct.pack(">I", len(table)) + table + bytes([len(number)]) + number
            key = self.queue.encode()
            method = struct.pack(">HHH", 60, 40, 0) + b"\x00" + bytes([len(key)]) + key + b"\x00"
            out = b""
            for kind, payload in [(1, method), (2, head)] + [(3, p) for p in parts]:
                out += struct.pack(">BHI", kind, self.channel.channel_id, len(payload)) + payload + b"\xce"
            try:
                self.connection.transport.write(out)
                self.channel.queue_declare(self.queue, passive=True)  # an answer: the broker has taken it
            except Exception as exc:
                self.refused.append("%s: %r" % (case.name, exc))
                try:
                    self.connection.collect()
                except Exception:
                    pass
                self.open()
                continue
            self.cases.append(case)
            self.sent_good()

    def everything(self):
        # Ids that are the same in every run.
        self.app.backend.client.delete(*(self.app.backend.get_key_for_task(id) for id in OWN_IDS))
        for case in common():
            self.send(case)
        if self.redis is not None:
            for case in envelopes():
                self.send(case)
        else:
            self.send_frames()
        return len(self.cases)

    def answers(self, seconds):
        """The good tasks have been answered, and nothing is left on its way."""
        end = time.monotonic() + seconds
        for i, r in enumerate(self.good):
            assert r.get(timeout=max(1, end - time.monotonic())) == i + 1

    def kept(self):
        """The numbers of the cases that are in quarantine, whole; and how many messages are there that are none of these."""
        kept, strange = {}, []
        if self.redis is not None:
            by = {}
            for n, case in enumerate(self.cases):
                by.setdefault(case.raw, []).append(n)
            for raw in self.redis.lrange(self.queue + ".quarantine", 0, -1):
                if by.get(raw):
                    kept[by[raw].pop(0)] = True
                else:
                    strange.append(repr(raw[:200]))
            return kept, strange
        self.open()  # the frames may have cost the other one
        self.channel.queue_declare(self.queue + ".quarantine", durable=True, auto_delete=False)
        while (m := self.channel.basic_get(self.queue + ".quarantine", no_ack=True)) is not None:
            n = int(m.properties["message_id"])
            case = self.cases[n]
            body = m.body if isinstance(m.body, bytes) else m.body.encode()
            same = body == case.body and n not in kept
            if not getattr(case, "handmade", False):
                headers = {k: v for k, v in m.headers.items()} if m.headers is not None else {}
                same = same and m.properties.get("content_type") == (case.content_type or None) and plain(headers) == plain(case.headers or {})
            if same:
                kept[n] = True
            else:
                strange.append("%s: %.300r" % (case.name, (m.properties, body[:200])))
        return kept, strange

    def outcomes(self):
        """What became of each case: kept, the state its caller sees, or both."""
        kept, strange = self.kept()
        backend = self.app.backend
        states = {}
        ids = [c.id for c in self.cases]
        for at in range(0, len(ids), 500):
            for id, doc in zip(ids[at:at + 500], backend.client.mget([backend.get_key_for_task(i) for i in ids[at:at + 500]])):
                if doc:
                    doc = json.loads(doc)
                    states[id] = doc["status"] + (":" + doc["result"]["exc_type"] if isinstance(doc["result"], dict) and "exc_type" in doc["result"] else "")
        out = {}
        for n, case in enumerate(self.cases):
            # Other ids than their own: nobody asks for those here.
            what = (["kept"] if n in kept else []) + ([states[case.id]] if case.id in states else [])
            assert case.name not in out, case.name
            out[case.name] = "+".join(what) or "-"
        return {"outcomes": out, "strange": strange, "refused": self.refused}


def plain(v):
    """A header as both sides of a broker see it."""
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if isinstance(v, bytes):
        return v.decode("utf-8", "surrogateescape")
    return v
