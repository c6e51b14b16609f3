package protocol

import "math"

// A ControlReply is what one node answered to a ControlRequest. Its body is an object of one member:
//
//	{"w1@web1": {"ok": "pong"}}
//
// and its headers are the caller's ticket and a clock.
type ControlReply struct {
	Nodes   *Object // node name -> value; one, or several where a program answers for many
	Ticket  Value   // as it came; nil: none, which callers take for their own
	Expires float64 // seconds since the epoch; 0: never. Callers drop what is past it
	Clock   int64   // 0 when the header is missing or no integer
}

// DecodeControlReply reads an answer to a command. Every error is a *DecodeError naming the part.
func DecodeControlReply(m Message, o DecodeOptions) (ControlReply, error) {
	d := decoder{message: m, options: o}
	body, err := d.body()
	if err != nil {
		return ControlReply{}, err
	}
	doc, ok := body.(*Object)
	if !ok {
		return ControlReply{}, wrongType("body", body, "an object of node and value")
	}
	r := ControlReply{Nodes: doc, Clock: ControlClock(m)}
	r.Ticket, _ = m.Headers.Get("ticket")
	switch v, _ := m.Headers.Get("expires"); v := v.(type) {
	case int64:
		r.Expires = float64(v)
	case float64:
		if !math.IsNaN(v) {
			r.Expires = v
		}
	}
	return r, nil
}
