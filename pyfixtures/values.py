"""Records how Python reads and writes values: protocol/testdata/golden/values.json.

    pip install celery==5.7.0 msgpack pyyaml brotli backports.zstd
    python3.11 pyfixtures/values.py > protocol/testdata/golden/values.json

Everything goes through Kombu's and Celery's own functions. A value is recorded as describe() puts it; protocol/values_test.go
has the same function for Go values. Bytes are base64. Nothing here is random from run to run.
"""

import base64
import json
import lzma
import platform
import random
import struct
import sys
import zlib
from datetime import date, datetime, time, timezone
from decimal import Decimal
from importlib.metadata import version
from uuid import UUID

import kombu.compression
import kombu.serialization
import msgpack
import yaml
from backports import zstd
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_iso8601


def describe(v):
    if v is None or isinstance(v, bool):
        return str(v)
    if isinstance(v, int):
        return f"int {v}"
    if isinstance(v, float):
        return "float nan" if v != v else "float " + struct.pack(">d", v).hex()
    if isinstance(v, str):
        return "str " + json.dumps(v)
    if isinstance(v, bytes):
        return "bytes " + v.hex()
    if isinstance(v, (list, tuple)):
        return "[" + ", ".join(map(describe, v)) + "]"
    if isinstance(v, dict):
        assert all(isinstance(k, str) for k in v), v
        return "{" + ", ".join(json.dumps(k) + ": " + describe(x) for k, x in v.items()) + "}"
    if isinstance(v, set):
        return "set " + str(sorted(map(describe, v)))
    if isinstance(v, msgpack.Timestamp):
        v = v.to_datetime()
    if isinstance(v, (datetime, date, time)):
        return f"{type(v).__name__} {v.isoformat()}"
    return f"{type(v).__name__} {v}"  # Decimal, UUID


def b64(b):
    return base64.b64encode(b).decode()


def outcome(read, *args):
    try:
        return {"out": describe(read(*args))}
    except Exception as exc:
        return {"error": f"{type(exc).__name__}: {exc}"[:160]}


def loads(data, content_type):
    return kombu.serialization.loads(data, content_type, "utf-8", accept={content_type})


def typed(t, v):
    return json.dumps({"__type__": t, "__value__": v})


JSON = [
    "0", "-0", "-0.0", "1", "3.0", "1e5", "1E+5", "1e-5", "0.1", "1e400", "-1e400", "1e-400", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "1" + "0" * 4299, "1" * 4301, "-" + "1" * 4300, "-" + "1" * 4301,
    "999999999999999999", "-999999999999999999", "1000000000000000000", "123456789012345680.5", "5e-324", "1.7976931348623157e308",
    "01", "1.", ".5", "-", "+1", "1e", "1e+", "- 1", "0x10", "1_000", "--1", "-01", "1.5.5",
    "NaN", "Infinity", "-Infinity", "nan", "-NaN", "+Infinity", "Inf", "-Inf", "null", "nul", "true", "True", "false", "nulll",
    '""', '"a"', '"\\u00e9"', '"\u00e9"', '"\U0001f600"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83dx"', '"\\ud83d\\u0041"',
    '"\\ud83d\\ud83d\\ude00"', '"\\u12"', '"\\u12G4"', '"\\x41"', '"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\t"', '"\n"', '"\x00"', '"\x7f"', '"\u2028"', '"abc', '"\\', '"\\"', "'a'",
    '"\\u+123"', '"\\u 123"', '"\\ud83d\\u12"', '"\\ud83d\\',
    "[]", "{}", "[1, 2]", "[1,]", "[,1]", "[1 2]", "[", "]", "{", "[[]", '{"a": 1}', '{"a": 1,}', "{a: 1}", "{'a': 1}", '{"a" 1}', '{"a":}', '{1: 2}', "{,}",
    '{"a": 1, "a": 2}', '{"a": 1, "b": 2, "a": 3}', '{"": null}', " \t\r\n[ 1 , 2 ] \n", "\x0b1", "\u00a01", "1 2", "[] []", "// x", "[1] x", "\ufeff1", " ",
    '{"b": {"c": [true, false, null, 1.5, "x"]}, "a": 0}', "[" * 100 + "]" * 100,
    typed("datetime", "2024-01-02T03:04:05.000006+00:00"), typed("datetime", "2024-01-02T03:04:05"), typed("datetime", "2024-01-02T03:04:05.5Z"),
    typed("datetime", "2024-01-02 03:04+05:30"), typed("datetime", "2024-01-02"), typed("datetime", "20240102T030405"), typed("datetime", "2024-W01-2"),
    typed("datetime", "2024-01-02T03:04:05,123456789-08:00"), typed("datetime", "2024-13-02"), typed("datetime", "x"), typed("datetime", 5), typed("datetime", None),
    typed("datetime", "2024-02-30"), typed("datetime", "2023-02-29T00:00:00"), typed("datetime", "0001-01-01T00:00:00"), typed("datetime", "0000-01-01T00:00:00"),
    typed("datetime", "9999-12-31T23:59:59.999999"), typed("datetime", "2024-01-02T03:04:05+01:02:03"), typed("datetime", "2024-01-02T25:00:00"),
    typed("datetime", "2024-01-02T03:60:00"), typed("datetime", "2024-01-02T03:04:05+24:00"), typed("datetime", "2024-01-02T03:04:05+"), typed("datetime", ""),
    typed("date", "2024-05-06"), typed("date", "2024-05-06T07:08:09"), typed("date", "06.05.2024"), typed("time", "07:08:09"), typed("time", "07:08:09.000001"),
    typed("time", "07:08"), typed("time", "07:08:09+02:00"), typed("time", "24:00"), typed("time", "x"), typed("time", "070809"), typed("time", "T07:08"),
    typed("decimal", "1.10"), typed("decimal", "1E+5"), typed("decimal", "NaN"), typed("decimal", 0.1), typed("decimal", 12), typed("decimal", 1.5e300), typed("decimal", "x"),
    typed("decimal", None), typed("decimal", ""), typed("decimal", True),
    typed("uuid", {"hex": "12345678123456781234567812345678"}), typed("uuid", {"hex": "12345678-1234-5678-1234-567812345678"}), typed("uuid", "1234"), typed("uuid", {"hex": "12"}),
    typed("uuid", {"hex": 5}), typed("uuid", {}), typed("uuid", {"hex": "1" * 32, "x": 1}), typed("uuid", {"hex": "{12345678123456781234567812345678}"}),
    typed("bytes", "x"), typed("bytes", "\u00e9"), typed("bytes", "\ud800"), typed("bytes", 1), typed("base64", "AP8="), typed("base64", "AP8"), typed("base64", "A P\n8="),
    typed("base64", ""), typed("base64", []), typed("nope", 1), typed(None, 1), typed(["a"], 1), typed({}, 1),
    '{"__value__": "x", "__type__": "bytes"}', '{"__type__": "bytes", "__value__": "x", "z": 1}', '{"__type__": "bytes"}', '{"__value__": 1}',
    '{"a": [{"__type__": "date", "__value__": "2024-05-06"}]}', '{"__type__": "bytes", "__type__": "base64", "__value__": "AP8="}',
]
JSON_BYTES = [b'"\xff"', b'"\xed\xa0\x80"', b"\xff\xfe1\x00", b'"a\xc3"', b"\xef\xbb\xbf1", b"1\xff"]

TIMESTAMPS = [
    "2026-11-21T08:06:32.684646+01:00", "2026-11-21T08:06:32+00:00", "2026-11-21 08:06:32", "2026-11-21T08:06:32Z", "2026-11-21T08:06:32z", "20200101T000000Z",
    "2020-01-01", "20200101", "2020-01", "2020", "202001", "2020-01-01T00", "2020-01-01T00:30", "20200101T0030", "2020-01-01T00:30:15,5", "2020-01-01T00:30:15.1234567891",
    "2020-01-01T00:30:15.", "2020-01-01T003015.25+0530", "2020-01-01T00:30:15+05", "2020-01-01T00:30:15-0530", "2020-01-01T00:30:15 +05:30", "2020-01-01T24:00", "2020-01-01T24:00:01",
    "2020-W01", "2020-W01-3", "2020W013", "2020W01", "2020-W53-5", "2021-W53-1", "2020-060", "2020060", "2020-366", "2021-366", "2020-000", "2020-W00-1", "2020-W01-8", "2020-W54-1",
    "2020-1-1", "2020-01-1", "2020-01-32", "2020-02-30", "0000-01-01", "0001-01-01", "9999-12-31T23:59:59.999999+00:00", "10000-01-01", "2020-01-01T", "2020-01-01X00:00", "2020-01-01_00:00",
    "2020-01-01T00:60", "2020-01-01T00:00:60", "2020-01-01T25:00", "2020-01-01T1:00", "2020-01-01T00:0", "2020-01-01T000", "2020-01-01T00:00:00+24:00", "2020-01-01T00:00:00+1", "2020-01-01T00:00:00+01:60",
    "2020-01-01T00:00:00-00:00", "2020-01-01T00:00:00Zx", "2020-01-01T00:00:00.5Z", "2020-01-01T00:00.5", "2020-01-01T0000:00", "2020-01-01T00:0000", "2020-0101", "202001-01", "Sat Jan 1 2020", "1577836800", "x",
    "2020-01-01T00:00:00.123+02:00", "2020-W01-1T10:00", "2020-001T10:00", "2020-01T10:00", "2020T10", "2020-01-01 ", " 2020-01-01", "2020-01-01T00:00:00+05:3", "2020-01-01T00:00:00,",
]

YAML = [
    "1", "-1", "+1", "0", "-0", "010", "0o10", "0x1F", "-0x1f", "0b101", "0b", "0x_", "1_000", "1:30", "1:30:15", "-1:30", "1:60", "08", "09.5", "190:20:30", "190:20:30.15", "123456789012345678901234567890",
    "1.0", "1.", ".5", "+.5", "-.5", "1e5", "1.0e5", "1.0e+5", "1.5E-3", "1_0.5", ".inf", "-.INF", "+.inf", ".nan", ".NaN", "nan", "inf", ".", "..", "-", "+", "1.2.3", "1e+5", "._5",
    "yes", "Yes", "YES", "yEs", "no", "on", "Off", "true", "TRUE", "y", "n", "null", "Null", "~", "", "nULL", "=", "<<", "abc", "'yes'", '"1"', "'it''s'", '"\\x41\\u00e9\\U0001F600\\n\\0"', '"a\\\n  b"',
    "2024-01-02", "2024-1-2", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z", "2024-01-02t03:04:05.5-08:00", "2024-1-2 3:04:05.1234567 +5", "2024-01-02 03:04:05 Z", "2024-13-01", "2024-01-02T25:00:00Z",
    "2024-01-02 03:04:05 +05:30", "2024-01-02 03:04", "2024-01-02T03:04:05.", "2024-02-30", "2024-01-02 03:04:05z",
    "!!binary aGVsbG8=", "!!binary |\n  aGVs\n  bG8=", "!!str 5", "!!int '5'", "!!float 3", "!!float '1e3'", "!!bool 'yes'", "!!bool maybe", "!!null x", "!!timestamp '2024-01-02'", "!!timestamp x", "!!int x",
    "!!int 1.5", "!!float x", "!!python/tuple [1, 2]", "!!python/object/apply:os.system ['true']", "!foo bar", "!!unknown x", "!!seq [1]", "!!map {a: 1}", "!!set {a, b}", "!!set {a, a, 1}", "!!set {[1]: null}",
    "!!set\n? a\n? 2\n", "!!omap [a: 1, b: 2]", "!!pairs [a: 1, a: 2]", "!!omap [1]", "!!omap {a: 1}", "!!seq {a: 1}", "!!map [1]", "!!str [1]",
    "a: 1\nb: [1, 2]\nc:\n  - x\n  - {y: z}\n", "a: 1\na: 2\n", "{a: 1, b: 2, a: 3}", "- 1\n- - 2\n  - 3\n", "{}", "[]", "[a, b", "{a: b", "a: b: c", "\tx: 1", "- a\n b", "%YAML 1.1\n---\nx: no\n",
    "--- 1\n--- 2\n", "--- 1\n...\n", "# only a comment\n", "a: |\n  x\n  y\nb: >\n  x\n  y\n", "a: &x [1]\nb: *x\n", "a: *x\n", "&x [*x]", "a: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\n",
    "- &a {x: 1, z: 0}\n- &b {x: 2, y: 2}\n- {<<: [*a, *b], w: 3}\n", "{<<: 1}", "{<<: [1]}", "{'<<': 1}", "{=: 1}", "{<<: {a: 1}, a: 2, b: 3}", "{a: 2, <<: {a: 1, c: 1}}", "? a\n: b\n", "'a': 1", '"\\ude00"',
    "caf\u00e9: \u00fcber", "\U0001f600", "x: 'a\n  b\n\n  c'", "[1, 2.5, null, true, text]", "- !!set {}\n- []\n", "a: 2024-01-02\n", "true: 1", "1: 2", "null: x", "{[a]: b}", "- a\n- # c\n- b\n", "x: \"\\t\\e\\_\\L\"",
]
# What Stalk writes, in its own form: read here, and written back there to the same text.
YAML_WRITTEN = [
    '[null, true, false, 0, -5, 123456789012345678901234567890]', '[0.0, -0.0, 1.5, 1.0e+16, 1.0e-05, 1.5e+300, .nan, .inf, -.inf]',
    '["", "a", "yes", "1", "\\x00\\n\\"\\\\\\x7f", "\\u00e9\\u20ac", "\\U0001f600"]', '{"a": {"b": []}, "c": {}}', '{"<<": 1, "=": 2, "~": 3}',
    '[!!binary "", !!binary "AP8="]', '[!!timestamp "2024-01-02", !!timestamp "2024-01-02 03:04:05", !!timestamp "2024-01-02 03:04:05.000006+00:00", !!timestamp "2024-01-02 03:04:05-08:30"]',
    '[!!set {}, !!set {? "a" : null}, !!set {? 1 : null, ? null : null, ? !!timestamp "2024-01-02" : null, ? !!binary "AP8=" : null}]', '{? "' + "k" * 1200 + '": 1, "b": ["' + "v" * 3000 + '"]}',
]

DECIMALS = ["1", "-1", "+1", "1.10", "0", "-0", "0.0", "0.000", "0e5", "0e-10", "1e5", "1E+5", "1e-5", "1e-6", "1e-7", "0.000001", "0.0000001", "123e-10", "123.456e2", "123.456e5", "1e400", "NaN", "nan", "-NaN", "sNaN",
            "NaN123", "NaN000", "Inf", "-infinity", " 1 ", "1_000.5", ".5", "5.", ".", "", "e5", "1e", "1e+", "1.2.3", "0x1", "--1", "1e999999999999999999", "1e1000000000000000000", "12345678901234567890.12345678901234567890", "00012.50"]

MSGPACK = [None, True, False, 0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -1, -32, -33, -128, -129, -32768, -32769, -2**31, -2**31 - 1, -2**63,
           0.0, -0.0, 1.5, float("inf"), float("nan"), "", "a" * 31, "a" * 32, "a" * 255, "a" * 256, "a" * 65536, "\u00e9\U0001f600", b"", b"x" * 255, b"\xff" * 256, b"x" * 65536, [], [1] * 15, [1] * 16, [0] * 65536,
           {}, {str(i): i for i in range(15)}, {str(i): i for i in range(16)}, {str(i): 0 for i in range(65536)}, {"a": [{"b": None}]}]
MSGPACK_BYTES = ["ca3fc00000", "c1", "c7", "d6ff00000001", "d7ff00000004" + "00000001", "c70cff00000001" + "0000000000000001", "c70cff3b9aca00" + "0000000000000001", "d60100000000", "8101a161", "81c40161a162", "a1ff", "a3eda080",
                 "0101", "", "91", "dd00000010", "c600ffffff", "d9", "dfffffffff", "82a16101a16102", "c403", "ccff", "d0ff", "d1ffff", "d2ffffffff", "d3ffffffffffffffff", "cd0001", "80", "dc0000", "de0001a161c0", "dbffffffff"]
MSGPACK_REFUSED = [2**64, -2**63 - 1, datetime(2024, 1, 2), date(2024, 1, 2), Decimal("1"), UUID(int=7), "\ud800"]


def reprs():
    rng = random.Random(5)
    words = ["a", "it's", "x y", "caf\u00e9", "\U0001f600", "", "back\\slash", "line\nbreak", '"', "w" * 40, "lorem ipsum dolor " * 4]

    def scalar():
        return rng.choice([None, True, False, rng.randint(-10**6, 10**20), rng.random() * 10.0 ** rng.randint(-20, 20), float("nan"), float("-inf"), rng.choice(words), rng.choice(words), b"bytes' x", b"\xff\x00",
                           Decimal("1.10"), UUID(int=rng.getrandbits(128)), date(2024, 1, 2), datetime(2024, 1, 2, 3, 4), datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
                           datetime.fromisoformat("2024-01-02T03:04:05-08:00"), datetime.fromisoformat("2024-01-02T03:04:00.5+05:30"), time(3, 4), time(3, 4, 0, 7), time.fromisoformat("03:04:05+02:00")])

    def value(depth, width):
        kind = rng.random()
        if depth == 0 or kind < 0.4:
            return scalar()
        n = rng.randint(0, width)
        if kind < 0.7:
            return [value(depth - 1, width) for _ in range(n)]
        return {rng.choice(words) + str(rng.randint(0, 99)): value(depth - 1, width) for _ in range(n)}

    values = [[], [1], [1, 2], {}, {"a": 1}, [[[[1]]]], [[[[]]]], [{"a": {"b": {"c": {}}}}], ["x" * 2000], ["x" * 1024], ["x" * 1023], ["x" * 1022], ["x" * 1021], ["x" * 1020], [{"a": "x" * 2000}], [["x y" * 700], 1],
              ["x" * 1020, 1], ["x" * 1019, 1], [["x" * 1018], 1], [b"x" * 2000], [b"x" * 1023], [b"x" * 1024], [b"\xc3\xa9" * 600], ["\U0001f600" * 1030], ["\u00e9" * 1022, "b"], {"k" * 2000: 1}, {"k" * 1020: 1}, {"a" * 1010: {"b": [1]}},
              list(range(1000)), [list(range(400)), {"a": 1}], [[["x" * 1100]]], [[["x" * 1010, [1], 5]]], "x" * 3000, "it's", 5, None, b"x", ["'" * 1000], [10**300] * 5, [0.1] * 300, [[]] * 600, [{}] * 400]
    values += [value(5, 4) for _ in range(100)] + [[value(4, 6) for _ in range(8)] for _ in range(120)]
    for n in range(1000, 1028):
        values += [["x" * n, [1, [2]]], {"a": ["y" * n], "b": {}}, ["z" * (n // 2), "z z" * (n // 6), {"k": [1, 2]}, 5]]
    for v in values:
        text = kombu.utils.json.dumps(v)
        if len(text) > 6000:
            continue
        back = kombu.utils.json.loads(text)
        yield {"json": text, "repr": saferepr(back, 1024), **({"args": saferepr(tuple(back), 1024)} if isinstance(back, list) else {})}
    for text in ["!!set {}", "!!set {1: null}", "[!!set {}, [[!!set {}, !!set {5: null}]]]"]:
        yield {"yaml": text, "repr": saferepr(yaml.safe_load(text), 1024)}


def floats():
    rng = random.Random(7)
    values = [struct.unpack(">d", rng.randbytes(8))[0] for _ in range(300)] + [rng.random() * 10.0 ** rng.randint(-8, 20) for _ in range(300)]
    values += [float(10) ** e for e in range(-10, 24)] + [1e16 - 2, 1e15 + 0.5, 123456789012345680.0, 5e-324, 2.2250738585072014e-308, -0.0, 0.1 + 0.2, 1 / 3, 9007199254740993.0]
    for f in values:
        if f == f:
            yield [struct.pack(">d", f).hex(), repr(f)]


def compressions():
    rng = random.Random(9)
    samples = [b"", b"a", b"hello " * 50, bytes(rng.randbytes(3000)), b"\x00" * 200000]
    for alias in ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "brotli", "zstd", "zstandard"]:
        for sample in samples:
            data, content_type = kombu.compression.compress(sample, alias)
            yield {"alias": alias, "content_type": content_type, "data": b64(data), "crc": zlib.crc32(sample), "len": len(sample)}
    hello = b"hello " * 50
    streamed = zstd.ZstdCompressor()
    extra = {
        "application/x-lzma": [lzma.compress(hello, format=lzma.FORMAT_ALONE), lzma.compress(hello) * 2, lzma.compress(hello, preset=9), lzma.compress(hello, check=lzma.CHECK_CRC32), lzma.compress(hello, check=lzma.CHECK_NONE),
                               lzma.compress(hello, check=lzma.CHECK_SHA256), lzma.compress(hello)[:-1], b"", lzma.compress(hello)[:40], lzma.compress(b"") + lzma.compress(hello)],
        "application/zstd": [streamed.compress(hello) + streamed.flush(), zstd.compress(hello) * 2, zstd.compress(hello)[:-1], b"x", zstd.compress(hello, level=19)],
        "application/x-gzip": [__import__("gzip").compress(hello), zlib.compress(hello)[:-1], b"", zlib.compress(hello, 9)],
        "application/x-bz2": [__import__("bz2").compress(hello) * 2, __import__("bz2").compress(hello)[:-1], b"x"],
        "application/x-brotli": [__import__("brotli").compress(hello)[:-1], b"\xff\xff"],
    }
    for content_type, datas in extra.items():
        for data in datas:
            try:
                out = kombu.compression.decompress(data, content_type)
                yield {"alias": content_type, "content_type": content_type, "data": b64(data), "crc": zlib.crc32(out), "len": len(out)}
            except Exception as exc:
                yield {"alias": content_type, "content_type": content_type, "data": b64(data), "error": f"{type(exc).__name__}: {exc}"}


def timestamps():
    for text in TIMESTAMPS:
        try:
            at = maybe_iso8601(text)
            if at.tzinfo is None:
                at = at.replace(tzinfo=timezone.utc)
            yield {"in": text, "out": at.isoformat()}
        except Exception as exc:
            yield {"in": text, "error": f"{type(exc).__name__}: {exc}"}


def dumped(text):
    """The text that dumps writes of what loads reads, when it reads."""
    try:
        return {"dumps": kombu.serialization.dumps(loads(text.encode(), "application/json"), "json")[2]}
    except Exception:
        return {}


def refused(value):
    try:
        kombu.serialization.dumps(value, "msgpack")
    except Exception as exc:
        return {"value": kombu.utils.json.dumps(value), "error": str(exc)}


def decimals():
    for text in DECIMALS:
        try:
            yield {"in": text, "out": str(Decimal(text))}
        except Exception:
            yield {"in": text, "error": "InvalidOperation"}


def main():
    sections = {
        "versions": [{p: version(p) for p in ["celery", "kombu", "msgpack", "PyYAML", "brotli", "backports.zstd", "python-dateutil"]} | {"python": platform.python_version()}],
        "json": [{"in": b64(s.encode()), **outcome(loads, s.encode(), "application/json"), **dumped(s)} for s in JSON]
        + [{"in": b64(s), **outcome(loads, s, "application/json")} for s in JSON_BYTES],
        "floats": list(floats()),
        "decimals": list(decimals()),
        "timestamps": list(timestamps()),
        "yaml": [{"in": s, **outcome(loads, s.encode(), "application/x-yaml")} for s in YAML],
        "yaml_written": [{"in": s, **outcome(loads, s.encode(), "application/x-yaml")} for s in YAML_WRITTEN],
        "msgpack": [{"data": b64(zlib.compress(p)), **outcome(loads, p, "application/x-msgpack"), "written": True} for p in (kombu.serialization.dumps(v, "msgpack")[2] for v in MSGPACK)]
        + [{"data": b64(zlib.compress(bytes.fromhex(h))), **outcome(loads, bytes.fromhex(h), "application/x-msgpack")} for h in MSGPACK_BYTES],
        "msgpack_refused": [refused(v) for v in MSGPACK_REFUSED],
        "compression": list(compressions()),
        "reprs": list(reprs()),
    }
    for case in sections["msgpack"]:
        if len(case.get("out", "")) > 5000:
            case["crc"] = zlib.crc32(case.pop("out").encode())
    out = []
    for name, cases in sections.items():
        out.append(json.dumps(name) + ": [\n" + ",\n".join(map(json.dumps, cases)) + "\n]")
    sys.stdout.write("{\n" + ",\n".join(out) + "\n}\n")


main()
