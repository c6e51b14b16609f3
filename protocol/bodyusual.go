package protocol

import "unicode/utf8"

// jsonContent is the content type of nearly every message.
const jsonContent = "application/json"

// usual takes a body of protocol 2 in JSON, read straight to where its parts belong, if they are what they should be.
// If not it leaves t alone and reports false: the body is then read again in the general way, which also has the errors.
func (t *Task) usual(data []byte, l Limits) bool {
	p := jsonParser{s: string(data), left: l.depth(), budget: l.values() - 1} // the body itself is one value
	var got Task
	if !utf8.ValidString(p.s) || !p.call(&got) {
		return false
	}
	t.Args, t.Kwargs = got.Args, got.Kwargs
	t.Callbacks, t.Errbacks, t.Chain, t.Chord = got.Callbacks, got.Errbacks, got.Chain, got.Chord
	return true
}

// call reads [args, kwargs, embed], which is all there is.
func (p *jsonParser) call(t *Task) bool {
	if p.space(); p.peek() != '[' || p.enter() != nil {
		return false
	}
	var ok bool
	if t.Args, ok = p.values(); !ok || t.Args == nil || !p.comma() {
		return false
	}
	if t.Kwargs, ok = p.table(4); !ok || t.Kwargs == nil || !p.comma() || !p.embed(t) {
		return false
	}
	if p.space(); p.peek() != ']' {
		return false
	}
	p.leave()
	p.space()
	return p.i == len(p.s)
}

// embed reads {"callbacks": null, "errbacks": null, "chain": null, "chord": null}.
func (p *jsonParser) embed(t *Task) bool {
	if !p.begin() {
		return false
	}
	for first := true; ; first = false {
		key, more, err := p.member(first)
		if err != nil || !more {
			return err == nil
		}
		ok := false
		if list := t.embedded(key); list != nil {
			*list, ok = p.values()
		} else if key == "chord" {
			t.Chord, err = p.value()
			if ok = err == nil; !Truthy(t.Chord) {
				t.Chord = nil
			}
		}
		if !ok {
			return false
		}
	}
}

func (p *jsonParser) comma() bool {
	if p.space(); p.peek() != ',' {
		return false
	}
	p.i++
	p.space()
	return true
}

// values reads a list, or null for nil.
func (p *jsonParser) values() ([]Value, bool) {
	if p.budget--; p.budget < 0 {
		return nil, false
	}
	switch p.peek() {
	case 'n':
		return nil, p.literal("null") == nil
	case '[':
		list, err := p.list()
		return list, err == nil
	}
	return nil, false
}
