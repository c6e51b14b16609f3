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

func appendMsgpack(dst []byte, v Value) ([]byte, error) { panic("unwritten") }
func parseMsgpack(data []byte, l Limits) (Value, error) { panic("unwritten") }
func appendYAML(dst []byte, v Value) ([]byte, error)    { panic("unwritten") }
func parseYAML(data []byte, l Limits) (Value, error)    { panic("unwritten") }
