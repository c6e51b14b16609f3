package jpegscale

import "errors"

// errStopped wraps what Options.Check returned, so that it is not taken for damage.
var errStopped = errors.New("jpegscale: stopped")

type stopped struct{ cause error }

func (s stopped) Error() string        { return s.cause.Error() }
func (s stopped) Unwrap() error        { return s.cause }
func (s stopped) Is(target error) bool { return target == errStopped }

func (d *decoder) check() error {
	if d.opt.Check == nil {
		return nil
	}
	if err := d.opt.Check(); err != nil {
		return stopped{err}
	}
	return nil
}

// A scan is one pass over some components.
type scan struct {
	d      *decoder
	comps  []*component
	dc, ac [4]uint8 // tables of each
	ss, se int
	ah, al uint

	mcuW, mcuH int
	blocks     []mcuBlock // of one MCU
	row        func(s *scan, y, from, to int) bool

	b        bits
	eobRun   int32
	detailed bool // this scan tells what detail there is
}

// An mcuBlock is a block of an MCU: of which component, and where.
type mcuBlock struct {
	c          *component
	dc, ac     *huffman
	x, y       int // in blocks, within the MCU
	perX, perY int // blocks of the component per MCU
}

// read reads SOS:  components(1) {id tables} ss se ah<<4|al . It keeps the account of what has come.
func (s *scan) read(d *decoder, p []byte) error {
	s.d = d
	if len(p) < 1 || p[0] < 1 || p[0] > 4 || len(p) < 4+2*int(p[0]) {
		return damaged("a scan header is cut short")
	}
	n := int(p[0])
	for i := range n {
		id, tables := p[1+2*i], p[2+2*i]
		var c *component
		for j := range d.comps {
			if d.comps[j].id == id {
				c = &d.comps[j]
			}
		}
		if c == nil {
			return damaged("a scan of component %d, which there is not", id)
		}
		for _, other := range s.comps {
			if other == c {
				return damaged("a scan has component %d twice", id)
			}
		}
		s.comps = append(s.comps, c)
		s.dc[i], s.ac[i] = tables>>4, tables&15
		if s.dc[i] > 3 || s.ac[i] > 3 {
			return damaged("a scan with Huffman table %d", max(s.dc[i], s.ac[i]))
		}
	}
	p = p[1+2*n:]
	s.ss, s.se, s.ah, s.al = int(p[0]), int(p[1]), uint(p[2]>>4), uint(p[2]&15)
	if !d.progressive {
		s.ss, s.se, s.ah, s.al = 0, 63, 0, 0 // whatever it says, as libjpeg
	}
	if s.ss > s.se || s.se > 63 || s.al > 13 || d.progressive && (s.ss == 0) != (s.se == 0) || s.ss > 0 && n > 1 {
		return damaged("a scan of coefficients %d to %d of %d components", s.ss, s.se, n)
	}
	if s.ah != 0 && s.ah != s.al+1 {
		return damaged("a scan from bit %d to bit %d", s.ah, s.al)
	}
	for _, c := range s.comps {
		for k := s.ss; k <= s.se; k++ {
			// A refinement of what has not come, and a second first scan: encoders that do so are mistaken, decoders do not mind.
			c.missing[k] = min(c.missing[k], int8(s.al))
		}
	}
	return nil
}

func (d *decoder) scan(payload []byte) error {
	var s scan
	if err := s.read(d, payload); err != nil {
		return err
	}
	// Of a progressive file the first scan with the lower of the coefficients.
	first := !d.progressive || s.ah == 0 && s.ss <= int(d.detail.k) && s.se >= int(d.detail.k)
	s.detailed = d.detail.wanted && s.comps[0] == &d.comps[0] && first
	d.passed = d.progressive && !s.needed()
	if d.passed {
		return nil // the search for the next marker passes over it
	}
	for _, c := range s.comps {
		if c.hasQuant {
			continue
		}
		if !d.hasQuant[c.table] {
			return damaged("quantisation table %d is missing", c.table)
		}
		c.quant, c.hasQuant = d.quant[c.table], true
	}
	if err := s.prepare(); err != nil {
		return err
	}
	for _, c := range s.comps {
		for k := s.ss; k <= s.se; k++ {
			c.unread[k] = uint8(s.al)
		}
	}
	return s.run()
}

// needed tells whether a progressive scan holds anything for the scale.
func (s *scan) needed() bool {
	if s.ss == 0 || s.d.refines() || s.detailed {
		return true
	}
	if s.ah > 0 {
		return false
	}
	for k := s.ss; k <= s.se; k++ {
		if s.d.wanted(k) {
			return true
		}
	}
	return false
}

// prepare lays out the MCUs and makes the tables.
func (s *scan) prepare() error {
	d := s.d
	s.mcuW, s.mcuH = d.mcuW, d.mcuH
	for i, c := range s.comps {
		w, h := c.h, c.v
		if len(s.comps) == 1 { // not interleaved: every block is an MCU, and there are only those that hold samples
			w, h = 1, 1
			s.mcuW, s.mcuH = ceilDiv(c.w, 8), ceilDiv(c.high, 8)
		}
		var dc, ac *huffman
		var err error
		if s.ss == 0 && s.ah == 0 {
			if dc, err = d.table(0, s.dc[i]); err != nil {
				return err
			}
			dc.buildValue(true)
		}
		if s.se > 0 {
			if ac, err = d.table(1, s.ac[i]); err != nil {
				return err
			}
			if !d.progressive && d.n < 8 {
				ac.buildSkip()
			}
			if s.ah == 0 && (d.progressive || d.n > 1) {
				ac.buildValue(false)
			}
		}
		for y := range h {
			for x := range w {
				s.blocks = append(s.blocks, mcuBlock{c: c, dc: dc, ac: ac, x: x, y: y, perX: w, perY: h})
			}
		}
	}
	switch {
	case d.progressive && s.ss == 0 && s.ah == 0:
		s.row = (*scan).rowDCFirst
	case d.progressive && s.ss == 0:
		s.row = (*scan).rowDCRefine
	case d.progressive && s.ah == 0:
		s.row = (*scan).rowACFirst
	case d.progressive:
		s.row = (*scan).rowACRefine
	case d.n == 1:
		s.row = (*scan).row1
	case d.n == 2:
		s.row = (*scan).row2
	default:
		s.row = (*scan).row48
	}
	return nil
}

// table returns a Huffman table ready to read codes, the standard's own where the file brings none.
func (d *decoder) table(class, id uint8) (*huffman, error) {
	h := d.huff[class][id]
	if h == nil {
		if id > 1 {
			return nil, damaged("Huffman table %d is missing", id)
		}
		h = new(huffman)
		if class == 0 {
			h.set(standardDC[id])
		} else {
			h.set(standardAC[id])
		}
		d.huff[class][id] = h
	}
	if !h.build() {
		return nil, damaged("Huffman table %d is no code", id)
	}
	return h, nil
}

// run decodes the scan, from restart interval to restart interval.
func (s *scan) run() error {
	d := s.d
	total := s.mcuW * s.mcuH
	interval := d.restart
	if interval == 0 {
		interval = total
	}
	s.begin()
	next := uint8(0) // the number of the restart marker to come
	for mcu, left := 0, interval; mcu < total; {
		if err := d.check(); err != nil {
			return err
		}
		x := mcu % s.mcuW
		n := min(s.mcuW-x, left)
		good := s.row(s, mcu/s.mcuW, x, x+n)
		mcu += n
		left -= n
		if s.detailed && d.detail.exceeded() {
			return ErrDetail
		}
		if good && (left == 0 || mcu == total) && d.src.over {
			_, good = d.src.more(s.b) // were there as many bits?
		}
		if !good {
			err := damaged("the data of a scan is damaged or cut short")
			if !d.opt.Lenient {
				return err
			}
			d.note(err)
			mcu += left // the rest of the interval is lost
			left = 0
		}
		if left > 0 || mcu >= total {
			continue
		}
		// A restart marker, and the one that is expected unless data was lost.
		for {
			if !d.src.toMarker() {
				return s.lost(errEnd)
			}
			marker := d.src.data[d.src.at+1]
			if marker < markRST0 || marker > markRST7 {
				return s.lost(damaged("marker %02X in a scan", marker))
			}
			d.src.at += 2
			ahead := (marker - markRST0 - next) & 7
			if ahead == 0 {
				break
			}
			if err := s.lost(damaged("restart marker %d where %d is expected", marker-markRST0, next)); err != nil {
				return err
			}
			if ahead <= 3 { // so many intervals are missing
				mcu += int(ahead) * interval
				next += ahead
				break
			} // else it is one from before: there are too many
		}
		next = (next + 1) & 7
		left = interval
		s.begin()
	}
	return nil
}

// lost is err, or nil when damage is only noted.
func (s *scan) lost(err error) error {
	if !s.d.opt.Lenient {
		return err
	}
	s.d.note(err)
	return nil
}

// begin starts a restart interval.
func (s *scan) begin() {
	s.b = s.d.src.begin()
	s.eobRun = 0
	for _, c := range s.comps {
		c.pred = 0
	}
}
