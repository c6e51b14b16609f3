package main

import (
	"fmt"
	"math/big"

	"github.com/stalkworker/stalk/protocol"
)

// The suite's arithmetic takes what Python's operators take: numbers, texts, lists.

// plus is Python's a + b.
func plus(a, b protocol.Value) (protocol.Value, error) {
	a, b = number(a), number(b)
	switch x := a.(type) {
	case int64:
		switch y := b.(type) {
		case int64:
			return protocol.IntValue(new(big.Int).Add(big.NewInt(x), big.NewInt(y))), nil
		case *big.Int:
			return protocol.IntValue(new(big.Int).Add(big.NewInt(x), y)), nil
		case float64:
			return float64(x) + y, nil
		}
	case *big.Int:
		switch y := b.(type) {
		case int64:
			return protocol.IntValue(new(big.Int).Add(x, big.NewInt(y))), nil
		case *big.Int:
			return protocol.IntValue(new(big.Int).Add(x, y)), nil
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return x + float64(y), nil
		case float64:
			return x + y, nil
		}
	case string:
		if y, ok := b.(string); ok {
			return x + y, nil
		}
		return nil, protocol.NewException("TypeError", fmt.Sprintf(`can only concatenate str (not "%s") to str`, typeName(b)))
	case []protocol.Value:
		if y, ok := b.([]protocol.Value); ok {
			return append(append([]protocol.Value{}, x...), y...), nil
		}
		return nil, protocol.NewException("TypeError", fmt.Sprintf(`can only concatenate list (not "%s") to list`, typeName(b)))
	}
	return nil, protocol.NewException("TypeError", fmt.Sprintf("unsupported operand type(s) for +: '%s' and '%s'", typeName(a), typeName(b)))
}

// number makes a bool the int it is in Python.
func number(v protocol.Value) protocol.Value {
	if b, ok := v.(bool); ok {
		if b {
			return int64(1)
		}
		return int64(0)
	}
	return v
}

// sum is Python's.
func sum(v protocol.Value) (protocol.Value, error) {
	list, err := iterate(v)
	if err != nil {
		return nil, err
	}
	total := protocol.Value(int64(0))
	for _, n := range list {
		if total, err = plus(total, n); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// iterate is Python's iter(), as far as JSON goes.
func iterate(v protocol.Value) ([]protocol.Value, error) {
	var list []protocol.Value
	switch v := v.(type) {
	case []protocol.Value:
		return v, nil
	case string:
		for _, r := range v {
			list = append(list, string(r))
		}
		return list, nil
	case *protocol.Object:
		for _, m := range v.Members() {
			list = append(list, m.Key)
		}
		return list, nil
	}
	return nil, protocol.NewException("TypeError", fmt.Sprintf("'%s' object is not iterable", typeName(v)))
}

func truthy(v protocol.Value) bool {
	switch v := number(v).(type) {
	case nil:
		return false
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []protocol.Value:
		return len(v) > 0
	case *protocol.Object:
		return v.Len() > 0
	}
	return true
}

func typeName(v protocol.Value) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []protocol.Value:
		return "list"
	}
	return "dict"
}
