package rabbitmq

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	amqp "github.com/rabbitmq/amqp091-go"
)

func frame(typ byte, payload []byte) []byte {
	out := []byte{typ, 0, 1}
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	return append(append(out, payload...), endOctet)
}

// contentHeader has the properties content_type, headers, delivery_mode and priority.
func contentHeader(table []byte, priority byte) []byte {
	p := make([]byte, 12, 64)
	p[1] = 60 // class basic
	p = binary.BigEndian.AppendUint16(p, flagType|flagHeaders|flagMode|flagPriority)
	p = append(p, 4, 'j', 's', 'o', 'n')
	p = binary.BigEndian.AppendUint32(p, uint32(len(table)))
	p = append(p, table...)
	return frame(typeHeader, append(p, 2, priority))
}

func entry(key string, field ...byte) []byte {
	return append(append([]byte{byte(len(key))}, key...), field...)
}

// long is a field with a length of its own.
func long(typ byte, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(value))), value...)
}

func eight(typ byte, n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{typ}, uint64(n))
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	out, err := io.ReadAll(&frameReader{r: r})
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	return out
}

func TestInboundMending(t *testing.T) {
	deep := func(levels int, typ byte) []byte {
		f := []byte{'V'}
		for range levels {
			f = long(typ, f)
		}
		return f
	}
	for _, tt := range []struct {
		name     string
		in, want []byte // the header table
	}{
		{"nothing to do", entry("a", long('S', []byte("x"))...), entry("a", long('S', []byte("x"))...)},
		{"L becomes l", entry("big", eight('L', 1<<40)...), entry("big", eight('l', 1<<40)...)},
		{"negative L becomes l", entry("big", eight('L', -1<<40)...), entry("big", eight('l', -1<<40)...)},
		{"U becomes s", entry("u", 'U', 0xff, 0xfe), entry("u", 's', 0xff, 0xfe)},
		{
			"L in a table in an array",
			entry("a", long('A', long('F', entry("n", eight('L', 7)...)))...),
			entry("a", long('A', long('F', entry("n", eight('l', 7)...)))...),
		},
		{"an L inside a string is text", entry("s", long('S', eight('L', 1))...), entry("s", long('S', eight('L', 1))...)},
		{"every known type", everyType('L'), everyType('l')},
		{"as deep as the driver goes", entry("d", deep(32, 'A')...), entry("d", deep(32, 'A')...)},
		{
			"deeper becomes bytes",
			entry("d", deep(34, 'A')...),
			entry("d", func() []byte { f := deep(34, 'A'); f[32*5] = 'x'; return f }()...),
		},
		{"a malformed nested table becomes bytes", entry("d", long('F', []byte("\x05ab"))...), entry("d", long('x', []byte("\x05ab"))...)},
		{"an unknown nested type makes its table bytes", entry("d", long('F', entry("k", '?', 1))...), entry("d", long('x', entry("k", '?', 1))...)},
		{
			"a long array becomes bytes",
			entry("d", long('A', bytes.Repeat([]byte{'V'}, maxElements+1))...),
			entry("d", long('x', bytes.Repeat([]byte{'V'}, maxElements+1))...),
		},
		{"an unknown type makes the headers one entry", entry("k", '?', 1), entry(markMalformed, long('x', entry("k", '?', 1))...)},
		{"a key past the end", []byte{9, 'a'}, entry(markMalformed, long('x', []byte{9, 'a'})...)},
		{"a string past the end", entry("k", 'S', 0, 0, 1, 0), entry(markMalformed, long('x', entry("k", 'S', 0, 0, 1, 0))...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := frame(3, []byte("body with \x02 and L inside"))
			in := bytes.Join([][]byte{frame(1, []byte("method")), contentHeader(tt.in, 5), body, frame(8, nil)}, nil)
			want := bytes.Join([][]byte{frame(1, []byte("method")), contentHeader(tt.want, 5), body, frame(8, nil)}, nil)
			for name, r := range map[string]io.Reader{
				"at once":    bytes.NewReader(in),
				"in octets":  iotest.OneByteReader(bytes.NewReader(in)),
				"in halves":  iotest.HalfReader(bytes.NewReader(in)),
				"with error": iotest.DataErrReader(bytes.NewReader(in)),
			} {
				if got := readAll(t, r); !bytes.Equal(got, want) {
					t.Errorf("%s:\n got %q\nwant %q", name, got, want)
				}
			}
		})
	}
}

func everyType(wide byte) []byte {
	return bytes.Join([][]byte{
		entry("1", 't', 1), entry("2", 'b', 1), entry("3", 'B', 1), entry("4", 's', 0, 1), entry("5", 'u', 0, 1),
		entry("6", 'I', 0, 0, 0, 1), entry("7", 'i', 0, 0, 0, 1), entry("8", eight('l', 1)...), entry("9", eight(wide, 1)...),
		entry("10", 'f', 0, 0, 0, 1), entry("11", eight('d', 1)...), entry("12", 'D', 2, 0, 0, 0, 1), entry("13", eight('T', 1)...),
		entry("14", long('S', nil)...), entry("15", long('x', []byte{1})...), entry("16", 'V'),
		entry("17", long('A', nil)...), entry("18", long('F', nil)...),
	}, nil)
}

// A priority of 0 is told from none by an entry of ours; without headers there is nothing to put it in.
func TestPriorityMark(t *testing.T) {
	table := entry("a", 'V')
	marked := append(bytes.Clone(table), entry(markPriority, 'V')...)
	if got, want := readAll(t, bytes.NewReader(contentHeader(table, 0))), contentHeader(marked, 0); !bytes.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	bare := frame(typeHeader, append(append(make([]byte, 12), byte(flagPriority>>8), byte(flagPriority&0xff)), 0))
	if got := readAll(t, bytes.NewReader(bare)); !bytes.Equal(got, bare) {
		t.Errorf("without headers: got %q\nwant %q", got, bare)
	}
}

func TestOddStreamsPassThrough(t *testing.T) {
	full := contentHeader(entry("a", eight('L', 1)...), 1)
	for _, tt := range []struct {
		name string
		in   []byte
	}{
		{"nothing", nil},
		{"the start of a head", []byte{2, 0}},
		{"a header that ends early", full[:len(full)-3]},
		{"no frames at all", []byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 9000))},
		{"a header without payload", frame(typeHeader, nil)},
		{"a header of three octets", frame(typeHeader, []byte{1, 2, 3})},
		{"a header larger than a frame may be", append([]byte{2, 0, 1, 0x7f, 0, 0, 0}, make([]byte, 9000)...)},
		{"the server's protocol header", []byte("AMQP\x00\x00\x09\x01")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := readAll(t, bytes.NewReader(tt.in)); !bytes.Equal(got, tt.in) {
				t.Errorf("got %q", got)
			}
		})
	}
	broken := errors.New("broken")
	r := &frameReader{r: io.MultiReader(bytes.NewReader(full[:20]), iotest.ErrReader(broken))}
	if got, err := io.ReadAll(r); !bytes.Equal(got, full[:20]) || !errors.Is(err, broken) {
		t.Errorf("after an error: %q, %v", got, err)
	}
}

// A body goes from the socket into the driver's buffer and nowhere else.
func TestBodiesAreNotCopied(t *testing.T) {
	body := frame(3, make([]byte, 100_000))
	r := &frameReader{r: bytes.NewReader(body)}
	buf := make([]byte, len(body))
	if n, err := r.Read(buf); n != len(body) || err != nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	if cap(r.buf) != 0 || cap(r.out) != 0 {
		t.Errorf("the reader has copied: %d and %d bytes", cap(r.buf), cap(r.out))
	}
}

// chunks writes p to w in pieces of random size.
func chunks(t *testing.T, w *frameWriter, p []byte) {
	t.Helper()
	for len(p) > 0 {
		n := min(len(p), 1+rand.IntN(20))
		before := bytes.Clone(p[:n])
		w.write(p[:n])
		if !bytes.Equal(before, p[:n]) {
			t.Fatal("Write has changed the caller's bytes")
		}
		p = p[n:]
	}
}

func TestOutboundMending(t *testing.T) {
	in := bytes.Join([][]byte{
		[]byte("AMQP\x00\x00\x09\x01"), frame(1, []byte("method")),
		contentHeader(bytes.Join([][]byte{
			entry("plus", eight('l', 1<<40)...), entry("minus", eight('l', -1<<40)...),
			entry("nested", long('A', long('F', entry("minus", eight('l', -5)...)))...),
		}, nil), 5),
		frame(3, eight('l', -1)), frame(8, nil),
	}, nil)
	want := bytes.Join([][]byte{
		[]byte("AMQP\x00\x00\x09\x01"), frame(1, []byte("method")),
		contentHeader(bytes.Join([][]byte{
			entry("plus", eight('l', 1<<40)...), entry("minus", eight('L', -1<<40)...),
			entry("nested", long('A', long('F', entry("minus", eight('L', -5)...)))...),
		}, nil), 5),
		frame(3, eight('l', -1)), frame(8, nil),
	}, nil)
	for range 50 {
		var out bytes.Buffer
		w := frameWriter{greeting: protocolHeader, emit: func(frame []byte) { out.Write(frame) }}
		chunks(t, &w, in)
		if !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("got %q\nwant %q", out.Bytes(), want)
		}
	}
}

// FuzzFrames: whatever the broker sends, in whatever pieces, nothing panics, what is no content header
// is passed on unchanged, and mending twice is mending once.
func FuzzFrames(f *testing.F) {
	f.Add(contentHeader(everyType('L'), 0), 3)
	f.Add(contentHeader(entry("k", '?', 1), 5), 7)
	f.Add(contentHeader(entry("a", long('A', long('F', entry("n", eight('L', 7)...)))...), 1), 1)
	f.Add([]byte("AMQP\x00\x00\x09\x01"), 2)
	f.Fuzz(func(t *testing.T, table []byte, size int) {
		if len(table) > 1<<16 {
			return
		}
		size = 1 + (size&0xff+0xff)%0xff
		tail := frame(3, []byte("body"))
		for _, in := range [][]byte{table, append(contentHeader(table, 0), tail...), append(frame(typeHeader, table), tail...)} {
			once := readAll(t, &piecewise{in, size})
			again := readAll(t, bytes.NewReader(in))
			if !bytes.Equal(once, again) {
				t.Fatalf("pieces make a difference: %q and %q", once, again)
			}
			if len(in) > 0 && in[0] != typeHeader && len(in) < frameExtra && !bytes.Equal(once, in) {
				t.Fatalf("changed %q to %q", in, once)
			}
		}
		mended := mendInbound(contentHeader(table, 5), nil, frameMax)
		if second := mendInbound(bytes.Clone(mended), nil, frameMax); !bytes.Equal(mended, second) {
			t.Fatalf("mended twice: %q, then %q", mended, second)
		}
		var out bytes.Buffer
		w := frameWriter{greeting: protocolHeader, emit: func(frame []byte) { out.Write(frame) }}
		w.write(append([]byte("AMQP\x00\x00\x09\x01"), contentHeader(table, 5)...))
		if len(table) > 0 && out.Len() != protocolHeader+len(contentHeader(table, 5)) {
			t.Fatalf("%d bytes written", out.Len())
		}
	})
}

type piecewise struct {
	rest []byte
	size int
}

func (p *piecewise) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// What the driver reads after mending is what was sent.
func TestMendedTablesAreReadable(t *testing.T) {
	headers := amqp.Table{"big": int64(1 << 40), "list": []any{int64(-1 << 40), amqp.Table{"deep": int64(1 << 50)}}}
	if got := objectOf(headers); !reflect.DeepEqual(tableBack(t, got), headers) {
		t.Errorf("got %v", tableBack(t, got))
	}
}
