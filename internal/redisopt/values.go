package redisopt

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Options come from JSON, YAML, a Python settings dump or Go code: a number may be of any numeric type
// or text. A missing key and nil are both "not given".

func textOption(m map[string]any, key string) (string, error) {
	switch v := m[key].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	default:
		return "", fmt.Errorf("option %q is a %T, want text", key, v)
	}
}

func intOption(m map[string]any, key string) (int, error) {
	f, given, err := number(m, key)
	if err != nil || !given {
		return 0, err
	}
	n := int(f)
	if f < 0 || f > 1<<30 || float64(n) != f {
		return 0, fmt.Errorf("option %q is %v, want a whole number of 0 or more", key, f)
	}
	return n, nil
}

func secondsOption(m map[string]any, key string) (time.Duration, error) {
	f, given, err := number(m, key)
	if err != nil || !given {
		return 0, err
	}
	d, ok := seconds(f)
	if !ok {
		return 0, fmt.Errorf("option %q is %v, want seconds", key, f)
	}
	return d, nil
}

func number(m map[string]any, key string) (f float64, given bool, err error) {
	raw := m[key]
	if raw == nil {
		return 0, false, nil
	}
	f, ok := Number(raw)
	if !ok {
		return 0, false, fmt.Errorf("option %q is a %T, want a number", key, raw)
	}
	return f, true, nil
}

// Number reads an option's value as a number, whichever type its configuration gave it; text counts
// when it is one.
func Number(raw any) (float64, bool) {
	switch v := raw.(type) {
	case int:
		return float64(v), true
	case int32:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float32:
		return float64(v), true
	case float64:
		return v, true
	case time.Duration:
		return v.Seconds(), true
	case fmt.Stringer: // json.Number
		f, err := strconv.ParseFloat(v.String(), 64)
		return f, err == nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil
	}
	return 0, false
}

func mapOf(raw any) (map[string]any, bool) {
	switch v := raw.(type) {
	case map[string]any:
		return v, true
	case map[string]string:
		m := make(map[string]any, len(v))
		for k, s := range v {
			m[k] = s
		}
		return m, true
	}
	return nil, false
}
