package handlers

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A Param is one parameter as data: what a stub in Python is generated from.
type Param struct {
	Name     string // "*args" and "**kwargs" carry their stars
	Type     string // Python's name for it: "int", "str", "list[int]", "str | None", "Any"; with stars, of one element
	Optional bool
	Default  protocol.Value // of an optional parameter; nil is None; read it, do not change it
	Keyword  bool           // keyword-only
}

// Params are the task's parameters in order. The slice is the caller's.
func (h Handler) Params() []Param {
	if h.shape == nil {
		return nil
	}
	params := make([]Param, 0, len(h.shape.fields)+2)
	for _, f := range h.shape.fields {
		if f.keyword {
			continue
		}
		params = append(params, f.param())
	}
	if a := h.shape.rest; a != nil {
		params = append(params, Param{Name: "*" + a.name, Type: elementWord(a.typ), Optional: true})
	}
	for _, f := range h.shape.fields {
		if f.keyword {
			params = append(params, f.param())
		}
	}
	if k := h.shape.others; k != nil {
		params = append(params, Param{Name: "**" + k.name, Type: elementWord(k.typ), Optional: true})
	}
	return params
}

func (f *field) param() Param {
	p := Param{Name: f.name, Type: typeWord(f.typ, nil), Optional: f.optional, Keyword: f.keyword}
	if f.hasDefault {
		p.Default = f.fallback
	} else if f.optional && !takesNone(f.typ) {
		p.Type += " | None"
	}
	return p
}

var (
	valueType     = reflect.TypeFor[protocol.Value]()
	valuesType    = reflect.TypeFor[[]protocol.Value]()
	objectType    = reflect.TypeFor[*protocol.Object]()
	jsonReader    = reflect.TypeFor[json.Unmarshaler]()
	textReader    = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonWriter    = reflect.TypeFor[json.Marshaler]()
	textWriter    = reflect.TypeFor[encoding.TextMarshaler]()
	typeWordTable = map[reflect.Type]string{
		reflect.TypeFor[protocol.Object]():    "dict",
		reflect.TypeFor[big.Int]():            "int",
		reflect.TypeFor[time.Time]():          "datetime.datetime",
		reflect.TypeFor[time.Duration]():      "float", // seconds
		reflect.TypeFor[json.Number]():        "float",
		reflect.TypeFor[protocol.DateTime]():  "datetime.datetime",
		reflect.TypeFor[protocol.Date]():      "datetime.date",
		reflect.TypeFor[protocol.TimeOfDay](): "datetime.time",
		reflect.TypeFor[protocol.Decimal]():   "decimal.Decimal",
		reflect.TypeFor[protocol.UUID]():      "uuid.UUID",
		reflect.TypeFor[protocol.Set]():       "set",
	}
)

// typeWord is Python's annotation for a Go type. seen guards against types that contain themselves.
func typeWord(t reflect.Type, seen []reflect.Type) string {
	if word, ok := typeWordTable[t]; ok {
		return word
	}
	if t.Kind() == reflect.Pointer {
		word := typeWord(t.Elem(), seen)
		if word == "Any" || t == objectType || t.Elem() == reflect.TypeFor[big.Int]() || strings.HasSuffix(word, " | None") {
			return word
		}
		return word + " | None"
	}
	pointer := reflect.PointerTo(t)
	switch {
	case pointer.Implements(jsonReader):
		return "Any"
	case pointer.Implements(textReader):
		return "str"
	}
	if slices.Contains(seen, t) {
		return "Any"
	}
	seen = append(seen, t)
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "str"
	case reflect.Float32, reflect.Float64:
		return "float"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "int"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return listWord("list", typeWord(t.Elem(), seen))
	case reflect.Map:
		if word := typeWord(t.Elem(), seen); word != "Any" {
			return "dict[str, " + word + "]"
		}
		return "dict"
	case reflect.Struct:
		return "dict"
	}
	return "Any"
}

func listWord(list, element string) string {
	if element == "Any" {
		return list
	}
	return list + "[" + element + "]"
}

// elementWord is the annotation of one of *args or **kwargs.
func elementWord(t reflect.Type) string {
	if t == objectType {
		return "Any"
	}
	return typeWord(t.Elem(), nil)
}

// takesNone reports whether None has a meaning of its own in a field of type t.
func takesNone(t reflect.Type) bool {
	if _, known := typeWordTable[t]; known {
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		return true
	}
	return reflect.PointerTo(t).Implements(jsonReader)
}

// refuse says why a Go type can carry no Python value, or "".
func refuse(t reflect.Type, seen []reflect.Type) string {
	if _, known := typeWordTable[t]; known || slices.Contains(seen, t) {
		return ""
	}
	pointer := reflect.PointerTo(t)
	if pointer.Implements(jsonReader) || pointer.Implements(textReader) || pointer.Implements(jsonWriter) || pointer.Implements(textWriter) {
		return ""
	}
	seen = append(seen, t)
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		return fmt.Sprintf("no Python value fits a %s", t.Kind())
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return refuse(t.Elem(), seen)
	case reflect.Map:
		k := t.Key()
		integer := k.Kind() >= reflect.Int && k.Kind() <= reflect.Uintptr
		if k.Kind() != reflect.String && !integer && !k.Implements(textWriter) && !reflect.PointerTo(k).Implements(textReader) {
			return fmt.Sprintf("the map's keys are %v, want text or integers", k)
		}
		return refuse(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Tag.Get("json") == "-" || !f.IsExported() && !f.Anonymous {
				continue
			}
			if reason := refuse(f.Type, seen); reason != "" {
				return f.Name + ": " + reason
			}
		}
	}
	return ""
}
