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
		return nil, protocol.NewException("TypeError", fmt.Sprintf(`can only concatenate str (not "%s") to str`, protocol.TypeName(b)))
	case []protocol.Value:
		if y, ok := b.([]protocol.Value); ok {
			return append(append([]protocol.Value{}, x...), y...), nil
		}
		return nil, protocol.NewException("TypeError", fmt.Sprintf(`can only concatenate list (not "%s") to list`, protocol.TypeName(b)))
	}
	return nil, protocol.NewException("TypeError", fmt.Sprintf("unsupported operand type(s) for +: '%s' and '%s'", protocol.TypeName(a), protocol.TypeName(b)))
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
	return nil, protocol.NewException("TypeError", fmt.Sprintf("'%s' object is not iterable", protocol.TypeName(v)))
}
