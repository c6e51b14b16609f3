package demo

import (
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// plus is Python's x + y.
func plus(x, y protocol.Value) (protocol.Value, error) {
	switch x := x.(type) {
	case string:
		if y, ok := y.(string); ok {
			return x + y, nil
		}
		return nil, typeError("can only concatenate str (not %s) to str", doubled(y))
	case []protocol.Value:
		if y, ok := y.([]protocol.Value); ok {
			return append(append(make([]protocol.Value, 0, len(x)+len(y)), x...), y...), nil
		}
		return nil, typeError("can only concatenate list (not %s) to list", doubled(y))
	case []byte:
		if y, ok := y.([]byte); ok {
			return append(append(make([]byte, 0, len(x)+len(y)), x...), y...), nil
		}
		return nil, typeError("can't concat %s to bytes", typeName(y))
	}
	_, xf := x.(float64)
	_, yf := y.(float64)
	xi, yi := integer(x), integer(y)
	switch {
	case xi != nil && yi != nil:
		return protocol.IntValue(new(big.Int).Add(xi, yi)), nil
	case (xf || xi != nil) && (yf || yi != nil):
		a, err := float(x)
		if err != nil {
			return nil, err
		}
		b, err := float(y)
		if err != nil {
			return nil, err
		}
		return a + b, nil
	}
	return nil, typeError("unsupported operand type(s) for +: %s and %s", quoted(x), quoted(y))
}

// integer is v as an int (a bool is one in Python), nil if it is none. The result is v's own: read only.
func integer(v protocol.Value) *big.Int {
	switch v := v.(type) {
	case bool:
		if v {
			return big.NewInt(1)
		}
		return new(big.Int)
	case int64:
		return big.NewInt(v)
	case *big.Int:
		return v
	}
	return nil
}

// float is Python's float(v) of a number: an int is rounded to the nearest, or overflows.
func float(v protocol.Value) (float64, error) {
	if f, ok := v.(float64); ok {
		return f, nil
	}
	f, _ := new(big.Float).SetInt(integer(v)).Float64()
	if math.IsInf(f, 0) {
		return 0, protocol.NewException("OverflowError", "int too large to convert to float")
	}
	return f, nil
}

// real is v for comparing with a small int: an int too large for a float is an infinity. ok is false for what
// is no number.
func real(v protocol.Value) (f float64, ok bool) {
	if f, ok := v.(float64); ok {
		return f, true
	}
	i := integer(v)
	if i == nil {
		return 0, false
	}
	f, _ = new(big.Float).SetInt(i).Float64()
	return f, true
}

// index is v as range() takes it.
func index(v protocol.Value) (int64, error) {
	i := integer(v)
	switch {
	case i == nil:
		return 0, typeError("%s object cannot be interpreted as an integer", quoted(v))
	case i.IsInt64():
		return i.Int64(), nil
	case i.Sign() < 0:
		return 0, nil // an empty range
	}
	return math.MaxInt64, nil // range() takes it; nobody will see the end
}

// sleepTime is v as time.sleep() takes it, rounded up to whole nanoseconds as there.
func sleepTime(v protocol.Value) (time.Duration, error) {
	if f, ok := v.(float64); ok {
		ns := math.Ceil(f * 1e9)
		switch {
		case math.IsNaN(f):
			return 0, protocol.NewException("ValueError", "Invalid value NaN (not a number)")
		case math.Abs(ns) >= 1<<63:
			return 0, protocol.NewException("OverflowError", "timestamp out of range for platform time_t")
		case f < 0:
			return 0, protocol.NewException("ValueError", "sleep length must be non-negative")
		}
		return time.Duration(ns), nil
	}
	i := integer(v)
	switch {
	case i == nil:
		return 0, typeError("%s object cannot be interpreted as an integer", quoted(v))
	case !i.IsInt64() || i.Int64() > math.MaxInt64/int64(time.Second) || i.Int64() < math.MinInt64/int64(time.Second):
		return 0, protocol.NewException("OverflowError", "timestamp too large to convert to C _PyTime_t")
	case i.Sign() < 0:
		return 0, protocol.NewException("ValueError", "sleep length must be non-negative")
	}
	return time.Duration(i.Int64()) * time.Second, nil
}

// countdown is v as retry(countdown=v) takes it. A negative one is in the past: at once.
func countdown(v protocol.Value) (time.Duration, error) {
	f, ok := real(v)
	switch {
	case !ok:
		return 0, typeError("unsupported type for timedelta seconds component: %s", typeName(v))
	case math.IsNaN(f):
		return 0, protocol.NewException("ValueError", "cannot convert float NaN to integer")
	case math.Abs(f) > 250*365.25*24*3600: // what a Duration holds is less than what a timedelta does
		return 0, protocol.NewException("OverflowError", fmt.Sprintf("countdown %v: want 250 years or less", f))
	}
	return max(0, time.Duration(math.Round(f*1e6))*time.Microsecond), nil
}

func typeError(format string, args ...any) *protocol.Exception {
	return protocol.NewException("TypeError", fmt.Sprintf(format, args...))
}

func quoted(v protocol.Value) string  { return "'" + typeName(v) + "'" }
func doubled(v protocol.Value) string { return `"` + typeName(v) + `"` }

// typeName is the name of a type as C code prints it: with the module for types written in C.
func typeName(v protocol.Value) string {
	switch v.(type) {
	case protocol.DateTime, protocol.Date, protocol.TimeOfDay:
		return "datetime." + protocol.TypeName(v)
	case protocol.Decimal:
		return "decimal." + protocol.TypeName(v)
	}
	return protocol.TypeName(v)
}
