package jpegscale

import "errors"

// errEnd is that the file is over before its end marker.
var errEnd = errors.New("jpegscale: the file ends early")

// maxScans bounds the time that a small file can take: each scan may go over the whole picture. No encoder writes
// more than about two hundred.
const maxScans = 500

const notSeen = 127 // of component.missing: no scan of the coefficient has come

type component struct {
	id, table        uint8
	h, v             int // sampling factors
	w, high          int // samples at full size
	blocksW, blocksH int // whole MCUs

	quant    [64]int32 // in zigzag order; those of the time of its first scan
	hasQuant bool
	missing  [64]int8 // by coefficient, zigzag order: bits that are still to come

	unread [64]uint8 // the same order: bits left out of what was decoded, where that is reduced

	pix  []uint8  // blocksW*n samples each row, at full size
	fine []uint16 // reduced
	// The coarser scales; nil where they are not wanted.
	half, quarter, eighth []uint16
	stride                int

	coef    []int16  // progressive: kept coefficients of each block, d.slots of them
	nonzero []uint64 // progressive at full size: by block, which coefficients are not zero

	pred int32 // DC of the last block
}

type decoder struct {
	opt Options
	n   int // samples per block, each way
	src source

	width, height  int
	progressive    bool
	comps          []component
	hMax, vMax     int
	mcuW, mcuH     int
	restart        int
	jfif, adobe    bool
	adobeTransform uint8
	quant          [4][64]int32
	hasQuant       [4]bool
	huff           [2][4]*huffman // DC, AC

	slots    int      // progressive: coefficients kept of each block
	slot     [64]int8 // where, by zigzag order; -1: not at all
	lastKept int      // the last one of them, in zigzag order
	detail   detail
	scans    int
	passed   bool // the last scan was passed over
	damage   error
}

func (d *decoder) decode() (*Image, error) {
	if err := d.start(); err != nil {
		return nil, err
	}
	if err := d.walk(); err != nil {
		if d.scans == 0 || !d.opt.Lenient || errors.Is(err, errStopped) || errors.Is(err, ErrDetail) {
			return nil, err
		}
		d.note(err)
	}
	if d.progressive {
		if err := d.transform(); err != nil {
			return nil, err
		}
	}
	img := d.image(d.n)
	img.Detail = d.detail.rms()
	for _, s := range d.opt.Coarser {
		img.Coarser = append(img.Coarser, d.image(int(s)))
	}
	return img, nil
}

// image is what was decoded, at n samples per block.
func (d *decoder) image(n int) *Image {
	img := &Image{Width: d.width, Height: d.height, Model: d.model(), Scale: Scale(n), Damage: d.damage}
	for i := range d.comps {
		c := &d.comps[i]
		p := Plane{
			Stride: c.blocksW * n, W: ceilDiv(c.w, 8) * n, H: ceilDiv(c.high, 8) * n, FullW: c.w, FullH: c.high,
			PerX: float64(8*d.hMax) / float64(n*c.h), PerY: float64(8*d.vMax) / float64(n*c.v),
		}
		switch {
		case n == d.n:
			p.Pix, p.Fine = c.pix, c.fine
		case n == 4:
			p.Fine = c.half
		case n == 2:
			p.Fine = c.quarter
		case n == 1:
			p.Fine = c.eighth
		}
		img.Planes = append(img.Planes, p)
	}
	return img
}

// coarser makes the samples of the coarser scales of the block x, y of the component, whose coefficients are z.
func (c *component) coarser(z *block, x, y int) {
	if c.half != nil {
		t := *z // the transform works in place
		t.inverse4(c.half[(y*4*c.blocksW+x)*4:], c.blocksW*4, 63)
	}
	if c.quarter != nil {
		store2(c.quarter[(y*2*c.blocksW+x)*2:], c.blocksW*2, z[0], z[1], z[8], z[9])
	}
	if c.eighth != nil {
		c.eighth[y*c.blocksW+x] = limit(z[0] + zero)
	}
}

// note keeps the first thing that was wrong.
func (d *decoder) note(err error) {
	if d.damage == nil {
		d.damage = err
	}
}

// walk goes from segment to segment to the end of the file, or of what is needed.
func (d *decoder) walk() error {
	for {
		marker, payload, err := d.segment()
		if err == nil && marker == markEOI && d.scans == 0 {
			return damaged("there is no scan")
		}
		if err == nil && marker == markEOI || err == errEnd && d.scans > 0 {
			switch {
			case d.complete() && (err == nil || !d.passed):
				return nil
			case err != nil:
				return err
			}
			return damaged("the file has not all of its scans")
		}
		if err != nil {
			return err
		}
		if marker != markSOS {
			if err := d.apply(marker, payload); err != nil {
				return err
			}
			continue
		}
		if d.comps == nil {
			return damaged("a scan comes before the frame header")
		}
		if d.scans == 0 {
			if err := d.allocate(); err != nil {
				return err
			}
		}
		if d.scans++; d.scans > maxScans {
			return damaged("more than %d scans", maxScans)
		}
		if err := d.scan(payload); err != nil {
			return err
		}
		if d.complete() && !d.passed {
			return nil // what was passed over before has something behind it
		}
		if d.progressive && d.enough() {
			return d.skim()
		}
	}
}

// complete tells whether all bits of all coefficients have come.
func (d *decoder) complete() bool {
	for i := range d.comps {
		for _, left := range d.comps[i].missing {
			if left > 0 {
				return false
			}
		}
	}
	return true
}

// enough tells whether all that the scale needs has come.
func (d *decoder) enough() bool {
	for i := range d.comps {
		for k := range d.lastKept + 1 {
			if i == 0 && d.detail.wanted && d.comps[0].missing[d.detail.k] == notSeen {
				return false
			}
			if left := d.comps[i].missing[k]; left > 0 && d.wanted(k) && (k == 0 || left == notSeen || d.refines()) {
				return false
			}
		}
	}
	return true
}

// skim passes over the rest of a progressive file, to see that it is there.
func (d *decoder) skim() error {
	if d.opt.Lenient {
		return nil
	}
	for {
		marker, payload, err := d.segment()
		switch {
		case err != nil:
			return err
		case marker == markEOI:
			if !d.complete() {
				return damaged("the file has not all of its scans")
			}
			return nil
		case marker == markSOS:
			if d.scans++; d.scans > maxScans {
				return damaged("more than %d scans", maxScans)
			}
			var s scan
			if err := s.read(d, payload); err != nil {
				return err
			}
		}
	}
}

// allocate makes the planes, and room for coefficients.
func (d *decoder) allocate() error {
	d.lastKept = 63
	switch d.n {
	case 1:
		d.lastKept = 0
	case 2:
		d.lastKept = 4
	case 4:
		d.lastKept = 24
	}
	d.measure()
	d.slots = d.n * d.n
	for k := range d.slot {
		d.slot[k] = -1
		if d.wanted(k) {
			d.slot[k] = int8(int(natural[k]>>3)*d.n + int(natural[k]&7))
		}
	}
	if need := d.header().Memory(Scale(d.n), d.opt.Coarser...); d.opt.MaxMemory > 0 && need > d.opt.MaxMemory {
		return unsupported("%d x %d pixels would take %d bytes, the limit is %d", d.width, d.height, need, d.opt.MaxMemory)
	}
	for i := range d.comps {
		c := &d.comps[i]
		blocks := c.blocksW * c.blocksH
		c.stride = c.blocksW * d.n
		if d.n == 8 {
			c.pix = make([]uint8, blocks*64)
		} else {
			c.fine = make([]uint16, blocks*d.n*d.n)
		}
		for _, s := range d.opt.Coarser {
			fine := make([]uint16, blocks*int(s*s))
			switch s {
			case Half:
				c.half = fine
			case Quarter:
				c.quarter = fine
			default:
				c.eighth = fine
			}
		}
		if d.progressive {
			c.coef = make([]int16, blocks*d.slots)
			if d.refines() {
				c.nonzero = make([]uint64, blocks)
			}
			continue
		}
		if !d.opt.Lenient { // then there is a sample from the file in every place, or no picture
			continue
		}
		for j := range c.pix { // what no scan reaches is grey
			c.pix[j] = 128
		}
		for _, fine := range [][]uint16{c.fine, c.half, c.quarter, c.eighth} {
			for j := range fine {
				fine[j] = zero
			}
		}
	}
	return nil
}

// refines tells whether refinements of AC coefficients are read. At reduced size they are not: what they add to the few
// lowest coefficients is less than what the left out higher ones are, and all the others would have to be followed for it.
func (d *decoder) refines() bool { return d.n == 8 }

// wanted tells whether the scale needs coefficient k of the zigzag order.
func (d *decoder) wanted(k int) bool {
	at := int(natural[k])
	return at&7 < d.n && at>>3 < d.n
}

// natural is where the coefficients of the zigzag order stand in a block.
var natural = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}
