package protocol

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const sharedMost = 4 << 10

// usualEnvelope reads what Kombu and EncodeEnvelope push in nearly every case, each part straight to where it belongs:
// the body first and in base64, and no known key of a type that it should not have or twice. It is not ok with anything
// else, which DecodeEnvelope then reads from the start and judges. What is ok here is read there to the same Message.
//
// The strings of the headers and properties share the text when it is short, else a copy of what is behind the body: an id that
// is kept for long keeps little beside it.
func usualEnvelope(raw string, l Limits) (m Message, redelivered, ok bool) {
	body, rest, ok := cutBody(raw)
	if !ok {
		return Message{}, false, false
	}
	if len(raw) > sharedMost {
		rest = strings.Clone(rest)
	}
	// The envelope and its body are read: two values, of which one is an object.
	p := jsonParser{s: rest, left: l.depth() - 1, budget: l.values() - 2 - containerCost}
	if !utf8.ValidString(p.s) || !p.envelope(&m, &redelivered) {
		return Message{}, false, false
	}
	if m.Body, ok = strictBase64(body); !ok {
		return Message{}, false, false
	}
	return m, redelivered, true
}

// cutBody splits an envelope that begins with its body into the text of that and what follows.
func cutBody(raw string) (body, rest string, ok bool) {
	for _, head := range []string{`{"body": "`, `{"body":"`} { // Python's spacing, and that of everybody else
		if text, is := strings.CutPrefix(raw, head); is {
			return strings.Cut(text, `"`)
		}
	}
	return "", "", false
}

// strictBase64 takes nothing that would not be read in the same way between the quotes of a JSON string.
func strictBase64(text string) ([]byte, bool) {
	if strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 { // which the decoder skips
		return nil, false
	}
	out, err := base64.StdEncoding.DecodeString(text)
	return out, err == nil
}

// envelope reads what follows the body, up to the end.
func (p *jsonParser) envelope(m *Message, redelivered *bool) bool {
	properties := false
	for {
		key, more, err := p.member(false)
		if err != nil {
			return false
		}
		if !more {
			p.space()
			return properties && p.i == len(p.s)
		}
		ok := true
		switch key {
		case "content-encoding":
			m.Properties.ContentEncoding, ok = p.text()
		case "content-type":
			m.Properties.ContentType, ok = p.text()
		case "headers":
			m.Headers, ok = p.table(usualHeaders)
		case "properties":
			ok = !properties && p.properties(m, redelivered)
			properties = true
		case "body":
			ok = false
		default:
			_, err := p.value()
			ok = err == nil
		}
		if !ok {
			return false
		}
	}
}

// properties reads the object properties: once, as it adds to what m has.
func (p *jsonParser) properties(m *Message, redelivered *bool) bool {
	if !p.begin() {
		return false
	}
	var tag, encoding string
	address := false
	for first := true; ; first = false {
		key, more, err := p.member(first)
		if err != nil {
			return false
		}
		if !more {
			return tag != "" && encoding == "base64" && address
		}
		ok := true
		switch key {
		case "delivery_tag":
			tag, ok = p.text()
		case "body_encoding":
			encoding, ok = p.text()
		case "delivery_info":
			ok = !address && p.address(m, redelivered)
			address = true
		default:
			ok = p.property(&m.Properties, key)
		}
		if !ok {
			return false
		}
	}
}

func (p *jsonParser) property(into *Properties, key string) (ok bool) {
	if text := into.text(key); text != nil {
		*text, ok = p.text()
		return ok
	}
	v, err := p.value()
	if err != nil {
		return false
	}
	known, fits := into.set(key, v)
	if !known {
		if into.Extra == nil {
			into.Extra = &Object{}
		}
		into.Extra.Set(key, v)
	}
	return !known || fits
}

// address reads the object delivery_info.
func (p *jsonParser) address(m *Message, redelivered *bool) bool {
	if !p.begin() {
		return false
	}
	exchange, key := false, false
	for first := true; ; first = false {
		name, more, err := p.member(first)
		if err != nil {
			return false
		}
		if !more {
			return exchange && key
		}
		ok := true
		switch name {
		case "exchange":
			m.Exchange, ok = p.text()
			exchange = true
		case "routing_key":
			m.RoutingKey, ok = p.text()
			key = true
		default:
			v, err := p.value()
			if ok = err == nil; name == "redelivered" {
				*redelivered = Truthy(v)
			}
		}
		if !ok {
			return false
		}
	}
}

// begin enters the object that must begin here.
func (p *jsonParser) begin() bool {
	p.budget--
	return p.budget >= 0 && p.peek() == '{' && p.enter() == nil
}

// text reads a text, or null for "".
func (p *jsonParser) text() (s string, ok bool) {
	if p.budget--; p.budget < 0 {
		return "", false
	}
	var err error
	switch p.peek() {
	case '"':
		s, err = p.str()
	case 'n':
		err = p.literal("null")
	default:
		return "", false
	}
	return s, err == nil
}

// usualHeaders is how many headers a message of Celery 5.7 has.
const usualHeaders = 20

// table reads an object, or null for none. room is how many members are likely.
func (p *jsonParser) table(room int) (*Object, bool) {
	if p.budget--; p.budget < 0 {
		return nil, false
	}
	switch p.peek() {
	case 'n':
		return nil, p.literal("null") == nil
	case '{':
		v, _ := p.object(room)
		o, ok := v.(*Object)
		return o, ok
	}
	return nil, false
}
