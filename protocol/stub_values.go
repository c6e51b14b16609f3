package protocol

// TEMPORARY: the frozen API of the value lane. Replace each with its real file, then delete this file.

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

func appendMsgpack(dst []byte, v Value) ([]byte, error) { panic("unwritten") }
func parseMsgpack(data []byte, l Limits) (Value, error) { panic("unwritten") }
func appendYAML(dst []byte, v Value) ([]byte, error)    { panic("unwritten") }
func parseYAML(data []byte, l Limits) (Value, error)    { panic("unwritten") }
