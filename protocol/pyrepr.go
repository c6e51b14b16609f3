package protocol

// pyStr, pyRepr and pyTuple are how an exception's arguments look in its own text.

func pyStr(v Value) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

func pyRepr(v Value) string { return Repr(v) }

func pyTuple(args []Value) string { return ReprArgs(args) }
