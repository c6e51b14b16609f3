package images

import "encoding/binary"

// Before Lanczos has its say, rows that are much finer than what is made of them are brought down by a whole factor m: sample j of the result weighs pixel p
// by the hat 1-|p-j*m|/m, where that is positive. Hats cost as little as means of boxes, and with them the kernel can be followed by
// straight lines where boxes allow but steps: even noise and small print come out as Lanczos over all the pixels would have them (see hats in kernel.go).
// And a hat of hats is the hat of the product: from the rows for one thumbnail those for the next smaller one are made, exactly.
const (
	deepBits = 5               // below the point, of the samples between stages
	deepMax  = 255 << deepBits // white
	mostHat  = 16              // of a stage from bytes: the sums, 255*16*16, must fit into 16 bits
	mostDeep = 64              // of one from deeper samples
)

// A stage brings rows down by mx and my, and hands them on.
type stage struct {
	channels, samples int // of the rows that come
	height            int
	mx, my            int
	sinks             sinks

	y     int
	lanes []lanes  // of bytes, eight in each
	sums  []column // of deeper samples
	line  []uint32
	out   []uint16
}

// Lanes are the vertical sums of eight bytes in a row, four to a word: of the bytes at even and at odd places. Over the rows y = j*my+k of an interval, b
// comes to the sum of (my-k)*row, without a multiplication: it gets a, the sum of rows so far, with every row. That is what the
// interval gives to hat j; carry is what the interval before gave to it.
type lanes struct{ a, b, carry [2]uint64 }

// A column is the same for one deeper sample.
type column struct{ a, b, carry uint32 }

func hatCount(n, m int) int { return (n+m-2)/m + 1 }

func newStage(samples, height, channels, mx, my int) *stage {
	return &stage{
		channels: channels, samples: samples, height: height, mx: mx, my: my,
		line: make([]uint32, samples*channels+8),
		out:  make([]uint16, hatCount(samples, mx)*channels),
	}
}

const evenBytes = 0x00ff00ff00ff00ff

// bytes takes a row of bytes.
func (s *stage) bytes(row []uint8) {
	if s.lanes == nil {
		s.lanes = make([]lanes, (len(row)+7)/8)
	}
	whole := s.lanes[:len(row)/8]
	for i := range whole {
		l := &whole[i]
		v := binary.LittleEndian.Uint64(row[8*i:])
		l.a[0] += v & evenBytes
		l.b[0] += l.a[0]
		l.a[1] += v >> 8 & evenBytes
		l.b[1] += l.a[1]
	}
	if rest := row[8*len(whole):]; len(rest) > 0 {
		var padded [8]uint8
		copy(padded[:], rest)
		v := binary.LittleEndian.Uint64(padded[:])
		l := &s.lanes[len(whole)]
		l.a[0] += v & evenBytes
		l.b[0] += l.a[0]
		l.a[1] += v >> 8 & evenBytes
		l.b[1] += l.a[1]
	}
	if k := s.advance(); k > 0 {
		s.emitLanes(k)
	}
}

// deep takes a row of deeper samples.
func (s *stage) deep(row []uint16) {
	if s.sums == nil {
		s.sums = make([]column, len(row))
	}
	sums := s.sums[:len(row)]
	for x, v := range row {
		c := &sums[x]
		c.a += uint32(v)
		c.b += c.a
	}
	if k := s.advance(); k > 0 {
		s.emitColumns(k)
	}
}

// advance counts the row, and returns how many rows an interval had that is over; else 0.
func (s *stage) advance() int {
	k := s.y%s.my + 1
	s.y++
	if k == s.my || s.y == s.height {
		return k
	}
	return 0
}

// emitLanes hands on the hat of an interval of k rows, and of the last also the one behind it, if any of the rows lies beneath that.
func (s *stage) emitLanes(k int) {
	short := uint64(s.my - k)
	my := uint64(s.my)
	at := 0
	for i := range s.lanes {
		l := &s.lanes[i]
		line := s.line[at:][:8]
		at += 8
		for odd := range 2 {
			b := l.b[odd] + short*l.a[odd]
			v := l.carry[odd] + b
			l.carry[odd] = my*l.a[odd] - b
			l.a[odd], l.b[odd] = 0, 0
			line[odd] = uint32(v & 0xffff)
			line[odd+2] = uint32(v >> 16 & 0xffff)
			line[odd+4] = uint32(v >> 32 & 0xffff)
			line[odd+6] = uint32(v >> 48)
		}
	}
	s.across(0)
	if s.y == s.height && k > 1 {
		for i := range s.lanes {
			for odd := range 2 {
				v := s.lanes[i].carry[odd]
				for j := range 4 {
					s.line[8*i+2*j+odd] = uint32(v >> (16 * j) & 0xffff)
				}
			}
		}
		s.across(0)
	}
}

func (s *stage) emitColumns(k int) {
	short, my := uint32(s.my-k), uint32(s.my)
	line := s.line[:len(s.sums)]
	for x := range s.sums {
		c := &s.sums[x]
		b := c.b + short*c.a
		line[x] = c.carry + b
		*c = column{carry: my*c.a - b}
	}
	s.across(deepBits)
	if s.y == s.height && k > 1 {
		for x, c := range s.sums {
			line[x] = c.carry
		}
		s.across(deepBits)
	}
}

// across does along the row what lanes does down the columns, brings the sums to deepBits, and hands the row on.
func (s *stage) across(bits uint) {
	// A sum is a sample, of 13 bits at most, times n; scale has 44 bits more than its inverse.
	n := uint64(s.mx) * uint64(s.mx) * uint64(s.my) * uint64(s.my)
	scale := (uint64(1)<<(44+deepBits-bits) + n/2) / n
	fix := func(v uint64) uint16 { return uint16(min((v*scale+1<<43)>>44, deepMax)) }
	out := s.out
	mx, channels := s.mx, s.channels
	switch {
	case mx == 1:
		for x := range out {
			out[x] = fix(uint64(s.line[x]))
		}
	case channels == 3:
		line := s.line[:3*s.samples]
		var carry [3]uint64
		for len(out) >= 3 {
			var a, b [3]uint64
			part := line[:min(3*mx, len(line))]
			line = line[len(part):]
			short := uint64(mx - len(part)/3)
			for len(part) >= 3 {
				a[0] += uint64(part[0])
				b[0] += a[0]
				a[1] += uint64(part[1])
				b[1] += a[1]
				a[2] += uint64(part[2])
				b[2] += a[2]
				part = part[3:]
			}
			for c := range 3 {
				b[c] += short * a[c]
				out[c] = fix(carry[c] + b[c])
				carry[c] = uint64(mx)*a[c] - b[c]
			}
			out = out[3:]
		}
	default:
		for c := range channels {
			line := s.line[c : channels*s.samples]
			carry := uint64(0)
			for j := c; j < len(out); j += channels {
				var a, b uint64
				k := 0
				for ; k < mx && len(line) > 0; k++ {
					a += uint64(line[0])
					b += a
					line = line[min(channels, len(line)):]
				}
				b += uint64(mx-k) * a
				out[j] = fix(carry + b)
				carry = uint64(mx)*a - b
			}
		}
	}
	s.sinks.deep(s.out)
}

// sinks are what a row goes to.
type sinks struct {
	stages     []*stage
	resamplers []*resampler
}

func (s *sinks) bytes(row []uint8) {
	for _, st := range s.stages {
		st.bytes(row)
	}
	for _, r := range s.resamplers {
		if r.wants() {
			push(r, row)
		} else {
			r.skip()
		}
	}
}

func (s *sinks) deep(row []uint16) {
	for _, st := range s.stages {
		st.deep(row)
	}
	for _, r := range s.resamplers {
		if r.wants() {
			push(r, row)
		} else {
			r.skip()
		}
	}
}

// last is the first of so many rows that nobody wants any more.
func (s *sinks) last(rows int) int {
	if len(s.stages) > 0 {
		return rows
	}
	last := 0
	for _, r := range s.resamplers {
		last = max(last, r.last)
	}
	return last
}

// A grid says where on the tree of stages rows are: how many there are of how many samples, each a hat of mx times my.
type grid struct {
	samples, rows int
	mx, my        int
	deep          bool
	sinks         *sinks
}

// finest is how many times as fine as the result the rows of the last stage are left.
const finest = 3

// branch finds or makes the rows to make something of that is reduced by fx and fy: of the grids there are (the first is that of the source)
// the coarsest that is fine enough, brought down as far as may be.
func branch(grids *[]*grid, channels int, fx, fy float64) *grid {
	mx, my := max(int(fx/finest), 1), max(int(fy/finest), 1)
	var from *grid
	for _, g := range *grids {
		if g.mx <= mx && g.my <= my && (from == nil || g.mx*g.my >= from.mx*from.my) {
			from = g
		}
	}
	for {
		most := mostHat
		if from.deep {
			most = mostDeep
		}
		x, y := min(mx/from.mx, most), min(my/from.my, most)
		if x == 1 && y == 1 {
			return from
		}
		s := newStage(from.samples, from.rows, channels, x, y)
		from.sinks.stages = append(from.sinks.stages, s)
		from = &grid{
			samples: hatCount(from.samples, x), rows: hatCount(from.rows, y),
			mx: from.mx * x, my: from.my * y, deep: true, sinks: &s.sinks,
		}
		*grids = append(*grids, from)
	}
}
