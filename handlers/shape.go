package handlers

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/stalkworker/stalk/protocol"
)

// A shape is the parameter list of a task, made once from its struct. It is not changed afterwards.
type shape struct {
	fields     []*field       // positional first, then keyword-only
	positional int            // how many of fields are positional
	byName     map[string]int // into fields
	rest       *field         // *args, nil: none
	others     *field         // **kwargs, nil: none
	faults     []string       // what is wrong with the struct, each naming its field
}

// A field is one parameter.
type field struct {
	name       string // the keyword's name
	goName     string // the struct field's, for faults
	index      []int  // for reflect.Value.FieldByIndex; no pointer on the way
	typ        reflect.Type
	optional   bool
	keyword    bool
	hasDefault bool
	fallback   protocol.Value // the default; ToGo makes a copy for each call
}

func (f *field) of(in reflect.Value) reflect.Value { return in.FieldByIndex(f.index) }

// shapeOf reads the parameters from a struct type or a pointer to one.
func shapeOf(t reflect.Type) *shape {
	s := &shape{byName: make(map[string]int)}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		s.fault("", fmt.Sprintf("arguments are a %v, want a struct (struct{} for a task without any)", t))
		return s
	}
	s.collect(t, nil)
	// Keyword-only ones go last, wherever they stood; Python has them after all others too.
	slices.SortStableFunc(s.fields, func(a, b *field) int {
		switch {
		case a.keyword == b.keyword:
			return 0
		case b.keyword:
			return -1
		}
		return 1
	})
	for _, f := range []*field{s.rest, s.others} {
		if f != nil && slices.ContainsFunc(s.fields, func(other *field) bool { return other.name == f.name }) {
			s.fault(f.goName, fmt.Sprintf("the name %q is taken by another field", f.name))
		}
	}
	if s.rest != nil && s.others != nil && s.rest.name == s.others.name {
		s.fault(s.others.goName, fmt.Sprintf("the name %q is taken by another field", s.others.name))
	}
	var optional *field
	for i, f := range s.fields {
		if _, taken := s.byName[f.name]; taken {
			s.fault(f.goName, fmt.Sprintf("the name %q is taken by another field", f.name))
		}
		s.byName[f.name] = i
		if f.keyword {
			continue
		}
		s.positional++
		switch {
		case f.optional:
			optional = f
		case optional != nil:
			s.fault(f.goName, fmt.Sprintf("a required parameter after the optional %q: Python has no such function", optional.name))
		}
	}
	return s
}

// rawShape is the parameters of Raw: *args and **kwargs.
func rawShape() *shape {
	return &shape{
		rest:   &field{name: "args", typ: valuesType},
		others: &field{name: "kwargs", typ: objectType},
	}
}

func (s *shape) fault(goName, text string) {
	if goName != "" {
		text = "field " + goName + ": " + text
	}
	s.faults = append(s.faults, text)
}

// collect appends the fields of t, which lies at index in the outermost struct.
func (s *shape) collect(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, tagged := sf.Tag.Lookup("json")
		if tag == "-" {
			continue
		}
		if sf.Anonymous && !tagged {
			switch {
			case sf.Type.Kind() == reflect.Struct && refuse(sf.Type, nil) == "" && typeWord(sf.Type, nil) == "dict":
				s.collect(sf.Type, at)
				continue
			case sf.Type.Kind() == reflect.Pointer && sf.Type.Elem().Kind() == reflect.Struct:
				s.fault(sf.Name, "an embedded pointer cannot be filled; embed the struct or name the field")
				continue
			}
		}
		if !sf.IsExported() {
			if tagged || sf.Tag.Get("default") != "" || sf.Tag.Get("celery") != "" {
				s.fault(sf.Name, "the field has tags but is not exported")
			}
			continue
		}
		s.add(sf, at, tag)
	}
}

// add makes a parameter of one exported field.
func (s *shape) add(sf reflect.StructField, at []int, tag string) {
	f := &field{goName: sf.Name, index: at, typ: sf.Type, keyword: s.rest != nil}
	name, options, _ := strings.Cut(tag, ",")
	f.name = name
	if name == "" {
		f.name = sf.Name
	}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "":
		case "omitzero", "omitempty":
			f.optional = true
		default:
			s.fault(sf.Name, fmt.Sprintf("the json option %q means nothing for a parameter", option))
		}
	}
	marker, marked := sf.Tag.Lookup("celery")
	switch {
	case !marked:
	case marker == "keyword":
		f.keyword = true
	case marker == "*args":
		s.addRest(f, sf)
		return
	case marker == "**kwargs":
		s.addOthers(f, sf)
		return
	default:
		s.fault(sf.Name, fmt.Sprintf(`the celery tag is %q, want "keyword", "*args" or "**kwargs"`, marker))
	}
	if s.others != nil {
		s.fault(sf.Name, "a parameter after **kwargs: Python has no such function")
	}
	if !identifier(f.name) {
		s.fault(sf.Name, fmt.Sprintf("%q cannot be the name of a Python parameter", f.name))
	}
	if reason := s.unfit(f.typ); reason != "" {
		s.fault(sf.Name, reason)
	} else if text, ok := sf.Tag.Lookup("default"); ok {
		f.optional = true
		if err := f.setDefault(text); err != nil {
			s.fault(sf.Name, fmt.Sprintf("default %q: %v", text, err))
		}
	}
	s.fields = append(s.fields, f)
}

func (s *shape) addRest(f *field, sf reflect.StructField) {
	switch {
	case s.rest != nil:
		s.fault(sf.Name, "a second *args")
	case s.others != nil:
		s.fault(sf.Name, "*args after **kwargs: Python has no such function")
	case sf.Type.Kind() != reflect.Slice:
		s.fault(sf.Name, fmt.Sprintf("*args is a %v, want a slice", sf.Type))
	case s.unfit(sf.Type.Elem()) != "":
		s.fault(sf.Name, s.unfit(sf.Type.Elem()))
	}
	s.variadic(f, sf)
	s.rest = f
}

func (s *shape) addOthers(f *field, sf reflect.StructField) {
	switch {
	case s.others != nil:
		s.fault(sf.Name, "a second **kwargs")
	case sf.Type == objectType:
	case sf.Type.Kind() != reflect.Map || sf.Type.Key().Kind() != reflect.String:
		s.fault(sf.Name, fmt.Sprintf("**kwargs is a %v, want *protocol.Object or a map with string keys", sf.Type))
	case s.unfit(sf.Type.Elem()) != "":
		s.fault(sf.Name, s.unfit(sf.Type.Elem()))
	}
	s.variadic(f, sf)
	s.others = f
}

func (s *shape) variadic(f *field, sf reflect.StructField) {
	if _, ok := sf.Tag.Lookup("default"); ok {
		s.fault(sf.Name, "*args and **kwargs have no default")
	}
	if !identifier(f.name) {
		s.fault(sf.Name, fmt.Sprintf("%q cannot be the name of a Python parameter", f.name))
	}
}

// unfit says why a parameter cannot be of type t, or "".
func (s *shape) unfit(t reflect.Type) string {
	if reason := refuse(t, nil); reason != "" {
		return reason
	}
	if t.Kind() == reflect.Interface && t != valueType {
		return fmt.Sprintf("nothing can be stored in a %v; want any or a concrete type", t)
	}
	return ""
}

// setDefault reads the default tag: bare text for a string, else JSON, else (a time, say) text again. It must
// fit the field.
func (f *field) setDefault(text string) error {
	f.hasDefault = true
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String {
		f.fallback = text
	} else if v, err := protocol.ParseJSON([]byte(text), protocol.Limits{}); err == nil {
		f.fallback = v
	} else if _, known := typeWordTable[t]; known || reflect.PointerTo(t).Implements(textReader) {
		f.fallback = text
	} else {
		return fmt.Errorf("want JSON for a Go %v", f.typ)
	}
	if err := store("", f.name, reflect.New(f.typ).Elem(), f.fallback); err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ") // store's error speaks of a call, which this is not
		_, why, _ = strings.Cut(why, "': ")
		return fmt.Errorf("does not fit a Go %v: %s", f.typ, why)
	}
	return nil
}

// identifier reports whether Python takes name for a parameter.
func identifier(name string) bool {
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return name != "" && !slices.Contains(pythonKeywords, name)
}

// pythonKeywords are keyword.kwlist of Python 3.11.
var pythonKeywords = strings.Fields(`False None True and as assert async await break class continue def del elif else
	except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield`)
