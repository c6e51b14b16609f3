package protocol_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

const plainEnvelope = `{"body": "W1sxXSwge30sIHt9XQ==", "content-encoding": "utf-8", "content-type": "application/json", ` +
	`"headers": {"task": "t", "id": "i"}, "properties": {"delivery_tag": "x", ` +
	`"delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 3, "body_encoding": "base64"}}`

func replaced(t *testing.T, from, to string) string {
	t.Helper()
	if !strings.Contains(plainEnvelope, from) {
		t.Fatalf("the envelope has no %s", from)
	}
	return strings.Replace(plainEnvelope, from, to, 1)
}

func TestEnvelopeLeniency(t *testing.T) {
	t.Parallel()
	const body = `[[1], {}, {}]`
	for _, tt := range []struct{ name, raw, body string }{
		{"as Kombu writes it", plainEnvelope, body},
		{"no headers (gocelery)", replaced(t, `"headers": {"task": "t", "id": "i"}, `, ``), body},
		{"null headers", replaced(t, `{"task": "t", "id": "i"}`, `null`), body},
		{"body as text", strings.Replace(replaced(t, `"W1sxXSwge30sIHt9XQ=="`, `"[[1], {}, {}]"`), `"base64"`, `"UTF-8"`, 1), body},
		{"body as text without an encoding", strings.Replace(replaced(t, `"W1sxXSwge30sIHt9XQ=="`, `"[[1], {}, {}]"`),
			`, "body_encoding": "base64"`, ``, 1), body},
		{"null body_encoding", strings.Replace(replaced(t, `"W1sxXSwge30sIHt9XQ=="`, `"[[1], {}, {}]"`), `"base64"`, `null`, 1), body},
		{"base64 in lines", replaced(t, `W1sxXSwge30sIHt9XQ==`, `W1sxXSwg\ne30sIHt9XQ==\n`), body},
		{"no body", replaced(t, `"body": "W1sxXSwge30sIHt9XQ==", `, ``), ""},
		{"priority is junk", replaced(t, `"priority": 3`, `"priority": "high"`), body},
		{"two keys of a name: the last wins", replaced(t, `"body": `, `"body": "eA==", "body": `), body},
	} {
		m, redelivered, err := protocol.DecodeEnvelope([]byte(tt.raw), protocol.Limits{})
		if err != nil || redelivered || string(m.Body) != tt.body || m.RoutingKey != "q" {
			t.Errorf("%s: body %q, routing key %q, redelivered %v, %v", tt.name, m.Body, m.RoutingKey, redelivered, err)
		}
	}
}

func TestEnvelopeNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, raw, part string }{
		{"no JSON", `{"body"`, "envelope"},
		{"nothing", ``, "envelope"},
		{"a list", `[1]`, "envelope"},
		{"null", `null`, "envelope"},
		{"no properties", `{"body": ""}`, "properties"},
		{"no delivery_tag", replaced(t, `"delivery_tag": "x", `, ``), "properties.delivery_tag"},
		{"null delivery_tag", replaced(t, `"delivery_tag": "x"`, `"delivery_tag": null`), "properties.delivery_tag"},
		{"no delivery_info", replaced(t, `"delivery_info": {"exchange": "", "routing_key": "q"}, `, ``), "properties.delivery_info"},
		{"no exchange", replaced(t, `"exchange": "", `, ``), "properties.delivery_info.exchange"},
		{"no routing_key", replaced(t, `, "routing_key": "q"`, ``), "properties.delivery_info.routing_key"},
		{"routing_key is a number", replaced(t, `"routing_key": "q"`, `"routing_key": 7`), "properties.delivery_info.routing_key"},
		{"headers are a list", replaced(t, `{"task": "t", "id": "i"}`, `[]`), "headers"},
		{"body is a number", replaced(t, `"W1sxXSwge30sIHt9XQ=="`, `7`), "body"},
		{"body is not base64", replaced(t, `W1sxXSwge30sIHt9XQ==`, `W1s`), "body"},
		{"unknown body_encoding", replaced(t, `"base64"`, `"rot13"`), "properties.body_encoding"},
		{"unknown typed value", replaced(t, `"id": "i"`, `"id": {"__type__": "x", "__value__": 1}`), "envelope"},
	} {
		_, _, err := protocol.DecodeEnvelope([]byte(tt.raw), protocol.Limits{})
		part := (*protocol.DecodeError)(nil)
		if !errors.As(err, &part) || !strings.HasPrefix(part.Part, tt.part) {
			t.Errorf("%s: %v, want a DecodeError at %s", tt.name, err, tt.part)
		}
	}
}

func TestEnvelopeKeepsUnknownProperties(t *testing.T) {
	t.Parallel()
	raw := replaced(t, `"priority": 3`, `"origin": "gen1@h", "n": 123456789012345678901234567890, "message_id": "m", "priority": 3`)
	m, _, err := protocol.DecodeEnvelope([]byte(raw), protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := kombu(t, m.Properties.Extra); got != `{"origin": "gen1@h", "n": 123456789012345678901234567890}` {
		t.Errorf("Extra is %s", got)
	}
	if m.Properties.MessageID != "m" || m.Properties.Priority == nil || *m.Properties.Priority != 3 {
		t.Errorf("properties are %+v", m.Properties)
	}
	out, err := protocol.EncodeEnvelope(m, "new")
	if err != nil {
		t.Fatal(err)
	}
	const want = `"properties": {"message_id": "m", "origin": "gen1@h", "n": 123456789012345678901234567890, ` +
		`"delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 3, "body_encoding": "base64", "delivery_tag": "new"}}`
	if !strings.HasSuffix(string(out), want) {
		t.Errorf("written as %s, want it to end in %s", out, want)
	}
}

func TestEncodeEnvelopeOfNothing(t *testing.T) {
	t.Parallel()
	out, err := protocol.EncodeEnvelope(protocol.Message{RoutingKey: "q"}, "tag")
	const want = `{"body": "", "content-encoding": null, "content-type": null, "headers": {}, "properties": {` +
		`"delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "tag"}}`
	if err != nil || string(out) != want {
		t.Errorf("EncodeEnvelope = %s, %v, want %s", out, err, want)
	}
	if _, err := protocol.EncodeEnvelope(protocol.Message{}, ""); err == nil {
		t.Error("an envelope without a delivery tag was written: Python peers cannot read it")
	}
}

func TestMarkRedelivered(t *testing.T) {
	t.Parallel()
	const tail = `"delivery_info": {"exchange": "", "routing_key": "q", "redelivered": true}, "priority": 3, "body_encoding": "base64"}`
	for _, tt := range []struct{ name, raw, want string }{
		{
			"both flags are added at the end, as Kombu does", plainEnvelope,
			strings.Replace(replaced(t, `"routing_key": "q"`, `"routing_key": "q", "redelivered": true`), `"id": "i"}`, `"id": "i", "redelivered": true}`, 1),
		},
		{
			"unknown keys and the text of numbers stay", `{"x":1.50,"properties":{"delivery_tag":"t","n":1E400,"delivery_info":{}},"headers":{"redelivered":false,"y":[{}]}}`,
			`{"x":1.50,"properties":{"delivery_tag":"t","n":1E400,"delivery_info":{"redelivered": true}},"headers":{"redelivered":true,"y":[{}]}}`,
		},
		{
			"missing headers are made", `{"properties":{"delivery_info":{"a":1}}}`,
			`{"properties":{"delivery_info":{"a":1, "redelivered": true}}, "headers": {"redelivered": true}}`,
		},
		{
			"null headers are replaced", `{"headers": null, "properties":{"delivery_info":{ "a" : "}" }}}`,
			`{"headers": {"redelivered": true}, "properties":{"delivery_info":{ "a" : "}", "redelivered": true }}}`,
		},
		{
			"of two keys the last counts, written with escapes or not",
			`{"headers": 1, "h\u0065aders": {"a": "\\\""}, "properties":{"delivery_info":{}}}`,
			`{"headers": 1, "h\u0065aders": {"a": "\\\"", "redelivered": true}, "properties":{"delivery_info":{"redelivered": true}}}`,
		},
	} {
		got, err := protocol.MarkRedelivered([]byte(tt.raw))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", tt.name, got, err, tt.want)
		}
		again, err := protocol.MarkRedelivered(got)
		if err != nil || string(again) != string(got) {
			t.Errorf("%s: marked twice: %s, %v", tt.name, again, err)
		}
	}
	marked, err := protocol.MarkRedelivered([]byte(plainEnvelope))
	if err != nil || !strings.Contains(string(marked), tail) {
		t.Fatalf("marked %s, %v", marked, err)
	}
	if _, redelivered, err := protocol.DecodeEnvelope(marked, protocol.Limits{}); err != nil || !redelivered {
		t.Errorf("read as redelivered %v, %v", redelivered, err)
	}
	for _, raw := range []string{``, `[]`, `{`, `{}`, `{"properties": {}}`, `{"properties": {"delivery_info": []}}`, `{"headers": 1, "properties": {"delivery_info": {}}}`} {
		if got, err := protocol.MarkRedelivered([]byte(raw)); err == nil {
			t.Errorf("%q is no envelope, but became %s", raw, got)
		}
	}
}
