package rabbitmq

import (
	"cmp"
	"encoding/binary"
	"net"
	"slices"
)

// A method is the class and the number of an AMQP method.
type method uint32

const (
	connectionClose   method = 10<<16 | 50
	connectionCloseOK method = 10<<16 | 51
	channelOpen       method = 20<<16 | 10
	channelClose      method = 20<<16 | 40
	channelCloseOK    method = 20<<16 | 41
	basicQos          method = 60<<16 | 10
	basicPublish      method = 60<<16 | 40
	basicReturn       method = 60<<16 | 50
	basicDeliver      method = 60<<16 | 60
	basicAck          method = 60<<16 | 80
	basicReject       method = 60<<16 | 90
	basicNack         method = 60<<16 | 120
	confirmSelect     method = 85<<16 | 10
)

// methodOf is the method that a frame holds, and its channel; 0 when it holds none.
func methodOf(frame []byte) (m method, channel uint16) {
	if len(frame) < frameHead+4 || frame[0] != typeMethod {
		return 0, 0
	}
	return method(binary.BigEndian.Uint32(frame[frameHead:])), channelAt(frame)
}

// A sink takes what a line receives. Its methods are called by the reader of the connection: they must not block, and
// keep what they are given.
type sink interface {
	deliver(d content, tag uint64, redelivered bool)
	returned(d content, reply string)
}

// content is a message as it was received.
type content struct {
	exchange, key string
	header        string // the payload of its content header, tables mended
	malformed     bool   // the headers are no table
	body          []byte
}

// A line is the part of a channel that does not go through the driver. It goes with the channel.
type line struct {
	s    *socket
	id   uint16
	sink sink

	// guarded by s.mu
	open      bool
	tags      []tagged // delivered, in order; those before head, and some in between, are settled
	head      int
	spent     int      // settled ones from head on
	asked     []uint64 // to be acknowledged with the next write
	posted    []*posted
	published uint64 // tag of the last message
	confirmed uint64 // all up to here are confirmed: posted[0] is the next

	// touched by the reader alone
	begun       bool // a method came whose content is to come
	wants       uint64
	what        content
	tag         uint64
	redelivered bool
	reply       string // "": a delivery
}

// A tagged delivery.
type tagged struct {
	tag   uint64
	state byte
}

const (
	unsettled byte = iota
	asked          // for the next write
	settled
)

// A posted message is one that waits for its confirm.
type posted struct {
	done  chan struct{}
	acked bool // once done is closed; false also when the channel closed
}

// line is that of a channel; nil when all of it is the driver's.
func (s *socket) line(channel uint16) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[channel]
}

func (s *socket) tapped(channel uint16) bool { return s.line(channel) != nil }

// method takes a method of the broker's; false when it is the driver's.
func (l *line) method(payload []byte) bool {
	if len(payload) < 4 {
		return false
	}
	args := reading{rest: payload[4:]}
	switch method(binary.BigEndian.Uint32(payload)) {
	case basicDeliver:
		args.short() // the consumer's tag
		l.tag = args.long()
		l.redelivered = args.octet()&1 != 0
		l.reply = ""
		l.begin(&args)
	case basicReturn:
		code, text := args.word(), args.short()
		l.reply = replyText(code, text)
		l.begin(&args)
	case basicAck:
		tag, bits := args.long(), args.octet()
		l.confirm(tag, bits&1 != 0, true)
	case basicNack:
		tag, bits := args.long(), args.octet()
		l.confirm(tag, bits&1 != 0, false)
	case channelClose, channelCloseOK:
		l.closed()
		return false
	default:
		return false
	}
	return !args.bad
}

// begin remembers where a message was published.
func (l *line) begin(args *reading) {
	exchange, key := args.short(), args.short()
	if l.what.exchange != string(exchange) { // mostly those of the last message
		l.what.exchange = string(exchange)
	}
	if l.what.key != string(key) {
		l.what.key = string(key)
	}
	l.begun, l.wants = !args.bad, 0
}

// firstBody is how much room a body gets before any of it is there.
const firstBody = 1 << 20

// header takes a content header. Its table is mended as for the driver.
func (l *line) header(payload []byte) {
	l.begun = false
	l.what.malformed, l.what.body = false, nil
	if len(payload) >= contentHead {
		l.wants = binary.BigEndian.Uint64(payload[4:])
	}
	if start, end, _, err := headersIn(payload); err == nil {
		l.what.malformed = walkTable(payload[start+4:end], 1, inbound) != nil
	}
	l.what.header = string(payload)
	if l.wants == 0 {
		l.what.body = []byte{}
		l.complete()
		return
	}
	l.what.body = make([]byte, 0, min(l.wants, firstBody))
}

// more takes a piece of the body.
func (l *line) more(piece []byte) {
	n := min(uint64(len(piece)), l.wants)
	l.what.body = append(l.what.body, piece[:n]...)
	if l.wants -= n; l.wants == 0 && n > 0 {
		l.complete()
	}
}

func (l *line) complete() {
	d := l.what
	l.what.header, l.what.body = "", nil
	if l.reply != "" {
		l.sink.returned(d, l.reply)
		return
	}
	l.s.mu.Lock()
	l.tags = append(l.tags, tagged{tag: l.tag})
	l.s.mu.Unlock()
	l.sink.deliver(d, l.tag, l.redelivered)
}

// alive reports whether the channel is open.
func (l *line) alive() bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.open
}

// closed: the broker will send nothing more, and what was not confirmed will not be.
func (l *line) closed() {
	l.s.mu.Lock()
	l.open = false
	if l.s.lines[l.id] == l {
		delete(l.s.lines, l.id)
	}
	posted := l.posted
	l.posted = nil
	l.s.mu.Unlock()
	for _, f := range posted {
		if f != nil {
			close(f.done)
		}
	}
}

// confirm takes the broker's word on the message with that tag, or on all up to it.
func (l *line) confirm(tag uint64, multiple, acked bool) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if tag == 0 && multiple {
		tag = l.published
	}
	if tag <= l.confirmed || tag-l.confirmed > uint64(len(l.posted)) {
		return // none of ours
	}
	at := int(tag - l.confirmed - 1)
	first := at
	if multiple {
		first = 0
	}
	for i := first; i <= at; i++ {
		if f := l.posted[i]; f != nil {
			f.acked = acked
			close(f.done)
			l.posted[i] = nil
		}
	}
	n := 0
	for n < len(l.posted) && l.posted[n] == nil {
		n++
	}
	l.confirmed += uint64(n)
	l.posted = slices.Delete(l.posted, 0, n)
}

// publish writes a message and returns what its confirm will tell. stop ends the wait for room to write; nothing was written then.
func (l *line) publish(stop <-chan struct{}, o *outgoing, most int) (*posted, error) {
	f := &posted{done: make(chan struct{})}
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(stop); err != nil {
		return nil, err
	}
	if !l.open {
		return nil, errGone
	}
	l.published++
	l.posted = append(l.posted, f)
	s.pending = appendPublish(s.pending, l.id, o, most)
	s.signal()
	return f, nil
}

// ack acknowledges a delivery and returns when that is written, together with others as may be. An error means that it may
// not have been.
func (l *line) ack(tag uint64) error {
	s := l.s
	s.mu.Lock()
	at, ok := l.find(tag)
	if !ok {
		s.mu.Unlock()
		return errGone
	}
	l.ask(at, tag)
	return s.written()
}

// ask has a delivery acknowledged with the next write. The caller holds s.mu.
func (l *line) ask(at int, tag uint64) {
	l.tags[at].state = asked
	if len(l.asked) == 0 {
		l.s.dirty = append(l.s.dirty, l)
	}
	l.asked = append(l.asked, tag)
}

// reject gives a delivery up or back, as basic.reject or basic.nack, and returns when that is written.
func (l *line) reject(m method, tag uint64, requeue bool) error {
	bits := byte(0)
	switch {
	case requeue && m == basicNack:
		bits = 2
	case requeue:
		bits = 1
	}
	if !l.settle(m, tag, bits) {
		return errGone
	}
	return l.flush()
}

// settle adds a frame to what is written next; flush sees to that.
func (l *line) settle(m method, tag uint64, bits byte) bool {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := l.find(tag)
	if !ok {
		return false
	}
	l.tags[at].state = settled
	l.spent++
	s.pending = appendSettling(s.pending, l.id, m, tag, bits)
	l.compact()
	return true
}

// flush returns when what is pending has been written.
func (l *line) flush() error {
	l.s.mu.Lock()
	if l.s.err != nil || l.s.closing {
		defer l.s.mu.Unlock()
		return cmp.Or(l.s.err, error(net.ErrClosed))
	}
	return l.s.written()
}

// written waits until what is pending has been written. It gives mu up.
func (s *socket) written() error {
	b := s.current()
	s.mu.Unlock()
	s.signal()
	<-b.done // writeTimeout bounds it
	return b.err
}

// find is where the unsettled delivery is in tags. The caller holds s.mu.
func (l *line) find(tag uint64) (int, bool) {
	if !l.open || l.s.err != nil {
		return 0, false
	}
	at, ok := l.place(tag)
	return at, ok && l.tags[at].state == unsettled
}

func (l *line) place(tag uint64) (int, bool) {
	at, ok := slices.BinarySearchFunc(l.tags[l.head:], tag, func(t tagged, tag uint64) int { return cmp.Compare(t.tag, tag) })
	return l.head + at, ok
}

// appendAcks writes what is asked for: one frame for all up to the first delivery that is not to be acknowledged yet, and
// one for each of the others. The caller holds s.mu.
func (l *line) appendAcks(out []byte) []byte {
	n, last := 0, uint64(0)
	for ; l.head < len(l.tags) && l.tags[l.head].state != unsettled; l.head++ {
		if t := l.tags[l.head]; t.state == asked {
			n, last = n+1, t.tag
		} else {
			l.spent--
		}
	}
	switch {
	case n == 1:
		out = appendSettling(out, l.id, basicAck, last, 0)
	case n > 1:
		out = appendSettling(out, l.id, basicAck, last, 1)
	}
	for _, tag := range l.asked {
		if tag <= last {
			continue
		}
		out = appendSettling(out, l.id, basicAck, tag, 0)
		if at, ok := l.place(tag); ok {
			l.tags[at].state = settled
			l.spent++
		}
	}
	l.asked = l.asked[:0]
	l.compact()
	return out
}

// compact forgets settled deliveries when they are most of what is kept.
func (l *line) compact() {
	if l.head+l.spent <= len(l.tags)/2 || len(l.tags) < 64 {
		return
	}
	kept := l.tags[:0]
	for _, t := range l.tags[l.head:] {
		if t.state != settled {
			kept = append(kept, t)
		}
	}
	l.tags, l.head, l.spent = kept, 0, 0
}

// appendSettling writes basic.ack, basic.nack or basic.reject.
func appendSettling(out []byte, channel uint16, m method, tag uint64, bits byte) []byte {
	out = append(out, typeMethod, byte(channel>>8), byte(channel), 0, 0, 0, 13)
	out = binary.BigEndian.AppendUint32(out, uint32(m))
	out = binary.BigEndian.AppendUint64(out, tag)
	return append(out, bits, endOctet)
}

// appendPublish writes the frames of a message, none larger than most.
func appendPublish(out []byte, channel uint16, o *outgoing, most int) []byte {
	begin := func(typ byte) int {
		out = append(out, typ, byte(channel>>8), byte(channel), 0, 0, 0, 0)
		return len(out)
	}
	end := func(from int) {
		binary.BigEndian.PutUint32(out[from-4:], uint32(len(out)-from))
		out = append(out, endOctet)
	}
	at := begin(typeMethod)
	out = binary.BigEndian.AppendUint32(out, uint32(basicPublish))
	out = append(out, 0, 0) // reserved
	out = appendShort(out, o.exchange)
	out = appendShort(out, o.key)
	bits := byte(0)
	if o.mandatory {
		bits = 1
	}
	out = append(out, bits)
	end(at)

	body := o.message.Body
	at = begin(typeHeader)
	out = append(out, 0, 60, 0, 0)
	out = binary.BigEndian.AppendUint64(out, uint64(len(body)))
	out = appendProperties(out, &o.message)
	end(at)

	for piece := most - frameExtra; len(body) > 0; {
		n := min(len(body), piece)
		at = begin(typeBody)
		out = append(out, body[:n]...)
		end(at)
		body = body[n:]
	}
	return out
}
