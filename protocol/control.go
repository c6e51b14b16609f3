package protocol

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
)

// A ControlRequest is one remote control command, as Kombu's pidbox broadcasts it. Its body is an object:
//
//	method       text           the command
//	arguments    object, null   keyword arguments
//	destination  list, null     node names; empty means everyone
//	pattern, matcher            a choice of nodes instead: "glob" or "pcre"
//	ticket       text           only with reply_to: the caller's name for this call
//	reply_to     object         {"exchange", "routing_key"}; absent: nobody waits for an answer
//
// and its header clock the caller's logical clock. The header expires is written and never looked at, as in
// Celery: a late command runs.
type ControlRequest struct {
	Method      string
	Arguments   *Object // never nil after DecodeControl without an error
	Destination []string
	Pattern     string
	Matcher     string
	Ticket      Value // as it came, for the reply's header: a text, or nil
	ReplyTo     *ControlAddress
	Clock       int64 // 0 when the header is missing or no integer
}

// A ControlAddress is where the answer to a ControlRequest goes.
type ControlAddress struct{ Exchange, RoutingKey string }

// Names of the control exchanges, which are made of control_exchange ("celery").
func ControlExchange(namespace string) string      { return namespace + ".pidbox" }
func ControlReplyExchange(namespace string) string { return "reply." + namespace + ".pidbox" }

// DecodeControl reads a remote control command. Every error is a *DecodeError naming the part; the message is
// then dropped, as Celery does: nobody could be told.
func DecodeControl(m Message, o DecodeOptions) (ControlRequest, error) {
	d := decoder{message: m, options: o}
	body, err := d.body()
	if err != nil {
		return ControlRequest{}, err
	}
	doc, ok := body.(*Object)
	if !ok {
		return ControlRequest{}, wrongType("body", body, "an object")
	}
	r := ControlRequest{Arguments: &Object{}}
	if r.Method, err = controlText(doc, "body", "method"); err != nil {
		return ControlRequest{}, err
	}
	if v, _ := doc.Get("method"); v == nil { // an empty one is a name that no command has, and its caller is told so
		return ControlRequest{}, wrongType("body.method", nil, "the name of a command")
	}
	if v, _ := doc.Get("arguments"); Truthy(v) {
		if r.Arguments, ok = v.(*Object); !ok {
			return ControlRequest{}, wrongType("body.arguments", v, "an object")
		}
	}
	if r.Destination, err = controlNodes(doc); err != nil {
		return ControlRequest{}, err
	}
	if r.Pattern, err = controlText(doc, "body", "pattern"); err != nil {
		return ControlRequest{}, err
	}
	if r.Matcher, err = controlText(doc, "body", "matcher"); err != nil {
		return ControlRequest{}, err
	}
	if v, _ := doc.Get("reply_to"); Truthy(v) {
		to, ok := v.(*Object)
		if !ok {
			return ControlRequest{}, wrongType("body.reply_to", v, "an object")
		}
		r.ReplyTo = &ControlAddress{}
		if r.ReplyTo.Exchange, err = controlText(to, "body.reply_to", "exchange"); err != nil {
			return ControlRequest{}, err
		}
		if r.ReplyTo.RoutingKey, err = controlText(to, "body.reply_to", "routing_key"); err != nil {
			return ControlRequest{}, err
		}
		r.Ticket, _ = doc.Get("ticket")
	}
	r.Clock = ControlClock(m)
	return r, nil
}

// ControlClock is the header clock of a control message or an event, or 0: a clock that is no integer, or one that
// a few steps would carry past 64 bits, is not believed.
func ControlClock(m Message) int64 {
	v, _ := m.Headers.Get("clock")
	n, _ := v.(int64)
	return min(max(n, 0), math.MaxInt64/2)
}

func controlText(o *Object, part, key string) (string, error) {
	v, _ := o.Get(key)
	s, ok := v.(string)
	if !ok && v != nil {
		return "", wrongType(part+"."+key, v, "a text")
	}
	return s, nil
}

// controlNodes reads destination. A text is one node here; Python's "in" would look inside it.
func controlNodes(doc *Object) ([]string, error) {
	v, _ := doc.Get("destination")
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		if v == "" {
			return nil, nil
		}
		return []string{v}, nil
	case []Value:
		var nodes []string
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, wrongType(fmt.Sprintf("body.destination[%d]", i), e, "a node name")
			}
			nodes = append(nodes, s)
		}
		return nodes, nil
	}
	return nil, wrongType("body.destination", v, "a list of node names")
}

// For reports whether the node executes the command: it is named, or the pattern fits, or nobody is chosen at
// all. A pattern without a matcher chooses nobody in particular, so everybody runs (kombu/pidbox.py). The
// error is about the pattern; nobody runs then.
func (r ControlRequest) For(node string) (bool, error) {
	if len(r.Destination) > 0 {
		for _, d := range r.Destination {
			if d == node {
				return true, nil
			}
		}
		return false, nil
	}
	if r.Pattern == "" || r.Matcher == "" {
		return true, nil
	}
	const most = 4096 // a pattern for node names; RE2 answers in linear time, but the program has a size
	if len(r.Pattern) > most {
		return false, partError("body.pattern", fmt.Errorf("%w: %d bytes", ErrTooLarge, len(r.Pattern)))
	}
	var expr string
	switch r.Matcher {
	case "glob":
		expr = globExpression(r.Pattern)
	case "pcre":
		expr = `^(?:` + r.Pattern + `)` // anchored at the start only, as re.match
	default:
		return false, partError("body.matcher", fmt.Errorf("unknown matcher %q", clip(r.Matcher)))
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return false, partError("body.pattern", err)
	}
	return re.MatchString(node), nil
}

// globExpression is Python's fnmatch.translate: *, ?, [seq] and [!seq]; a bracket that is not closed stands
// for itself.
func globExpression(pattern string) string {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	p := []rune(pattern)
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		case '[':
			end := i + 1
			if end < len(p) && p[end] == '!' {
				end++
			}
			if end < len(p) && p[end] == ']' {
				end++
			}
			for end < len(p) && p[end] != ']' {
				end++
			}
			if end >= len(p) {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString(globSet(p[i+1 : end]))
			i = end
		default:
			b.WriteString(regexp.QuoteMeta(string(p[i])))
		}
	}
	b.WriteString(`$`)
	return b.String()
}

// globSet is what stands between brackets. A range that runs backwards holds nothing.
func globSet(set []rune) string {
	negated := len(set) > 0 && set[0] == '!'
	if negated {
		set = set[1:]
	}
	var b strings.Builder
	for i := 0; i < len(set); i++ {
		low, high := set[i], set[i]
		if i+2 < len(set) && set[i+1] == '-' {
			high = set[i+2]
			i += 2
		}
		if low <= high {
			fmt.Fprintf(&b, `\x{%x}-\x{%x}`, low, high)
		}
	}
	switch {
	case b.Len() == 0 && negated:
		return `.`
	case b.Len() == 0:
		return `[^\x{0}-\x{10FFFF}]`
	case negated:
		return `[^` + b.String() + `]`
	}
	return `[` + b.String() + `]`
}

// Encode writes the command by e.Serializer, as Celery's client does; expires is its header, seconds since
// the epoch (0: never).
func (r ControlRequest) Encode(e Encoding, expires float64) (Message, error) {
	text := func(s string) Value {
		if s == "" {
			return nil
		}
		return s
	}
	var nodes Value
	if r.Destination != nil {
		nodes = textList(r.Destination)
	}
	arguments := r.Arguments
	if arguments == nil {
		arguments = &Object{}
	}
	body := ObjectOf(Member{"method", r.Method}, Member{"arguments", arguments}, Member{"destination", nodes},
		Member{"pattern", text(r.Pattern)}, Member{"matcher", text(r.Matcher)})
	if r.ReplyTo != nil {
		body.Set("ticket", r.Ticket)
		body.Set("reply_to", ObjectOf(Member{"exchange", r.ReplyTo.Exchange}, Member{"routing_key", r.ReplyTo.RoutingKey}))
	}
	var until Value = expires
	if expires == 0 {
		until = int64(0)
	}
	return e.control(body, ObjectOf(Member{"clock", r.Clock}, Member{"expires", until}), 2)
}

// Reply writes a node's answer to the command by e.Serializer, byte for byte as Celery does. A value that
// cannot be written is an *EncodeError.
func (r ControlRequest) Reply(e Encoding, node string, value Value, clock int64) (Message, error) {
	if r.ReplyTo == nil {
		return Message{}, errors.New("protocol: nobody waits for an answer to this command")
	}
	return e.control(ObjectOf(Member{node, value}), ObjectOf(Member{"ticket", r.Ticket}, Member{"clock", clock}), 1)
}

func (e Encoding) control(body Value, headers *Object, mode uint8) (Message, error) {
	data, contentType, encoding, err := e.Serialize(body)
	if err != nil {
		return Message{}, err
	}
	priority := 0
	return Message{Headers: headers, Body: data, Properties: Properties{
		ContentType: contentType, ContentEncoding: encoding, DeliveryMode: mode, Priority: &priority,
	}}, nil
}
