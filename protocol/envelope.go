package protocol

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// DecodeEnvelope reads one element of a Kombu Redis list. Whatever a Python worker would die of (no JSON,
// no delivery_tag, no delivery_info) is a *DecodeError naming the part; the message is then no envelope and
// must not be given back to the queue. redelivered is properties.delivery_info.redelivered.
//
// The body is unwrapped by body_encoding and stays compressed and serialized.
//
// A text of more bytes than a body within l can need is not parsed: the error wraps ErrTooLarge. Then m has no body, but
// headers and properties where they could be read without it, so that somebody can be told.
func DecodeEnvelope(raw []byte, l Limits) (m Message, redelivered bool, err error) {
	return DecodeEnvelopeText(string(raw), l)
}

// DecodeEnvelopeText is DecodeEnvelope for a text that is kept anyhow: that of a short one is not copied, m's strings share it.
func DecodeEnvelopeText(raw string, l Limits) (m Message, redelivered bool, err error) {
	if most := envelopeMost(l); int64(len(raw)) > most {
		err := &DecodeError{Part: "envelope", Err: fmt.Errorf("is of %d bytes, at most %d are read: %w", len(raw), most, ErrTooLarge)}
		rest, ok := withoutBody(raw)
		if !ok || len(rest) > envelopeRest {
			return Message{}, false, err
		}
		m, redelivered, bad := DecodeEnvelopeText(rest, l)
		if bad != nil {
			return Message{}, false, err
		}
		m.Body = nil
		return m, redelivered, err
	}
	if m, redelivered, ok := usualEnvelope(raw, l); ok {
		return m, redelivered, nil
	}
	return anyEnvelope([]byte(raw), l)
}

// anyEnvelope is DecodeEnvelope for what is not as usual.
func anyEnvelope(raw []byte, l Limits) (m Message, redelivered bool, err error) {
	doc, err := ParseJSON(raw, l)
	if err != nil {
		return Message{}, false, partError("envelope", err)
	}
	env, ok := doc.(*Object)
	if !ok {
		return Message{}, false, wrongType("envelope", doc, "an object")
	}
	props, err := envelopeObject(env, "properties")
	if err != nil {
		return Message{}, false, err
	}
	if tag, _ := props.Get("delivery_tag"); !isText(tag) {
		return Message{}, false, wrongType("properties.delivery_tag", tag, "a text")
	}
	info, err := envelopeObject(props, "delivery_info")
	if err != nil {
		return Message{}, false, partError("properties", err)
	}
	if m.Exchange, err = destination(info, "exchange"); err != nil {
		return Message{}, false, err
	}
	if m.RoutingKey, err = destination(info, "routing_key"); err != nil {
		return Message{}, false, err
	}
	if h, _ := env.Get("headers"); h != nil {
		if m.Headers, ok = h.(*Object); !ok {
			return Message{}, false, wrongType("headers", h, "an object")
		}
	}
	if m.Body, err = envelopeBody(env, props); err != nil {
		return Message{}, false, err
	}
	m.Properties = envelopeProperties(env, props)
	again, _ := info.Get("redelivered")
	return m, Truthy(again), nil
}

// envelopeRest is how many bytes of an envelope may be other than its body.
const envelopeRest = 16 << 20

// envelopeMost is how large an envelope may be: base64 takes four thirds of a body, text with quotes in it up to twice as much.
func envelopeMost(l Limits) int64 { return 2*int64(l.inflated()) + envelopeRest }

// withoutBody is raw with an empty text in place of its body, and whether it has one that is a text. It only looks for where
// texts end and is no check of the rest.
func withoutBody(raw string) (string, bool) {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := textEnd(raw, i)
			if end < 0 {
				return "", false
			}
			key := raw[i:end]
			i = end - 1
			if depth != 1 || key != `"body"` {
				continue
			}
			colon := end + blanks(raw[end:])
			if colon == len(raw) || raw[colon] != ':' {
				continue
			}
			start := colon + 1 + blanks(raw[colon+1:])
			if start == len(raw) || raw[start] != '"' {
				return "", false
			}
			if end = textEnd(raw, start); end < 0 {
				return "", false
			}
			if start+len(raw)-end > envelopeRest { // not copied in vain
				return "", false
			}
			return raw[:start] + `""` + raw[end:], true
		}
	}
	return "", false
}

// textEnd is the index behind the JSON text that begins at i, -1 when it does not end.
func textEnd(raw string, i int) int {
	for i++; ; i++ {
		n := strings.IndexByte(raw[i:], '"')
		if n < 0 {
			return -1
		}
		escapes := 0
		for i += n; raw[i-escapes-1] == '\\'; { // the opening quote ends this at the latest
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

func blanks(raw string) int { return len(raw) - len(strings.TrimLeft(raw, " \t\r\n")) }

// destination reads a key that must be there; null is the empty name.
func destination(info *Object, key string) (string, error) {
	v, there := info.Get(key)
	s, text := v.(string)
	if !there || (!text && v != nil) {
		return "", wrongType("properties.delivery_info."+key, v, "a text")
	}
	return s, nil
}

func envelopeObject(of *Object, key string) (*Object, error) {
	v, _ := of.Get(key)
	o, ok := v.(*Object)
	if !ok {
		return nil, wrongType(key, v, "an object")
	}
	return o, nil
}

// envelopeBody unwraps the body. Kombu knows base64 by exactly that name, and takes utf-8 (in any case),
// null and "" for text as it is.
func envelopeBody(env, props *Object) ([]byte, error) {
	v, _ := env.Get("body")
	if v == nil {
		return nil, nil
	}
	text, ok := v.(string)
	if !ok {
		return nil, wrongType("body", v, "a text")
	}
	encoding, _ := props.Get("body_encoding")
	name, ok := encoding.(string)
	switch {
	case encoding == nil, ok && (name == "" || strings.EqualFold(name, "utf-8")):
		return []byte(text), nil
	case name != "base64":
		return nil, wrongType("properties.body_encoding", encoding, `"base64", "utf-8" or null`)
	}
	body, err := pythonBase64(text)
	if err != nil {
		return nil, &DecodeError{Part: "body", Err: err}
	}
	return body, nil
}

// envelopeProperties fills what has a field. A known key whose value does not fit its field is kept in
// Extra like an unknown one: nobody needs it to run the task, and it goes on as it came.
func envelopeProperties(env, props *Object) Properties {
	var p Properties
	var extra *Object
	for _, member := range props.Members() {
		switch member.Key {
		case "delivery_tag", "delivery_info", "body_encoding":
			continue
		}
		if _, fits := p.set(member.Key, member.Value); fits {
			continue
		}
		if extra == nil {
			extra = &Object{}
		}
		extra.Set(member.Key, member.Value)
	}
	if v, _ := env.Get("content-type"); v != nil {
		p.ContentType, _ = v.(string)
	}
	if v, _ := env.Get("content-encoding"); v != nil {
		p.ContentEncoding, _ = v.(string)
	}
	p.Extra = extra
	return p
}

// set fills the field of a property, if key is known to have one and v fits it.
func (p *Properties) set(key string, v Value) (known, fits bool) {
	switch key {
	case "priority":
		n, ok := wholeNumber(v)
		if p.Priority = nil; ok {
			p.Priority = &n
		}
		return true, ok || v == nil
	case "delivery_mode":
		n, ok := wholeNumber(v)
		if ok = ok && n >= 0 && n <= 255; ok {
			p.DeliveryMode = uint8(n)
		}
		return true, ok
	case "timestamp":
		d, ok := v.(DateTime)
		p.Timestamp = d.Time
		return true, ok
	}
	into := p.text(key)
	if into == nil {
		return false, false
	}
	s, ok := v.(string)
	*into = s
	return true, ok || v == nil
}

// text is the field of a property that is a text; nil for any other.
func (p *Properties) text(key string) *string {
	switch key {
	case "correlation_id":
		return &p.CorrelationID
	case "reply_to":
		return &p.ReplyTo
	case "expiration":
		return &p.Expiration
	case "message_id":
		return &p.MessageID
	case "type":
		return &p.Type
	case "user_id":
		return &p.UserID
	case "app_id":
		return &p.AppID
	}
	return nil
}

// wholeNumber is v as an int where it is one, or a text or float that says one.
func wholeNumber(v Value) (int, bool) {
	switch n := v.(type) {
	case int64:
		return int(n), int64(int(n)) == n
	case float64:
		if n == float64(int32(n)) {
			return int(n), true
		}
	case string:
		i, err := strconv.Atoi(n)
		return i, err == nil
	}
	return 0, false
}

// EncodeEnvelope writes m as Kombu would push it: same keys in the same order. deliveryTag is a fresh UUID
// for every publish; Python peers tell messages apart by it.
func EncodeEnvelope(m Message, deliveryTag string) ([]byte, error) {
	if deliveryTag == "" {
		return nil, &EncodeError{Part: "properties.delivery_tag", Err: errors.New("is empty")}
	}
	p := m.Properties
	priority := 0
	if p.Priority != nil {
		priority = *p.Priority
	}
	props := &Object{}
	setText := func(key, value string) {
		if value != "" {
			props.Set(key, value)
		}
	}
	setText("correlation_id", p.CorrelationID)
	setText("reply_to", p.ReplyTo)
	setText("message_id", p.MessageID)
	if !p.Timestamp.IsZero() {
		props.Set("timestamp", DateTime{Time: p.Timestamp})
	}
	setText("type", p.Type)
	setText("user_id", p.UserID)
	setText("app_id", p.AppID)
	for _, member := range p.Extra.Members() {
		switch member.Key {
		case "delivery_tag", "delivery_info", "body_encoding", "priority", "delivery_mode":
			// Ours to say: a value that came in here would break the reader of the new message.
		default:
			if _, there := props.Get(member.Key); !there {
				props.Set(member.Key, member.Value)
			}
		}
	}
	if p.DeliveryMode != 0 {
		props.Set("delivery_mode", int64(p.DeliveryMode))
	}
	setText("expiration", p.Expiration)
	props.Set("delivery_info", ObjectOf(Member{"exchange", m.Exchange}, Member{"routing_key", m.RoutingKey}))
	props.Set("priority", int64(priority))
	props.Set("body_encoding", "base64")
	props.Set("delivery_tag", deliveryTag)
	headers := m.Headers
	if headers == nil {
		headers = &Object{}
	}
	env := ObjectOf(
		Member{"body", base64.StdEncoding.EncodeToString(m.Body)},
		Member{"content-encoding", textOrNil(p.ContentEncoding)},
		Member{"content-type", textOrNil(p.ContentType)},
		Member{"headers", headers},
		Member{"properties", props},
	)
	raw, err := AppendJSON(make([]byte, 0, len(m.Body)*4/3+1024), env)
	if err != nil {
		return nil, fmt.Errorf("protocol: envelope: %w", err)
	}
	return raw, nil
}
