package protocol

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// FromGo turns an ordinary Go value into a Value of its own (nothing is shared with v but strings):
//
//	nil pointers, interfaces   None; nil slices and maps are [] and {}
//	ints, *big.Int, big.Int    int, exactly; floats: float (a float32 by its shortest digits)
//	[]byte                     bytes
//	slices, arrays             list
//	maps                       dict, sorted by key; keys are text, integers or encoding.TextMarshaler
//	structs                    dict, by json tags (omitempty, omitzero, "-", embedding; not "string")
//	time.Time                  datetime; time.Duration: seconds, a float
//	json.Number, RawMessage    what they hold
//	json.Marshaler             what it writes, read by ParseJSON
//	encoding.TextMarshaler     str
//	Values                     themselves
//
// It refuses, with an *EncodeError that names the place: errors (a handler returns those as its
// error), big.Float, big.Rat, complex numbers, channels, functions, what is nested too deeply or
// contains itself, and a dict of just "__type__" and "__value__", which no reader would take.
func FromGo(v any) (Value, error) { return fromGo(v, DefaultDepth) }

func fromGo(v any, left int) (Value, error) {
	switch v := v.(type) { // what needs no reflection
	case nil:
		return nil, nil
	case bool, string, int64, float64, DateTime, Date, TimeOfDay, UUID:
		return v, nil
	case int:
		return int64(v), nil
	case Decimal:
		d, err := ParseDecimal(string(v))
		if err != nil {
			return nil, &EncodeError{Err: err}
		}
		return d, nil
	case []byte:
		return append(make([]byte, 0, len(v)), v...), nil
	case []Value:
		return listFromGo(v, left)
	case Set:
		l, err := listFromGo(v, left)
		if err != nil {
			return nil, err
		}
		return Set(l), nil
	case *Object:
		return objectFromGo(v, left)
	case *big.Int:
		if v == nil {
			return nil, nil
		}
		return IntValue(new(big.Int).Set(v)), nil
	case time.Time:
		return DateTime{Time: v}, nil
	case time.Duration:
		return v.Seconds(), nil
	case json.Number:
		return fromNumber(v)
	case json.RawMessage:
		if len(v) == 0 {
			return nil, nil
		}
		return fromJSON(v, left)
	}
	return fromReflect(reflect.ValueOf(v), left)
}

func listFromGo(list []Value, left int) ([]Value, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepGo}
	}
	out := make([]Value, len(list))
	var err error
	for i, v := range list {
		if out[i], err = fromGo(v, left-1); err != nil {
			return nil, within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return out, nil
}

func objectFromGo(o *Object, left int) (Value, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepGo}
	}
	out := &Object{members: make([]Member, 0, o.Len())}
	for _, m := range o.Members() {
		v, err := fromGo(m.Value, left-1)
		if err != nil {
			return nil, within("."+clip(m.Key), err)
		}
		out.Set(m.Key, v)
	}
	return unreserved(out)
}

func unreserved(o *Object) (Value, error) {
	if isTyped(o) {
		return nil, &EncodeError{Err: errReserved}
	}
	return o, nil
}

var errDeepGo = fmt.Errorf("nested too deeply, or containing itself: %w", ErrTooLarge)

func fromNumber(n json.Number) (Value, error) {
	v, err := ParseJSON([]byte(n), Limits{})
	switch v.(type) {
	case int64, float64, *big.Int:
		return v, err
	}
	return nil, &EncodeError{Err: fmt.Errorf("json.Number %q is not a number", clip(string(n)))}
}

func fromJSON(data []byte, left int) (Value, error) {
	v, err := ParseJSON(data, Limits{Depth: left + 1})
	if err != nil {
		return nil, &EncodeError{Err: err}
	}
	return v, nil
}

var (
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
	errorType         = reflect.TypeFor[error]()
	bigIntType        = reflect.TypeFor[big.Int]()
	timeType          = reflect.TypeFor[time.Time]()
	durationType      = reflect.TypeFor[time.Duration]()
	numberType        = reflect.TypeFor[json.Number]()
	rawMessageType    = reflect.TypeFor[json.RawMessage]()
	objectType        = reflect.TypeFor[Object]()
	uuidType          = reflect.TypeFor[UUID]()
	dateTimeType      = reflect.TypeFor[DateTime]()
	dateType          = reflect.TypeFor[Date]()
	timeOfDayType     = reflect.TypeFor[TimeOfDay]()
)

// isLeaf reports struct types that are one value, not a dict of their fields.
func isLeaf(t reflect.Type) bool {
	switch t {
	case bigIntType, timeType, objectType, dateTimeType, dateType, timeOfDayType:
		return true
	}
	p := reflect.PointerTo(t)
	return p.Implements(marshalerType) || p.Implements(textMarshalerType) ||
		p.Implements(unmarshalerType) || p.Implements(textUnmarshalerType)
}

// fromReflect is fromGo for what is not one of the types it knows.
func fromReflect(v reflect.Value, left int) (Value, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepGo}
	}
	t := v.Type()
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
	}
	switch {
	case t == bigIntType:
		b := v.Interface().(big.Int)
		return IntValue(new(big.Int).Set(&b)), nil
	case t == objectType:
		o := v.Interface().(Object)
		return objectFromGo(&o, left)
	case t.Kind() == reflect.Pointer && direct[t.Elem()], t.Kind() == reflect.Interface:
		return fromElem(v.Elem(), left-1)
	case t == reflect.TypeFor[*big.Float](), t == reflect.TypeFor[*big.Rat](), t == reflect.TypeFor[big.Float](), t == reflect.TypeFor[big.Rat]():
		return nil, &EncodeError{Err: fmt.Errorf("%s has no exact form in Python; send a float64, or a Decimal by its text", t)}
	case t.Implements(marshalerType):
		return fromMarshaler(v.Interface().(json.Marshaler), left)
	case t.Implements(errorType):
		return nil, &EncodeError{Err: fmt.Errorf("an error (%s) is not a value; return it as the task's error, or its text", t)}
	case t.Implements(textMarshalerType):
		return fromText(v.Interface().(encoding.TextMarshaler))
	case t.Kind() != reflect.Pointer && (reflect.PointerTo(t).Implements(marshalerType) || reflect.PointerTo(t).Implements(textMarshalerType)):
		// The methods are on the pointer, so it needs an address.
		p := reflect.New(t)
		p.Elem().Set(v)
		return fromReflect(p, left)
	}
	switch t.Kind() {
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if u := v.Uint(); u > math.MaxInt64 {
			return new(big.Int).SetUint64(u), nil
		}
		return int64(v.Uint()), nil
	case reflect.Float32:
		f, err := strconv.ParseFloat(strconv.FormatFloat(v.Float(), 'g', -1, 32), 64)
		return f, err
	case reflect.Float64:
		return v.Float(), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Pointer:
		return fromElem(v.Elem(), left-1)
	case reflect.Slice, reflect.Array:
		return fromSlice(v, left)
	case reflect.Map:
		return fromMap(v, left)
	case reflect.Struct:
		return fromStruct(v, left)
	}
	return nil, &EncodeError{Err: fmt.Errorf("Object of type %s is not JSON serializable", t)}
}

// direct are the types fromGo knows without reflection.
var direct = map[reflect.Type]bool{
	timeType: true, durationType: true, numberType: true, rawMessageType: true,
	dateTimeType: true, dateType: true, timeOfDayType: true, uuidType: true,
	reflect.TypeFor[Decimal](): true, reflect.TypeFor[Set](): true, reflect.TypeFor[*Object](): true,
	reflect.TypeFor[*big.Int](): true, reflect.TypeFor[[]Value](): true,
}

// fromElem is fromGo of an element, a field or what a pointer points to.
func fromElem(v reflect.Value, left int) (Value, error) {
	if direct[v.Type()] {
		return fromGo(v.Interface(), left)
	}
	return fromReflect(v, left)
}

func fromMarshaler(m json.Marshaler, left int) (Value, error) {
	data, err := m.MarshalJSON()
	if err != nil {
		return nil, &EncodeError{Err: fmt.Errorf("%T: %w", m, err)}
	}
	return fromJSON(data, left)
}

func fromText(m encoding.TextMarshaler) (Value, error) {
	text, err := m.MarshalText()
	if err != nil {
		return nil, &EncodeError{Err: fmt.Errorf("%T: %w", m, err)}
	}
	return string(text), nil
}

func fromSlice(v reflect.Value, left int) (Value, error) {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 && !isLeaf(v.Type().Elem()) {
		return append(make([]byte, 0, v.Len()), v.Bytes()...), nil
	}
	out := make([]Value, v.Len())
	var err error
	for i := range out {
		if out[i], err = fromElem(v.Index(i), left-1); err != nil {
			return nil, within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return out, nil
}

func fromMap(v reflect.Value, left int) (Value, error) {
	members := make([]Member, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		key, err := fromKey(it.Key())
		if err != nil {
			return nil, err
		}
		value, err := fromElem(it.Value(), left-1)
		if err != nil {
			return nil, within("."+clip(key), err)
		}
		members = append(members, Member{key, value})
	}
	slices.SortFunc(members, func(a, b Member) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	o := ObjectOf(members...)
	if o.Len() != len(members) {
		return nil, &EncodeError{Err: errors.New("two keys of the map have the same text")}
	}
	return unreserved(o)
}

func fromKey(k reflect.Value) (string, error) {
	switch {
	case k.Kind() == reflect.String:
		return k.String(), nil
	case k.Type().Implements(textMarshalerType) && !(k.Kind() == reflect.Pointer && k.IsNil()):
		v, err := fromText(k.Interface().(encoding.TextMarshaler))
		if err != nil {
			return "", err
		}
		return v.(string), nil
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10), nil
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10), nil
	}
	return "", &EncodeError{Err: fmt.Errorf("keys must be str, int, float, bool or None, not %s", k.Type())}
}

func fromStruct(v reflect.Value, left int) (Value, error) {
	s := goStructOf(v.Type())
	if s.err != nil {
		return nil, &EncodeError{Err: s.err}
	}
	o := &Object{members: make([]Member, 0, len(s.fields))}
	for _, f := range s.fields {
		fv, ok := f.of(v)
		if !ok || f.omitEmpty && isEmpty(fv) || f.omitZero && isZero(fv) {
			continue
		}
		value, err := fromElem(fv, left-1)
		if err != nil {
			return nil, within("."+f.name, err)
		}
		o.Set(f.name, value)
	}
	return unreserved(o)
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// isZero asks the type's own IsZero first, as encoding/json does.
func isZero(v reflect.Value) bool {
	type zeroer interface{ IsZero() bool }
	if v.Kind() == reflect.Pointer && v.IsNil() || v.Kind() == reflect.Interface && v.IsNil() {
		return true
	}
	if z, ok := v.Interface().(zeroer); ok {
		return z.IsZero()
	}
	if v.CanAddr() {
		if z, ok := v.Addr().Interface().(zeroer); ok {
			return z.IsZero()
		}
	}
	return v.IsZero()
}
