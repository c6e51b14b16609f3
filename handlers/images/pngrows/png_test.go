package pngrows

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"testing"
)

func chunkOf(kind string, data []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	out = append(append(out, kind...), data...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

// A sketch is a PNG to be written, pixels drawn at random.
type sketch struct {
	Header
	palette, transparency []byte
	level, piece          int // of compression, and bytes in a chunk
}

// filtered applies a filter, as PNG's specification has it.
func filtered(filter uint8, row, prior []byte, pixel int) []byte {
	out := []byte{filter}
	for i, v := range row {
		var a, c int
		if i >= pixel {
			a, c = int(row[i-pixel]), int(prior[i-pixel])
		}
		b := int(prior[i])
		p := 0
		switch filter {
		case 1:
			p = a
		case 2:
			p = b
		case 3:
			p = (a + b) / 2
		case 4:
			abs := func(x int) int { return max(x, -x) }
			pa, pb, pc := abs(b-c), abs(a-c), abs(a+b-2*c)
			switch {
			case pa <= pb && pa <= pc:
				p = a
			case pb <= pc:
				p = b
			default:
				p = c
			}
		}
		out = append(out, v-uint8(p))
	}
	return out
}

func (s sketch) file(rnd *rand.Rand) []byte {
	var stream []byte
	pixel := max(s.samples()*s.Depth/8, 1)
	rough := rnd.IntN(3)
	rows := func(w, h int) {
		if w <= 0 || h <= 0 {
			return
		}
		n := s.rowBytes(w)
		prior := make([]byte, n)
		for range h {
			row := make([]byte, n)
			for i := range row {
				switch rough {
				case 0:
					row[i] = byte(rnd.Uint32())
				case 1:
					row[i] = byte(rnd.Uint32()) & byte(rnd.Uint32()>>8) & byte(rnd.Uint32()>>16) // mostly small
				default: // runs
					if i >= pixel && rnd.IntN(20) > 0 {
						row[i] = row[i-pixel]
					} else {
						row[i] = byte(rnd.IntN(4) * 85)
					}
				}
			}
			stream = append(stream, filtered(uint8(rnd.IntN(5)), row, prior, pixel)...)
			prior = row
		}
	}
	if s.Interlaced {
		for _, p := range passes {
			rows((s.Width-p.x+p.dx-1)/p.dx, (s.Height-p.y+p.dy-1)/p.dy)
		}
	} else {
		rows(s.Width, s.Height)
	}
	var z bytes.Buffer
	w, err := zlib.NewWriterLevel(&z, s.level)
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(stream); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(s.Width))
	head = binary.BigEndian.AppendUint32(head, uint32(s.Height))
	head = append(head, byte(s.Depth), byte(s.Colour), 0, 0, 0)
	if s.Interlaced {
		head[12] = 1
	}
	out := append([]byte(signature), chunkOf("IHDR", head)...)
	if s.palette != nil {
		out = append(out, chunkOf("PLTE", s.palette)...)
	}
	if s.transparency != nil {
		out = append(out, chunkOf("tRNS", s.transparency)...)
	}
	for rest := z.Bytes(); len(rest) > 0; {
		n := min(s.piece, len(rest))
		out = append(out, chunkOf("IDAT", rest[:n])...)
		rest = rest[n:]
	}
	return append(out, chunkOf("IEND", nil)...)
}

// kinds is every colour type and depth.
var kinds = [][2]int{{0, 1}, {0, 2}, {0, 4}, {0, 8}, {0, 16}, {2, 8}, {2, 16}, {3, 1}, {3, 2}, {3, 4}, {3, 8}, {4, 8}, {4, 16}, {6, 8}, {6, 16}}

func draw(rnd *rand.Rand, kind [2]int, w, h int) sketch {
	s := sketch{
		Header: Header{Width: w, Height: h, Depth: kind[1], Colour: kind[0], Interlaced: rnd.IntN(3) == 0},
		level:  rnd.IntN(12) - 2, piece: 1 + rnd.IntN(1000),
	}
	colours := 1 + rnd.IntN(1<<min(s.Depth, 8))
	if s.Colour == 3 {
		for range colours * 3 {
			s.palette = append(s.palette, byte(rnd.Uint32()))
		}
	}
	if rnd.IntN(2) == 0 {
		switch s.Colour {
		case 0, 2:
			for range s.samples() {
				v := uint16(rnd.IntN(4) * 85 * 257)
				if s.Depth < 16 {
					v &= 1<<s.Depth - 1
				}
				s.transparency = binary.BigEndian.AppendUint16(s.transparency, v)
			}
		case 3:
			for range 1 + rnd.IntN(colours) {
				s.transparency = append(s.transparency, byte(rnd.Uint32()))
			}
		}
	}
	return s
}

// same compares with image/png.
func same(t *testing.T, data []byte, r *Reader, want image.Image) {
	t.Helper()
	b := want.Bounds()
	if b.Dx() != r.Width || b.Dy() != r.Height {
		t.Fatalf("%d x %d pixels, want %v", r.Width, r.Height, b)
	}
	opaque := true
	for y := range r.Height {
		var row8 []uint8
		var row16 []uint16
		var err error
		if r.Deep {
			row16, err = r.Row16()
		} else {
			row8, err = r.Row()
		}
		if err != nil {
			t.Fatalf("row %d of %+v: %v", y, r.Header, err)
		}
		if max(len(row8), len(row16)) != r.Width*r.Channels {
			t.Fatalf("row %d of %+v has %d samples", y, r.Header, len(row8))
		}
		for x := range r.Width {
			n := color.NRGBA64Model.Convert(want.At(x, y)).(color.NRGBA64)
			if v, ok := want.At(x, y).(color.NRGBA); ok { // which NRGBA64Model would round twice
				n = color.NRGBA64{uint16(v.R) * 257, uint16(v.G) * 257, uint16(v.B) * 257, uint16(v.A) * 257}
			}
			opaque = opaque && n.A == 0xffff
			most := 0xffff
			if !r.Deep {
				n = color.NRGBA64{n.R >> 8, n.G >> 8, n.B >> 8, n.A >> 8}
				most = 255
			}
			mul := func(v uint16) int { return (int(v)*int(n.A) + most/2) / most }
			px := []int{mul(n.R), mul(n.G), mul(n.B), int(n.A)}
			if n.A == 0 {
				px = []int{0, 0, 0, 0}
			}
			for c := range r.Channels {
				got := 0
				if r.Deep {
					got = int(row16[x*r.Channels+c])
				} else {
					got = int(row8[x*r.Channels+c])
				}
				if got != px[c] {
					t.Fatalf("%+v: pixel %d, %d, channel %d of %d: %d, want %d", r.Header, x, y, c, r.Channels, got, px[c])
				}
			}
		}
	}
	if r.Opaque() != opaque {
		t.Fatalf("%+v: opaque %v, want %v", r.Header, r.Opaque(), opaque)
	}
	_ = data
}

// Every kind of PNG, at odd sizes, whatever its filters, compression and chunks, has the pixels that image/png reads.
func TestRowsAreThoseOfImagePNG(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		rnd := rand.New(rand.NewPCG(uint64(kind[0]), uint64(kind[1])))
		for range 25 {
			w, h := 1+rnd.IntN(40), 1+rnd.IntN(40)
			switch rnd.IntN(8) {
			case 0:
				w = 1
			case 1:
				h = 1
			case 2:
				w = 300 + rnd.IntN(1000)
			}
			data := draw(rnd, kind, w, h).file(rnd)
			want, err := png.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(data)
			if err != nil {
				t.Fatal(err)
			}
			same(t, data, r, want)
		}
	}
}
