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
type lanes struct{ evenA, evenB, evenCarry, oddA, oddB, oddCarry uint64 }

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
		whole[i].add(binary.LittleEndian.Uint64(row[8*i:]))
	}
	if rest := row[8*len(whole):]; len(rest) > 0 {
		var padded [8]uint8
		copy(padded[:], rest)
		s.lanes[len(whole)].add(binary.LittleEndian.Uint64(padded[:]))
	}
	if k := s.advance(); k > 0 {
		s.emitLanes(k)
	}
}

func (l *lanes) add(v uint64) {
	a := l.evenA + v&evenBytes
	l.evenA = a
	l.evenB += a
	a = l.oddA + v>>8&evenBytes
	l.oddA = a
	l.oddB += a
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
	short, my := uint64(s.my-k), uint64(s.my)
	for i := range s.lanes {
		l := &s.lanes[i]
		even, odd := l.evenB+short*l.evenA, l.oddB+short*l.oddA
		unpack(s.line[8*i:], l.evenCarry+even, l.oddCarry+odd)
		*l = lanes{evenCarry: my*l.evenA - even, oddCarry: my*l.oddA - odd}
	}
	s.across(0)
	if s.y == s.height && k > 1 {
		for i, l := range s.lanes {
			unpack(s.line[8*i:], l.evenCarry, l.oddCarry)
		}
		s.across(0)
	}
}

func unpack(line []uint32, even, odd uint64) {
	line = line[:8]
	line[0], line[1] = uint32(even&0xffff), uint32(odd&0xffff)
	line[2], line[3] = uint32(even>>16&0xffff), uint32(odd>>16&0xffff)
	line[4], line[5] = uint32(even>>32&0xffff), uint32(odd>>32&0xffff)
	line[6], line[7] = uint32(even>>48), uint32(odd>>48)
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
	line := s.line[:s.channels*s.samples]
	switch {
	case s.mx == 1:
		for x, v := range line {
			s.out[x] = fix(uint64(v), scale)
		}
	case s.mx == 2:
		across2(s.out, line, s.channels, scale)
	case s.channels == 3:
		across3(s.out, line, s.mx, scale)
	default:
		for c := range s.channels {
			across1(s.out, line, c, s.channels, s.mx, scale)
		}
	}
	s.sinks.deep(s.out)
}

// fix brings a sum to deepBits.
func fix(v, scale uint64) uint16 { return uint16(min((v*scale+1<<43)>>44, deepMax)) }

// across1 takes one of several channels.
func across1(out []uint16, line []uint32, from, channels, m int, scale uint64) {
	carry := uint64(0)
	x := from
	for j := from; j < len(out); j += channels {
		var a, b uint64
		k := 0
		for ; k < m && x < len(line); k++ {
			a += uint64(line[x])
			b += a
			x += channels
		}
		b += uint64(m-k) * a
		out[j] = fix(carry+b, scale)
		carry = uint64(m)*a - b
	}
}

func across3(out []uint16, line []uint32, m int, scale uint64) {
	var carry0, carry1, carry2 uint64
	for len(out) >= 3 {
		var a0, a1, a2, b0, b1, b2 uint64
		part := line[:min(3*m, len(line))]
		line = line[len(part):]
		short := uint64(m - len(part)/3)
		for len(part) >= 3 {
			a0 += uint64(part[0])
			a1 += uint64(part[1])
			a2 += uint64(part[2])
			b0 += a0
			b1 += a1
			b2 += a2
			part = part[3:]
		}
		b0 += short * a0
		b1 += short * a1
		b2 += short * a2
		out[0], out[1], out[2] = fix(carry0+b0, scale), fix(carry1+b1, scale), fix(carry2+b2, scale)
		carry0, carry1, carry2 = uint64(m)*a0-b0, uint64(m)*a1-b1, uint64(m)*a2-b2
		out = out[3:]
	}
}

// across2 has the weights 1, 2, 1.
func across2(out []uint16, line []uint32, channels int, scale uint64) {
	at := func(i int) uint64 { // at the ends some are missing
		if i < 0 || i >= len(line) {
			return 0
		}
		return uint64(line[i])
	}
	n := len(out) / channels
	for j := range n {
		mid := 2 * j * channels
		to := out[j*channels:][:channels]
		if j == 0 || mid+2*channels > len(line) {
			for c := range to {
				to[c] = fix(at(mid-channels+c)+2*at(mid+c)+at(mid+channels+c), scale)
			}
			continue
		}
		left, here, right := line[mid-channels:][:len(to)], line[mid:][:len(to)], line[mid+channels:][:len(to)]
		for c := range to {
			to[c] = fix(uint64(left[c])+2*uint64(here[c])+uint64(right[c]), scale)
		}
	}
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

// finest is how many times as fine as the result the rows of the last stage are left; oblique where one axis is reduced much more than the other,
// and so does not have the other's averaging to hide behind.
const (
	finest  = 3
	oblique = 4
)

// branch finds or makes the rows to make something of that is reduced by fx and fy: of the grids there are (the first is that of the source)
// the coarsest that is fine enough, brought down as far as may be.
func branch(grids *[]*grid, channels int, fx, fy float64) *grid {
	finer := float64(finest)
	if fx > 1.5*fy || fy > 1.5*fx {
		finer = oblique
	}
	mx, my := max(int(fx/finer), 1), max(int(fy/finer), 1)
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
