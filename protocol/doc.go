// Package protocol reads and writes what Celery and Kombu put on the wire: task messages of protocol 2
// and 1, Kombu's Redis envelope, serializers and compressions, and the stored result document.
//
// It is pure: bytes in, values out. It knows no network, no clock and no goroutine; whoever needs the
// time passes it in. Nothing read from the wire is trusted: lengths, depths and types are checked
// before they size or steer anything, and a part that cannot be read is named by a DecodeError.
//
// # The formats, drawn
//
//	task message, protocol 2             result document
//	  properties  content_type, ...        {"status": ..., "result": ..., "traceback": ...,
//	  headers     task, id, eta, ...        "children": ..., "date_done": ..., "task_id": ...}
//	  body        [args, kwargs, embed]
//
//	Redis envelope
//	  {"body": base64, "content-encoding": ..., "content-type": ..., "headers": {...},
//	   "properties": {..., "delivery_info": {"exchange": "", "routing_key": "q"}, "delivery_tag": uuid}}
//
// # Values
//
// Everything a message can hold is a Value: a small set of Go types that keeps what Python meant
// (see Value), so that what is read and written again has the same meaning to Python, digit for digit.
package protocol
