package protocol

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"time"
)

var (
	valueListType = reflect.TypeFor[[]Value]()
	setType       = reflect.TypeFor[Set]()
	decimalType   = reflect.TypeFor[Decimal]()
)

// toKnown stores into the types that have a meaning of their own, and reports whether t is one.
func toKnown(v Value, into reflect.Value, t reflect.Type) (known bool, err error) {
	set := func(x any) (bool, error) {
		into.Set(reflect.ValueOf(x))
		return true, nil
	}
	text, isText := v.(string)
	parsed := func(x any, err error) (bool, error) {
		if err != nil {
			return true, &DecodeError{Err: err}
		}
		return set(x)
	}
	switch t {
	case timeType:
		switch v := v.(type) {
		case DateTime:
			return set(v.Time)
		case Date:
			return set(time.Date(v.Year, v.Month, v.Day, 0, 0, 0, 0, time.UTC))
		case string:
			at, err := ParseTimestamp(v)
			return parsed(at, err)
		}
		return true, mismatch("datetime", v)
	case durationType:
		return true, toDuration(v, into)
	case bigIntType:
		b, ok := bigOf(v)
		if !ok {
			return true, mismatch("int", v)
		}
		return set(*b) // bigOf made it for us alone
	case numberType:
		switch v := v.(type) {
		case int64, *big.Int:
			b, _ := bigOf(v)
			return set(json.Number(b.String()))
		case float64:
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				return set(json.Number(appendFloat(nil, v)))
			}
			return true, &DecodeError{Err: fmt.Errorf("%v is no JSON number", v)}
		}
		return true, mismatch("int or float", v)
	case rawMessageType:
		data, err := AppendJSON(nil, v)
		return parsed(json.RawMessage(data), err)
	case objectType:
		if o, ok := v.(*Object); ok {
			return set(*clone(o, maxBinding).(*Object))
		}
		return true, mismatch("dict", v)
	case valueListType:
		if v == nil {
			return false, nil
		}
		if l, ok := listOf(v); ok {
			return set(cloneList(l, maxBinding))
		}
		return true, mismatch("list", v)
	case setType:
		if v == nil {
			return false, nil
		}
		if l, ok := listOf(v); ok {
			return set(Set(cloneList(l, maxBinding)))
		}
		return true, mismatch("set", v)
	case dateTimeType:
		if isText {
			d, err := parseDateTime(text)
			return parsed(d, err)
		}
	case dateType:
		if isText {
			d, err := parseDate(text)
			return parsed(d, err)
		}
	case timeOfDayType:
		if isText {
			d, err := parseTimeOfDay(text)
			return parsed(d, err)
		}
	case uuidType:
		if isText {
			u, err := ParseUUID(text)
			return parsed(u, err)
		}
	case decimalType:
		switch v := v.(type) {
		case string:
			d, err := ParseDecimal(v)
			return parsed(d, err)
		case int64, *big.Int:
			b, _ := bigOf(v)
			return set(Decimal(b.String()))
		}
	default:
		return false, nil
	}
	if reflect.TypeOf(v) == t {
		return set(clone(v, 1))
	}
	return true, mismatch(TypeName(reflect.Zero(t).Interface()), v)
}

// bigOf is v as a new big.Int, when it is an int.
func bigOf(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v), true
	case *big.Int:
		if v != nil {
			return new(big.Int).Set(v), true
		}
	}
	return nil, false
}

func toInt(v Value, into reflect.Value) error {
	b, isBig := v.(*big.Int)
	n, isInt := v.(int64)
	switch {
	case !isInt && (!isBig || b == nil):
		return mismatch("int", v)
	case into.CanInt() && isInt && !into.OverflowInt(n):
		into.SetInt(n)
		return nil
	case into.CanUint() && isInt && n >= 0 && !into.OverflowUint(uint64(n)):
		into.SetUint(uint64(n))
		return nil
	case into.CanUint() && isBig && b.IsUint64() && !into.OverflowUint(b.Uint64()):
		into.SetUint(b.Uint64())
		return nil
	case into.CanInt() && isBig && b.IsInt64() && !into.OverflowInt(b.Int64()): // made by hand
		into.SetInt(b.Int64())
		return nil
	}
	if isBig {
		return &DecodeError{Err: fmt.Errorf("an int of %d bits is out of range of %s", b.BitLen(), into.Type())}
	}
	return &DecodeError{Err: fmt.Errorf("int %d is out of range of %s", n, into.Type())}
}

func toFloat(v Value, into reflect.Value) error {
	f, isFloat := v.(float64)
	if !isFloat {
		b, ok := bigOf(v)
		if !ok {
			return mismatch("float", v)
		}
		exact := new(big.Float).SetInt(b)
		f, _ = exact.Float64()
		g := f
		if into.Kind() == reflect.Float32 {
			g = float64(float32(f))
		}
		if math.IsInf(g, 0) || new(big.Float).SetFloat64(g).Cmp(exact) != 0 {
			return &DecodeError{Err: fmt.Errorf("an int of %d bits is no exact %s", b.BitLen(), into.Type())}
		}
	}
	if into.OverflowFloat(f) {
		return &DecodeError{Err: fmt.Errorf("float %v is out of range of %s", f, into.Type())}
	}
	into.SetFloat(f)
	return nil
}

// toDuration reads seconds, as Python counts them.
func toDuration(v Value, into reflect.Value) error {
	var d time.Duration
	switch v := v.(type) {
	case int64:
		if d = time.Duration(v) * time.Second; int64(d/time.Second) != v {
			return &DecodeError{Err: fmt.Errorf("%d seconds are out of range", v)}
		}
	case float64:
		ns := math.Round(v * 1e9)
		if !(math.Abs(ns) < 1<<63) {
			return &DecodeError{Err: fmt.Errorf("%v seconds are out of range", v)}
		}
		d = time.Duration(ns)
	default:
		return mismatch("a number of seconds", v)
	}
	into.SetInt(int64(d))
	return nil
}
