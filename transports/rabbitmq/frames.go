package rabbitmq

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// The driver and Python do not speak quite the same field tables, and a table the driver cannot read
// makes it drop the connection: the message comes again and the worker never gets past it. So the bytes
// between driver and broker pass through a frameReader and a frameWriter, which mend the header tables of
// content-header frames and pass everything else on as it is. What is not the driver's at all (see socket) is taken out.
//
//	frame           type 1 | channel 2 | size 4 | payload | end 1
//	content header  class 2 | weight 2 | body size 8 | flags 2 | content type | content encoding | headers table | ...
//
// Inbound (see mendInbound) and outbound (see mendOutbound) differ in what is mended.

const (
	frameHead    = 7
	frameExtra   = frameHead + 1 // with the end octet
	typeMethod   = 1
	typeHeader   = 2
	typeBody     = 3
	typeLast     = 8 // heartbeat: the highest there is
	endOctet     = 0xCE
	contentHead  = 14
	flagType     = 1 << 15
	flagEncoding = 1 << 14
	flagHeaders  = 1 << 13
	flagMode     = 1 << 12
	flagPriority = 1 << 11
)

// A frameReader mends what the broker sends, and hands to tap what is not the driver's. It is used by one goroutine, the
// driver's reader.
type frameReader struct {
	r     io.Reader
	tap   *socket // nil: everything is the driver's
	skip  int     // bytes of the current frame still to pass on as they are
	eat   int     // bytes of the current frame still to go to body
	body  *line   // whose message they belong to
	raw   []byte  // read and not yet looked at; begins at a frame unless skip or eat > 0
	ready []byte  // to be returned before anything else
	buf   []byte  // backs raw
	out   []byte  // backs ready when a mended frame has grown
	err   error
	most  atomic.Int64 // bytes of a frame that the driver takes; 0: frameMax
	off   bool         // the stream is not AMQP frames: the driver will say so
	swift bool         // something was tapped: much comes that is not the driver's
	told  time.Time    // when the driver last saw a sign of life
	taken bool         // something was tapped since then
}

// chunk is how much is read at once where much comes.
const (
	chunkSmall = 4096
	chunkSwift = 32 << 10
)

// lifeEvery is how often the driver is told that the broker lives, while all that comes passes it by: it sets the deadline
// of the next read when it has read a frame, and the broker sends no heartbeats while it sends anything else.
const lifeEvery = time.Second

var heartbeatFrame = []byte{typeLast, 0, 0, 0, 0, 0, 0, endOctet}

// Read blocks, once a content header has begun, until the whole of it is there; nobody could use part of it.
func (f *frameReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(f.ready) > 0:
			n := copy(p, f.ready)
			f.ready = f.ready[n:]
			return n, nil
		case f.taken && f.skip == 0 && f.eat == 0 && f.alive():
			f.ready = heartbeatFrame
		case len(f.raw) > 0:
			f.take()
		case f.err != nil:
			return 0, f.err
		case f.off:
			return f.r.Read(p)
		case f.swift:
			f.fill()
		default:
			n, err := f.r.Read(p)
			f.err = err
			if kept := f.pass(p[:n]); kept < n {
				f.buf = append(f.buf[:0], p[kept:n]...)
				f.raw = f.buf
				n = kept
			}
			if n > 0 {
				return n, nil
			}
		}
	}
}

// alive reports whether it is time to tell the driver that the broker lives.
func (f *frameReader) alive() bool {
	now := time.Now()
	if now.Sub(f.told) < lifeEvery {
		return false
	}
	f.told, f.taken = now, false
	return true
}

// pass returns how many bytes of p can go to the driver as they are.
func (f *frameReader) pass(p []byte) int {
	i := 0
	for i < len(p) {
		n := min(f.skip, len(p)-i)
		f.skip -= n
		i += n
		if i == len(p) || f.off {
			return len(p)
		}
		typ, total, ok := frameAt(p[i:])
		if !ok || typ == typeHeader || f.tap != nil && f.tap.tapped(channelAt(p[i:])) {
			return i
		}
		f.begin(typ, total)
	}
	return i
}

// frameAt reads a frame's head. ok is false when there are too few bytes.
func frameAt(p []byte) (typ byte, total int, ok bool) {
	if len(p) < frameHead {
		return 0, 0, false
	}
	return p[0], int(binary.BigEndian.Uint32(p[3:frameHead])) + frameExtra, true
}

func (f *frameReader) begin(typ byte, total int) {
	f.skip = total
	if typ == 0 || typ > typeLast {
		f.off = true
	}
}

// channelAt is the channel of the frame that p begins with.
func channelAt(p []byte) uint16 { return binary.BigEndian.Uint16(p[1:]) }

// take moves what it can from raw to ready or to the tap, reading more when a frame needs it.
func (f *frameReader) take() {
	switch {
	case f.eat > 0:
		f.swallow()
		return
	case f.skip > 0 || f.off:
		n := len(f.raw)
		if !f.off {
			n = min(n, f.skip)
		}
		f.skip -= min(n, f.skip)
		f.ready, f.raw = f.raw[:n], f.raw[n:]
		return
	}
	typ, total, ok := frameAt(f.raw)
	if !ok {
		f.fill()
		return
	}
	if f.tap != nil && total <= frameMax+frameExtra {
		if l := f.tap.line(channelAt(f.raw)); l != nil && f.tapFrame(l, typ, total) {
			return
		}
	}
	switch {
	case typ != typeHeader || total > frameMax+frameExtra:
		f.begin(typ, total)
	case len(f.raw) < total:
		f.fill()
	default:
		f.ready = f.mend(f.raw[:total:total])
		f.raw = f.raw[total:]
	}
}

// tapFrame hands a frame of a tapped channel to its line, or reads more of it. False when it is the driver's.
func (f *frameReader) tapFrame(l *line, typ byte, total int) bool {
	switch {
	case typ == typeBody && l.wants > 0:
		f.body, f.eat = l, total-frameHead
		f.raw = f.raw[frameHead:]
	case typ == typeMethod, typ == typeHeader && l.begun:
		if len(f.raw) < total {
			f.fill()
			return true
		}
		frame := f.raw[:total:total]
		if frame[total-1] != endOctet {
			return false // the driver ends the connection
		}
		payload := frame[frameHead : total-1]
		if typ == typeMethod && !l.method(payload) {
			return false
		}
		f.raw = f.raw[total:]
		if typ == typeHeader {
			l.header(payload)
		}
	default:
		return false
	}
	f.swift, f.taken = true, true
	return true
}

// swallow takes a piece of a tapped body frame, whose last octet is the frame's end.
func (f *frameReader) swallow() {
	n := min(f.eat, len(f.raw))
	piece := f.raw[:n]
	f.eat -= n
	f.raw = f.raw[n:]
	if f.eat == 0 {
		if piece[n-1] != endOctet {
			f.raw, f.err = nil, errMalformed // nothing after it makes sense
			return
		}
		piece = piece[:n-1]
	}
	f.body.more(piece)
	if f.eat == 0 {
		f.body = nil
	}
}

// fill reads more into raw. At the end of the stream what is there goes to the driver as it is.
func (f *frameReader) fill() {
	if f.err != nil {
		f.off = true
		return
	}
	chunk := chunkSmall
	if f.swift {
		chunk = chunkSwift
	}
	n := len(f.raw)
	if cap(f.raw)-n < chunk { // move it to the front of buf, or of a larger one
		if cap(f.buf) < n+chunk {
			f.buf = make([]byte, 2*n+chunk)
		}
		f.buf = f.buf[:cap(f.buf)]
		copy(f.buf, f.raw)
		f.raw = f.buf[:n]
	}
	m, err := f.r.Read(f.raw[n : n+chunk])
	f.raw, f.err = f.raw[:n+m], err
}

func (f *frameReader) mend(frame []byte) []byte {
	mended := mendInbound(frame, f.out[:0], int(cmp.Or(f.most.Load(), frameMax)))
	if len(mended) > 0 && &mended[0] != &frame[0] {
		f.out = mended
	}
	return mended
}

// A frameWriter collects what the driver writes into whole frames, mends them and hands them to emit, which does not keep them.
type frameWriter struct {
	greeting int // octets of the protocol header still to come
	emit     func(frame []byte)
	hold     []byte // the beginning of a frame
}

// protocolHeader is the length of the "AMQP0091" greeting that comes before any frame.
const protocolHeader = 8

func (f *frameWriter) write(p []byte) {
	f.hold = append(f.hold, p...)
	rest := f.hold
	for len(rest) > 0 {
		typ, total, ok := frameAt(rest)
		if f.greeting > 0 {
			typ, total, ok = 0, f.greeting, true
		}
		if !ok || len(rest) < total {
			break
		}
		frame := rest[:total:total]
		if f.greeting > 0 {
			f.greeting = 0
		} else if typ == typeHeader {
			mendOutbound(frame)
		}
		f.emit(frame)
		rest = rest[total:]
	}
	if len(rest) == 0 && cap(f.hold) > keptBuffer {
		f.hold = nil
	}
	f.hold = append(f.hold[:0], rest...)
}

// Names of entries that mendInbound adds for message (message.go). AMQP names begin with a letter, $ or #.
const (
	markPriority  = "\x00priority"  // the message says priority 0; the driver does not tell it from none
	markMalformed = "\x00malformed" // bytes: the headers, which nobody could read
)

// mendInbound returns a content-header frame that the driver can read, in frame itself or, when it has
// grown, in out:
//
//   - L (Python's 64-bit integer) becomes l, which is the same to the driver; U becomes s;
//   - a nested table or array that is malformed, too deep or too long for the driver becomes a byte array;
//   - a malformed header table becomes one entry, markMalformed;
//   - a priority of 0 is marked.
func mendInbound(frame, out []byte, most int) []byte {
	payload := frame[frameHead : len(frame)-1]
	start, end, flags, err := headersIn(payload)
	if err != nil {
		return frame
	}
	table := payload[start+4 : end]
	if walkTable(table, 1, inbound) != nil {
		entry := append([]byte{byte(len(markMalformed))}, markMalformed...)
		entry = append(entry, 'x')
		entry = binary.BigEndian.AppendUint32(entry, uint32(len(table)))
		return splice(out, frame, start, end, append(entry, table...), most)
	}
	rest := payload[end:]
	if flags&flagMode != 0 && len(rest) > 0 {
		rest = rest[1:]
	}
	if flags&flagPriority != 0 && len(rest) > 0 && rest[0] == 0 {
		entry := append([]byte{byte(len(markPriority))}, markPriority...)
		return splice(out, frame, start, end, append(append([]byte(nil), table...), append(entry, 'V')...), most)
	}
	return frame
}

// splice replaces the table between start and end of the frame's payload. A frame that would grow past
// what the driver accepts stays as it is.
func splice(out, frame []byte, start, end int, table []byte, most int) []byte {
	size := len(frame) - frameExtra - (end - start) + 4 + len(table)
	if size > most-frameExtra {
		return frame
	}
	out = append(out, frame[:3]...)
	out = binary.BigEndian.AppendUint32(out, uint32(size))
	out = append(out, frame[frameHead:frameHead+start]...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(table)))
	out = append(out, table...)
	return append(out, frame[frameHead+end:]...)
}

// mendOutbound changes a content-header frame in place: the driver writes a 64-bit integer as l, which
// py-amqp before 5.4 takes for unsigned; a negative one goes out as L, as Python itself writes it.
func mendOutbound(frame []byte) {
	if len(frame) < frameExtra {
		return
	}
	payload := frame[frameHead : len(frame)-1]
	if start, end, _, err := headersIn(payload); err == nil {
		_ = walkTable(payload[start+4:end], 1, outbound) // the driver wrote it: it is well formed
	}
}

var (
	errNoHeaders = errors.New("no headers")
	errMalformed = errors.New("malformed")
)

// headersIn finds the header table, its length included, in a content header's payload.
func headersIn(payload []byte) (start, end int, flags uint16, err error) {
	if len(payload) < contentHead {
		return 0, 0, 0, errMalformed
	}
	flags = binary.BigEndian.Uint16(payload[12:])
	if flags&flagHeaders == 0 {
		return 0, 0, flags, errNoHeaders
	}
	start = contentHead
	for _, flag := range []uint16{flagType, flagEncoding} {
		if flags&flag == 0 {
			continue
		}
		if start >= len(payload) {
			return 0, 0, flags, errMalformed
		}
		start += 1 + int(payload[start])
	}
	if start+4 > len(payload) {
		return 0, 0, flags, errMalformed
	}
	n := binary.BigEndian.Uint32(payload[start:])
	if uint64(n) > uint64(len(payload)-start-4) {
		return 0, 0, flags, errMalformed
	}
	return start, start + 4 + int(n), flags, nil
}
