package protocol

// TEMPORARY: the frozen API of the value lane. Replace each with its real file, then delete this file.

// ParseJSON reads Kombu's JSON: Python's json.loads plus typed objects ({"__type__", "__value__"}).
func ParseJSON(data []byte, l Limits) (Value, error) { panic("unwritten") }

// AppendJSON appends v as Python's json.dumps (through Kombu) would write it. An *EncodeError names what cannot be written.
func AppendJSON(dst []byte, v Value) ([]byte, error) { panic("unwritten") }

// Serialize encodes v by the named serializer: "json", "msgpack", "yaml".
func Serialize(serializer string, v Value) (data []byte, contentType, contentEncoding string, err error) {
	panic("unwritten")
}

// Deserialize decodes data by content type or serializer name. An unknown or refused one wraps ErrRefusedContent.
func Deserialize(contentType string, data []byte, l Limits) (Value, error) { panic("unwritten") }

// Compress compresses by alias or content type and returns the header value ("application/x-gzip").
func Compress(codec string, data []byte) (out []byte, contentType string, err error) {
	panic("unwritten")
}

// Decompress inflates by content type or alias, up to l.Inflated bytes (more: ErrTooLarge).
func Decompress(codec string, data []byte, l Limits) ([]byte, error) { panic("unwritten") }

// Repr is Celery's saferepr(v, 1024) of 5.7: what Python prints in argsrepr, events and logs.
func Repr(v Value) string { panic("unwritten") }

// ReprArgs is Repr of args as a tuple: "(2, 3)".
func ReprArgs(args []Value) string { panic("unwritten") }

// FromGo turns an ordinary Go value (struct by json tags, map, slice, number, time.Time, []byte,
// json.Marshaler, encoding.TextMarshaler, error-free) into a Value.
func FromGo(v any) (Value, error) { panic("unwritten") }

// ToGo stores v in the variable that into points to, as encoding/json would but exact: no float for an
// int, no overflow, no case folding.
func ToGo(v Value, into any) error { panic("unwritten") }
