package protocol

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// A goField is one field of a struct as its json tag names it, embedded structs' fields included.
type goField struct {
	name      string
	index     []int // as reflect.Value.FieldByIndex takes it
	tagged    bool
	omitEmpty bool
	omitZero  bool
	order     int
}

type goStruct struct {
	fields []goField
	byName map[string]int
	err    error // a tag that cannot be honoured
}

var goStructs sync.Map // reflect.Type -> *goStruct

// goStructOf is the fields of a struct type by encoding/json's rules: the shallowest field of a name
// wins, at equal depth the only tagged one, else none. Names are exact.
func goStructOf(t reflect.Type) *goStruct {
	if s, ok := goStructs.Load(t); ok {
		return s.(*goStruct)
	}
	s := &goStruct{byName: map[string]int{}}
	var all []goField
	s.collect(t, nil, map[reflect.Type]bool{}, &all)
	slices.SortStableFunc(all, func(a, b goField) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(len(a.index), len(b.index)), boolFirst(a.tagged, b.tagged))
	})
	for i := 0; i < len(all); {
		j := i + 1
		for j < len(all) && all[j].name == all[i].name {
			j++
		}
		// Two equally good ones hide each other.
		if j == i+1 || len(all[i].index) != len(all[i+1].index) || all[i].tagged != all[i+1].tagged {
			s.fields = append(s.fields, all[i])
		}
		i = j
	}
	slices.SortFunc(s.fields, func(a, b goField) int { return cmp.Compare(a.order, b.order) })
	for i, f := range s.fields {
		s.byName[f.name] = i
	}
	kept, _ := goStructs.LoadOrStore(t, s)
	return kept.(*goStruct)
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// collect walks t; above are the structs being walked, so that one embedding itself ends.
func (s *goStruct) collect(t reflect.Type, index []int, above map[reflect.Type]bool, all *[]goField) {
	if above[t] {
		return
	}
	above[t] = true
	defer delete(above, t)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		at := append(slices.Clone(index), i)
		switch {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct && !isLeaf(inner):
			if f.Type.Kind() == reflect.Pointer && !f.IsExported() {
				s.err = fmt.Errorf("%s embeds a pointer to the unexported %s", t, inner)
				continue
			}
			s.collect(inner, at, above, all)
			continue
		case !f.IsExported():
			continue
		}
		field := goField{name: name, index: at, tagged: name != "", order: len(*all)}
		if name == "" {
			field.name = f.Name
		}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				field.omitEmpty = true
			case "omitzero":
				field.omitZero = true
			case "string":
				s.err = fmt.Errorf("field %s of %s: the json option \"string\" is not supported", f.Name, t)
			}
		}
		*all = append(*all, field)
	}
}

// field is FieldByIndex that returns ok false instead of walking through a nil pointer.
func (f goField) of(v reflect.Value) (reflect.Value, bool) {
	for i, n := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v, true
}

// make is of that allocates the pointers on its way.
func (f goField) make(v reflect.Value) reflect.Value {
	for i, n := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v
}
