package interop_test

import "testing"

// echoes sends every kind of argument through demo.echo and compares what comes back with what Python's own
// codecs make of it: once for the message, once for the result. repr tells 3 from 3.0 and NaN from NaN.
// `message` and `result` name the serializers; what a format cannot carry at all is stated, so that a case
// that Python could not send is not taken for one that came back.
const echoes = `
	from kombu import serialization
	def through(value, serializer):
	    ctype, encoding, data = serialization.dumps(value, serializer=serializer)
	    return serialization.loads(data, ctype, encoding, accept=serialization.prepare_accept_content(["json", "msgpack", "yaml"]))

	slow = 50 if "yaml" in (message, result) else 1 # Python's yaml takes a second for what json does in a millisecond
	deep = "leaf"
	for i in range(30):
	    deep = [deep] if i % 2 else {"k": deep}
	berlin = datetime.timezone(datetime.timedelta(hours=1))
	cases = {
	    "none": ((), {}),
	    "null": ((None, [None], {"a": None}), {"k": None}),
	    "booleans": ((True, False, 1, 0), {}),
	    "integers": ((0, -1, 2**31, 2**53 + 1, -2**63, 2**63 - 1, 2**64 - 1), {}),
	    "big integers": ((2**64, -2**63 - 1, 2**200, 10**50), {"n": -10**40}),
	    "floats": ((3.0, -0.0, 0.1, 1e300, 5e-324, 1e16, 123456789.125, 1e22), {}),
	    "not numbers": ((float("nan"), float("inf"), float("-inf")), {}),
	    "text": (("", "plain", "Grüße, 世界 🎉", "quote ' \" \\ / </script>", "\x00\x01\x1f\x7f\u2028"), {"ключ": "значение"}),
	    "lone surrogates": (("\ud800", "a\udfffb", {"\udc00": 1}), {}),
	    "datetimes": ((datetime.datetime(2026, 11, 21, 8, 6, 32, 684646), datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
	                   datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=berlin)), {}),
	    "dates": ((datetime.date(2026, 2, 28), datetime.date(1, 1, 1)), {}),
	    "times": ((datetime.time(23, 59, 59, 999999), datetime.time(0, 0)), {}),
	    "decimals": ((decimal.Decimal("1.10"), decimal.Decimal("-12345678901234567890.123456789"), decimal.Decimal("1E+5")), {}),
	    "uuids": ((uuid.UUID(int=1), uuid.UUID("12345678-1234-5678-1234-567812345678")), {}),
	    "bytes": ((b"", b"plain", bytes(range(256))), {}),
	    "nested": ((deep, [], {}, [[], [{}]], {"a": [1, {"b": (2, 3)}]}), {"x": {"y": [deep]}}),
	    "tuples": (((1, 2), (), ("a", (None,))), {}),
	    "looks typed": (({"__type__": "x"}, {"__value__": 1}, {"__type__": 1, "__value__": 2, "more": 3}), {}),
	    "many": (tuple(range(500 // slow)), {"k%d" % i: i for i in range(600 // slow)}),
	    "long": (("x" * (300000 // slow),), {"y": "ü" * (50000 // slow)}),
	}
	sent, unsendable = {}, []
	for name, (args, kwargs) in cases.items():
	    try:
	        want = through({"args": list(through(args, message)), "kwargs": through(kwargs, message)}, result)
	    except Exception as exc:
	        unsendable.append(name)
	        continue
	    sent[name] = (echo.apply_async(args, kwargs, queue=Q, serializer=message), want)
	cannot = {"json": set(), "yaml": {"times", "decimals", "uuids"},
	          "msgpack": {"big integers", "lone surrogates", "datetimes", "dates", "times", "decimals", "uuids"}}
	assert set(unsendable) == cannot[message] | cannot[result], "Python itself cannot carry %r" % unsendable
	if message == "yaml" and "lone surrogates" in sent:
	    # The one thing not carried: YAML 1.2 has no lone surrogates, Python's YAML 1.1 has. The caller is told.
	    r, _ = sent.pop("lone surrogates")
	    raises("DecodeError", None, r.get, timeout=60)
	def look(value):
	    "Its repr. Python's YAML sorts the keys, Stalk's keeps their order."
	    if result == "yaml" and isinstance(value, dict):
	        return "{%s}" % ", ".join("%r: %s" % (k, look(value[k])) for k in sorted(value))
	    if result == "yaml" and isinstance(value, list):
	        return "[%s]" % ", ".join(map(look, value))
	    return repr(value)
	wrong, end = [], time.monotonic() + 200
	for name, (r, want) in sent.items():
	    try:
	        got = r.get(timeout=max(0.5, end - time.monotonic()))
	    except Exception as exc:
	        wrong.append("%s: %s: %s" % (name, type(exc).__name__, exc))
	        continue
	    if look(got) != look(want):
	        wrong.append("%s:\n   got  %.1500r\n   want %.1500r" % (name, got, want))
	assert not wrong, "\n".join(wrong)
`

func TestEveryKindOfArgumentComesBackAsPythonWouldReturnIt(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("args")
		s.stalk(t, queue)
		s.python(t, queue).run(echoes, map[string]any{"message": "json", "result": "json"})
	})
}

func TestMessagesAndResultsInEverySerializer(t *testing.T) {
	accept := []string{"json", "msgpack", "yaml"}
	for _, tt := range []struct {
		message, result string
	}{
		{"msgpack", "json"},
		{"yaml", "json"},
		{"json", "msgpack"},
		{"json", "yaml"},
		{"msgpack", "msgpack"},
		{"yaml", "yaml"},
	} {
		t.Run(tt.message+" in, "+tt.result+" out", func(t *testing.T) {
			onAll(t, func(t *testing.T, s setup) {
				s = s.with("accept_content", accept).with("result_serializer", tt.result)
				queue := unique("serial")
				s.stalk(t, queue)
				s.python(t, queue).run(echoes, map[string]any{"message": tt.message, "result": tt.result})
			})
		})
	}
}

func TestEveryCompressionOfKombuIsRead(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("compress")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			from kombu import compression
			names = ["zlib", "gzip", "bzip2", "bzip", "lzma", "xz", "brotli"] + [n for n in ("zstd", "zstandard") if n in compression._aliases]
			sent = [(n, echo.apply_async((n, "payload " * 1000), queue=Q, compression=n)) for n in names]
			for n, r in sent:
			    assert r.get(timeout=60)["args"] == [n, "payload " * 1000], n
		`)
	})
}

func TestMessagesOfProtocol1(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("v1")
		s.stalk(t, queue)
		s.withClient("task_protocol", 1).python(t, queue).run(`
			assert add.apply_async((2,), {"y": 2**70}, queue=Q).get(timeout=60) == 2 + 2**70
			r = add.apply_async((1,), queue=Q, countdown=1)
			assert r.get(timeout=60) == 2
			raises(ValueError, "boom", fail.apply_async(queue=Q).get, timeout=60)
			assert retry.apply_async((2,), queue=Q).get(timeout=60) == 2
		`)
	})
}

func TestHeadersWithIntegersOf64Bits(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("headers")
		w := s.stalk(t, queue)
		s.python(t, queue).run(`
			headers = {"big": 1 << 40, "negative": -(1 << 40), "most": 2**63 - 1, "ms": 1793000000000,
			           "nested": {"list": [1 << 40, None, True, 1.5, "x"]}, "when": datetime.datetime(2026, 1, 1)}
			if "amqp" not in app.conf.broker_url:
			    del headers["when"]
			results = [add.apply_async((i,), queue=Q, headers=headers) for i in range(20)]
			assert [r.get(timeout=60) for r in results] == list(range(1, 21))
			# A retry publishes the headers again.
			assert retry.apply_async((2,), queue=Q, headers=headers).get(timeout=60) == 2
		`)
		if got := countLog(w, "Connection to broker lost"); got != 0 {
			t.Errorf("the connection was lost %d times", got)
		}
	})
}
