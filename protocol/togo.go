package protocol

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
)

// ToGo stores v in the variable that into points to, as encoding/json would but exact:
//
//	int kinds, *big.Int    int that fits; never a float, a bool or a text
//	float kinds            float, or an int they hold exactly
//	string, bool           str, bool and nothing else
//	[]byte, [N]byte        bytes (or a list of ints)
//	slice; array           list or set; as long as the array
//	map                    dict; keys are text, ints or encoding.TextUnmarshaler
//	struct                 dict, by json tags in their exact case: other keys are ignored, a missing
//	                       one leaves its field as it was
//	pointer                None is nil, else a new variable
//	any                    the Value, a copy of it
//	time.Time              datetime or date, or ISO text; naive is UTC
//	time.Duration          seconds, an int or float
//	json.RawMessage        the JSON of v; json.Number: int or finite float
//	json.Unmarshaler, encoding.TextUnmarshaler   what they read; dates, decimals and UUIDs as text
//	types of this package  their Python type; dates, Decimal and UUID also text
//
// None is nil for a pointer, slice, map or interface, and an error elsewhere. Nothing stored is shared
// with v but strings. Errors are *DecodeError; Part is the place ("[1].x", "" for v itself) and the
// text says what was wanted and got in Python's words. After an error, into may be partly set.
func ToGo(v Value, into any) error {
	if toPlain(v, into) {
		return nil
	}
	p := reflect.ValueOf(into)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return &DecodeError{Part: "value", Err: fmt.Errorf("cannot store into %T, want a pointer that is not nil", into)}
	}
	return toGo(v, p.Elem(), maxBinding)
}

// toPlain is ToGo where no reflection is needed: into a plain variable goes just what it holds.
func toPlain(v Value, into any) (ok bool) {
	switch v := v.(type) {
	case int64:
		switch p := into.(type) {
		case *int:
			if ok = p != nil && int64(int(v)) == v; ok {
				*p = int(v)
			}
		case *int64:
			if ok = p != nil; ok {
				*p = v
			}
		}
	case float64:
		if p, is := into.(*float64); is && p != nil {
			*p, ok = v, true
		}
	case string:
		if p, is := into.(*string); is && p != nil {
			*p, ok = v, true
		}
	case bool:
		if p, is := into.(*bool); is && p != nil {
			*p, ok = v, true
		}
	}
	return ok
}

// maxBinding bounds levels of values and of pointers together; no decoded value comes near it.
const maxBinding = 2*DefaultDepth + 200

var (
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func mismatch(want string, got Value) error {
	return &DecodeError{Err: fmt.Errorf("want %s, got %s", want, TypeName(got))}
}

// inside puts a step before the place a DecodeError names.
func inside(step string, err error) error {
	if e, ok := errors.AsType[*DecodeError](err); ok {
		return &DecodeError{Part: step + e.Part, Err: e.Err}
	}
	return &DecodeError{Part: step, Err: err}
}

func toGo(v Value, into reflect.Value, left int) error {
	if left == 0 {
		return &DecodeError{Err: errDepth}
	}
	t := into.Type()
	if known, err := toKnown(v, into, t); known {
		return err
	}
	if t.Kind() == reflect.Pointer {
		if v == nil {
			into.SetZero()
			return nil
		}
		fresh := reflect.New(t.Elem())
		if err := toGo(v, fresh.Elem(), left-1); err != nil {
			return err
		}
		into.Set(fresh)
		return nil
	}
	if t.Kind() != reflect.Interface && into.CanAddr() {
		switch u := into.Addr().Interface().(type) {
		case json.Unmarshaler:
			return toUnmarshaler(v, u)
		case encoding.TextUnmarshaler:
			return toText(v, u)
		}
	}
	switch t.Kind() {
	case reflect.Interface:
		return toInterface(v, into)
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			return mismatch("bool", v)
		}
		into.SetBool(b)
		return nil
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			return mismatch("str", v)
		}
		into.SetString(s)
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return toInt(v, into)
	case reflect.Float32, reflect.Float64:
		return toFloat(v, into)
	case reflect.Slice:
		return toSlice(v, into, left)
	case reflect.Array:
		return toArray(v, into, left)
	case reflect.Map:
		return toMap(v, into, left)
	case reflect.Struct:
		return toStruct(v, into, left)
	}
	return &DecodeError{Err: fmt.Errorf("nothing can be stored in a %s", t)}
}

func toInterface(v Value, into reflect.Value) error {
	if v == nil {
		into.SetZero()
		return nil
	}
	c := reflect.ValueOf(clone(v, maxBinding))
	if !c.Type().AssignableTo(into.Type()) {
		return mismatch(into.Type().String(), v)
	}
	into.Set(c)
	return nil
}

// clone copies v so deep that changing the copy cannot change v.
func clone(v Value, left int) Value {
	if left == 0 {
		return v
	}
	switch v := v.(type) {
	case []byte:
		return append(make([]byte, 0, len(v)), v...)
	case *big.Int:
		if v == nil {
			return nil
		}
		return new(big.Int).Set(v)
	case []Value:
		return cloneList(v, left)
	case Set:
		return Set(cloneList(v, left))
	case *Object:
		o := v.Clone()
		for i := range o.members {
			o.members[i].Value = clone(o.members[i].Value, left-1)
		}
		return o
	case TimeOfDay:
		if v.Offset != nil {
			offset := *v.Offset
			v.Offset = &offset
		}
		return v
	}
	return v
}

func cloneList(list []Value, left int) []Value {
	out := make([]Value, len(list))
	for i, v := range list {
		out[i] = clone(v, left-1)
	}
	return out
}

// listOf is the elements of a list or set.
func listOf(v Value) ([]Value, bool) {
	switch v := v.(type) {
	case []Value:
		return v, true
	case Set:
		return v, true
	}
	return nil, false
}

func toSlice(v Value, into reflect.Value, left int) error {
	t := into.Type()
	if v == nil {
		into.SetZero()
		return nil
	}
	if b, ok := v.([]byte); ok && t.Elem().Kind() == reflect.Uint8 {
		into.SetBytes(append(make([]byte, 0, len(b)), b...))
		return nil
	}
	list, ok := listOf(v)
	if !ok {
		if t.Elem().Kind() == reflect.Uint8 {
			return mismatch("bytes", v)
		}
		return mismatch("list", v)
	}
	fresh := reflect.MakeSlice(t, len(list), len(list))
	for i, e := range list {
		if err := toGo(e, fresh.Index(i), left-1); err != nil {
			return inside("["+strconv.Itoa(i)+"]", err)
		}
	}
	into.Set(fresh)
	return nil
}

func toArray(v Value, into reflect.Value, left int) error {
	n := into.Len()
	if b, ok := v.([]byte); ok && into.Type().Elem().Kind() == reflect.Uint8 {
		if len(b) != n {
			return &DecodeError{Err: fmt.Errorf("want %d bytes, got %d", n, len(b))}
		}
		for i, c := range b {
			into.Index(i).SetUint(uint64(c))
		}
		return nil
	}
	list, ok := listOf(v)
	if !ok {
		return mismatch("list", v)
	}
	if len(list) != n {
		return &DecodeError{Err: fmt.Errorf("want a list of %d, got %d", n, len(list))}
	}
	for i, e := range list {
		if err := toGo(e, into.Index(i), left-1); err != nil {
			return inside("["+strconv.Itoa(i)+"]", err)
		}
	}
	return nil
}

func toMap(v Value, into reflect.Value, left int) error {
	t := into.Type()
	if v == nil {
		into.SetZero()
		return nil
	}
	o, ok := v.(*Object)
	if !ok {
		return mismatch("dict", v)
	}
	fresh := reflect.MakeMapWithSize(t, o.Len())
	for _, m := range o.Members() {
		key := reflect.New(t.Key()).Elem()
		if err := toKey(m.Key, key); err != nil {
			return inside("."+clip(m.Key), err)
		}
		value := reflect.New(t.Elem()).Elem()
		if err := toGo(m.Value, value, left-1); err != nil {
			return inside("."+clip(m.Key), err)
		}
		fresh.SetMapIndex(key, value)
	}
	into.Set(fresh)
	return nil
}

func toKey(name string, key reflect.Value) error {
	if u, ok := key.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return toText(name, u)
	}
	switch {
	case key.Kind() == reflect.String:
		key.SetString(name)
		return nil
	case key.Kind() == reflect.Interface && key.NumMethod() == 0:
		key.Set(reflect.ValueOf(name))
		return nil
	case key.CanInt() || key.CanUint():
		if n, ok := new(big.Int).SetString(name, 10); ok && len(name) < 32 {
			return toInt(IntValue(n), key)
		}
		return &DecodeError{Err: fmt.Errorf("key %q is not an int", clip(name))}
	}
	return &DecodeError{Err: fmt.Errorf("a dict's key cannot be stored in a %s", key.Type())}
}

func toStruct(v Value, into reflect.Value, left int) error {
	o, ok := v.(*Object)
	if !ok {
		return mismatch("dict", v)
	}
	s := goStructOf(into.Type())
	if s.err != nil {
		return &DecodeError{Err: s.err}
	}
	for _, m := range o.Members() {
		i, ok := s.byName[m.Key]
		if !ok {
			continue
		}
		if err := toGo(m.Value, s.fields[i].make(into), left-1); err != nil {
			return inside("."+m.Key, err)
		}
	}
	return nil
}

// toUnmarshaler hands v over as JSON; what JSON has no form for goes as text, not as a typed object.
func toUnmarshaler(v Value, u json.Unmarshaler) error {
	plain := v
	if text, ok := plainText(v); ok {
		plain = text
	}
	data, err := AppendJSON(nil, plain)
	if err != nil {
		return &DecodeError{Err: err}
	}
	if err := u.UnmarshalJSON(data); err != nil {
		return &DecodeError{Err: fmt.Errorf("%s is no %s: %w", TypeName(v), reflect.TypeOf(u).Elem(), err)}
	}
	return nil
}

func toText(v Value, u encoding.TextUnmarshaler) error {
	text, ok := v.(string)
	if !ok {
		if text, ok = plainText(v); !ok {
			return mismatch("str", v)
		}
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		return &DecodeError{Err: fmt.Errorf("not a %s: %w", reflect.TypeOf(u).Elem(), err)}
	}
	return nil
}

// plainText is str(v) of the types that stand for a text.
func plainText(v Value) (string, bool) {
	switch v := v.(type) {
	case DateTime:
		return string(appendISO(nil, v, 'T')), true
	case Date:
		return string(appendISODate(nil, v)), true
	case TimeOfDay:
		return string(appendISOTime(nil, v)), true
	case Decimal:
		return string(v), true
	case UUID:
		return v.String(), true
	}
	return "", false
}
