package jpegscale

import (
	"encoding/binary"
	"math/rand/v2"
)

// A drawing is a JPEG made of coefficients, so that it is known to the last bit what is in it: any sampling, any number of
// components, restart intervals, scans of single components, progressive scans without refinement of AC.
type drawing struct {
	w, h        int
	factors     [][2]int
	ids         []byte // nil: 1, 2, ...
	restart     int
	separate    bool // a scan for each component
	progressive bool
	adobe       int  // its transform; -1: no marker
	noTables    bool // the standard's Huffman tables are not written
	noEOI       bool
	wide        bool          // 16-bit quantisation tables
	fill        bool          // FF before each marker
	coefs       [][][64]int32 // of each component: its blocks, in zigzag order
	quant       [64]int32

	out  []byte
	acc  uint64
	n    uint
	pred []int32
}

type grid struct{ mcuW, mcuH, hMax, vMax int }

func (d *drawing) grid() (g grid) {
	for _, f := range d.factors {
		g.hMax, g.vMax = max(g.hMax, f[0]), max(g.vMax, f[1])
	}
	if len(d.factors) == 1 {
		g.hMax, g.vMax = d.factors[0][0], d.factors[0][1]
		return grid{ceilDiv(d.w, 8), ceilDiv(d.h, 8), 1, 1}
	}
	g.mcuW, g.mcuH = ceilDiv(d.w, 8*g.hMax), ceilDiv(d.h, 8*g.vMax)
	return g
}

// across is how many blocks of component i stand in a row, padding included.
func (d *drawing) across(i int) int {
	if len(d.factors) == 1 {
		return d.grid().mcuW
	}
	return d.grid().mcuW * d.factors[i][0]
}

// fillIn makes coefficients: most blocks have few, some are full to the last.
func (d *drawing) fillIn(r *rand.Rand) {
	g := d.grid()
	for k := range d.quant {
		d.quant[k] = int32(1 + r.IntN(6))
		if d.wide {
			d.quant[k] = int32(1 + r.IntN(300))
		}
	}
	for _, f := range d.factors {
		n := g.mcuW * g.mcuH * f[0] * f[1]
		if len(d.factors) == 1 {
			n = g.mcuW * g.mcuH
		}
		blocks := make([][64]int32, n)
		for b := range blocks {
			z := &blocks[b]
			z[0] = int32(r.IntN(800)-400) / d.quant[0]
			count := []int{0, 1, 3, 8, 20, 63}[r.IntN(6)]
			for range count {
				k := 1 + r.IntN(63)
				most := max(1, 60/(1+k/4)/int(d.quant[k]))
				z[k] = int32(r.IntN(2*most+1) - most)
			}
			if count == 63 {
				z[63] = 1
			}
		}
		d.coefs = append(d.coefs, blocks)
	}
}

func (d *drawing) marker(m byte, payload []byte) {
	if d.fill {
		d.out = append(d.out, 0xff, 0xff)
	}
	d.out = append(d.out, 0xff, m)
	if payload != nil {
		d.out = binary.BigEndian.AppendUint16(d.out, uint16(len(payload)+2))
		d.out = append(d.out, payload...)
	}
}

func (d *drawing) id(i int) byte {
	if d.ids != nil {
		return d.ids[i]
	}
	return byte(i + 1)
}

func (d *drawing) encode() []byte {
	d.out = []byte{0xff, 0xd8}
	if d.adobe >= 0 {
		d.marker(0xee, append([]byte("Adobe\x00\x64\x00\x00\x00\x00"), byte(d.adobe)))
	}
	table := []byte{0}
	if d.wide {
		table[0] = 0x10
	}
	for _, q := range d.quant {
		if d.wide {
			table = binary.BigEndian.AppendUint16(table, uint16(q))
		} else {
			table = append(table, byte(q))
		}
	}
	d.marker(0xdb, table)
	frame := []byte{8, byte(d.h >> 8), byte(d.h), byte(d.w >> 8), byte(d.w), byte(len(d.factors))}
	for i, f := range d.factors {
		frame = append(frame, d.id(i), byte(f[0]<<4|f[1]), 0)
	}
	if d.progressive {
		d.marker(0xc2, frame)
	} else {
		d.marker(0xc1, frame)
	}
	if !d.noTables {
		d.marker(0xc4, append([]byte{0x00}, standardDC[0]...))
		d.marker(0xc4, append([]byte{0x10}, standardAC[0]...))
	}
	if d.restart > 0 {
		d.marker(0xdd, []byte{byte(d.restart >> 8), byte(d.restart)})
	}
	all := make([]int, len(d.factors))
	for i := range all {
		all[i] = i
	}
	each := [][]int{all}
	if d.separate {
		each = nil
		for i := range all {
			each = append(each, []int{i})
		}
	}
	if !d.progressive {
		for _, comps := range each {
			d.scan(comps, 0, 63, 0, 0)
		}
	} else {
		for _, comps := range each {
			d.scan(comps, 0, 0, 0, 1)
		}
		for i := range all {
			d.scan([]int{i}, 1, 5, 0, 0)
		}
		for _, comps := range each {
			d.scan(comps, 0, 0, 1, 0)
		}
		for i := range all {
			d.scan([]int{i}, 6, 63, 0, 0)
		}
	}
	if !d.noEOI {
		d.marker(0xd9, nil)
	}
	return d.out
}

func (d *drawing) scan(comps []int, ss, se, ah, al int) {
	header := []byte{byte(len(comps))}
	for _, i := range comps {
		header = append(header, d.id(i), 0)
	}
	d.marker(0xda, append(header, byte(ss), byte(se), byte(ah<<4|al)))
	g := d.grid()
	mcuW, mcuH := g.mcuW, g.mcuH
	if len(comps) == 1 {
		f := d.factors[comps[0]]
		if len(d.factors) == 1 {
			f = [2]int{1, 1}
		}
		mcuW, mcuH = ceilDiv(ceilDiv(d.w*f[0], g.hMax), 8), ceilDiv(ceilDiv(d.h*f[1], g.vMax), 8)
	}
	d.pred = make([]int32, len(d.factors))
	for mcu := range mcuW * mcuH {
		if d.restart > 0 && mcu > 0 && mcu%d.restart == 0 {
			d.flush()
			d.marker(byte(0xd0+(mcu/d.restart-1)%8), nil)
			clear(d.pred)
		}
		for _, i := range comps {
			h, v := d.factors[i][0], d.factors[i][1]
			if len(comps) == 1 {
				h, v = 1, 1
			}
			for y := range v {
				for x := range h {
					at := (mcu/mcuW*v+y)*d.across(i) + mcu%mcuW*h + x
					d.block(i, &d.coefs[i][at], ss, se, ah, al)
				}
			}
		}
	}
	d.flush()
}

func (d *drawing) block(i int, z *[64]int32, ss, se, ah, al int) {
	if ss == 0 {
		if ah > 0 {
			d.put(uint32(z[0]>>al)&1, 1)
			return
		}
		v := z[0] >> al
		diff := v - d.pred[i]
		d.pred[i] = v
		size := magnitude(diff)
		d.code(standardDC[0], byte(size))
		d.value(diff, size)
		ss = 1
	}
	if se == 0 {
		return
	}
	run := 0
	for k := ss; k <= se; k++ {
		if z[k] == 0 {
			run++
			continue
		}
		for ; run > 15; run -= 16 {
			d.code(standardAC[0], 0xf0)
		}
		size := magnitude(z[k])
		d.code(standardAC[0], byte(run<<4|size))
		d.value(z[k], size)
		run = 0
	}
	if run > 0 {
		d.code(standardAC[0], 0)
	}
}

func magnitude(v int32) (size int) {
	for v = max(v, -v); v > 0; v >>= 1 {
		size++
	}
	return size
}

func (d *drawing) value(v int32, size int) {
	if v < 0 {
		v += 1<<size - 1
	}
	d.put(uint32(v), uint(size))
}

// code looks a symbol up in a table as DHT has it.
func (d *drawing) code(table []byte, symbol byte) {
	code, at := uint32(0), 16
	for length := range 16 {
		for range table[length] {
			if table[at] == symbol {
				d.put(code, uint(length+1))
				return
			}
			code++
			at++
		}
		code <<= 1
	}
	panic("no code")
}

func (d *drawing) put(v uint32, n uint) {
	d.acc = d.acc<<n | uint64(v)
	d.n += n
	for d.n >= 8 {
		b := byte(d.acc >> (d.n - 8))
		d.out = append(d.out, b)
		if b == 0xff {
			d.out = append(d.out, 0)
		}
		d.n -= 8
	}
}

func (d *drawing) flush() {
	if d.n > 0 {
		d.put(1<<(8-d.n)-1, 8-d.n)
	}
}

// want is component i at n samples per block, in floats.
func (d *drawing) want(i, n int) (pix []float64, stride int) {
	across := d.across(i)
	stride = across * n
	pix = make([]float64, len(d.coefs[i])*n*n)
	for b := range d.coefs[i] {
		at := b/across*n*stride + b%across*n
		for y := range n {
			for x := range n {
				pix[at+y*stride+x] = 128
			}
		}
		for k, c := range d.coefs[i][b] {
			u, v := int(natural[k]&7), int(natural[k]>>3)
			if c == 0 || u >= n || v >= n {
				continue
			}
			for y := range n {
				row := float64(c*d.quant[k]) * basis(n, v, y) * float64(n) / 8
				for x := range n {
					pix[at+y*stride+x] += row * basis(n, u, x)
				}
			}
		}
	}
	return pix, stride
}
