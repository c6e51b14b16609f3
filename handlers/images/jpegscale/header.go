package jpegscale

import (
	"bytes"
	"encoding/binary"
)

// Markers.
const (
	markSOI  = 0xd8
	markEOI  = 0xd9
	markSOS  = 0xda
	markDQT  = 0xdb
	markDNL  = 0xdc
	markDRI  = 0xdd
	markDHT  = 0xc4
	markRST0 = 0xd0
	markRST7 = 0xd7
	markAPP0 = 0xe0
	markAPPE = 0xee
)

// A Header is what stands before the first scan.
type Header struct {
	Width, Height int
	Model         Model
	Progressive   bool
	// Sampling is how many samples each component has, horizontally and vertically, where the others have theirs: 2, 2, 1, 1,
	// 1, 1 for 4:2:0. Each is 1 to 4.
	Sampling [][2]int
}

// ReadHeader reads the header of the file data. It allocates next to nothing. The errors are those of Decode.
func ReadHeader(data []byte) (Header, error) {
	d := &decoder{src: source{data: data}}
	if err := d.start(); err != nil {
		return Header{}, err
	}
	for {
		marker, payload, err := d.segment()
		if err != nil {
			return Header{}, err
		}
		if marker == markSOS || marker == markEOI {
			break
		}
		if err := d.apply(marker, payload); err != nil {
			return Header{}, err
		}
	}
	if d.comps == nil {
		return Header{}, damaged("a scan comes before the frame header")
	}
	return d.header(), nil
}

func (d *decoder) header() Header {
	h := Header{Width: d.width, Height: d.height, Progressive: d.progressive, Model: d.model()}
	for _, c := range d.comps {
		h.Sampling = append(h.Sampling, [2]int{c.h, c.v})
	}
	return h
}

// Memory is how many bytes Decode allocates at the scale, and at coarser ones as well: the planes, and of a progressive file
// the coefficients.
func (h Header) Memory(s Scale, coarser ...Scale) int64 {
	var hMax, vMax int
	for _, f := range h.Sampling {
		hMax, vMax = max(hMax, f[0]), max(vMax, f[1])
	}
	per := int64(s) * int64(s) // bytes of one block
	if s != Full {
		per *= 2
	}
	if h.Progressive {
		per += 2 * int64(s) * int64(s)
		if s == Full {
			per += 8
		}
	}
	for _, c := range coarser {
		per += 2 * int64(c) * int64(c)
	}
	sum := int64(1 << 18) // tables
	for _, f := range h.Sampling {
		sum += int64(ceilDiv(h.Width, 8*hMax)*f[0]) * int64(ceilDiv(h.Height, 8*vMax)*f[1]) * per
	}
	return sum
}

// start reads the first two bytes.
func (d *decoder) start() error {
	if !bytes.HasPrefix(d.src.data, []byte{0xff, markSOI}) {
		return damaged("no JPEG: it does not begin with FF D8")
	}
	d.src.at = 2
	return nil
}

// segment moves to the next marker and behind its payload, which it returns. Bytes that belong to nothing are passed over.
func (d *decoder) segment() (marker uint8, payload []byte, err error) {
	for {
		if !d.src.toMarker() {
			return 0, nil, errEnd
		}
		marker = d.src.data[d.src.at+1]
		d.src.at += 2
		switch {
		case marker == markEOI:
			return marker, nil, nil
		case marker == 1 || marker >= markRST0 && marker <= markRST7 || marker == markSOI: // alone, and out of place
			continue
		}
		rest := d.src.data[d.src.at:]
		if len(rest) < 2 {
			return 0, nil, errEnd
		}
		length := int(binary.BigEndian.Uint16(rest))
		if length < 2 {
			return 0, nil, damaged("segment %02X is %d bytes long", marker, length)
		}
		if length > len(rest) {
			return 0, nil, errEnd
		}
		d.src.at += length
		return marker, rest[2:length], nil
	}
}

// toMarker moves to the next FF with a byte behind it that makes it a marker.
func (s *source) toMarker() bool {
	for {
		i := bytes.IndexByte(s.data[s.at:], 0xff)
		if i < 0 || s.at+i+1 >= len(s.data) {
			s.at = len(s.data)
			return false
		}
		s.at += i
		switch s.data[s.at+1] {
		case 0:
			s.at += 2
		case 0xff: // a marker may be padded with more FF
			s.at++
		default:
			return true
		}
	}
}

// apply takes what a segment other than SOS says.
func (d *decoder) apply(marker uint8, payload []byte) error {
	switch {
	case marker == markDHT:
		return d.readHuffman(payload)
	case marker == markDQT:
		return d.readQuant(payload)
	case marker == markDRI:
		if len(payload) < 2 {
			return damaged("the restart interval is cut short")
		}
		d.restart = int(binary.BigEndian.Uint16(payload))
	case marker == markAPP0:
		d.jfif = d.jfif || bytes.HasPrefix(payload, []byte("JFIF\x00"))
	case marker == markAPPE:
		if len(payload) >= 12 && bytes.HasPrefix(payload, []byte("Adobe")) {
			d.adobe, d.adobeTransform = true, payload[11]
		}
	case marker >= 0xc0 && marker <= 0xcf && marker != 0xc8 && marker != 0xcc:
		return d.readFrame(marker, payload)
	case marker == 0xde:
		return unsupported("hierarchical JPEG")
	case marker == 0xf7:
		return unsupported("JPEG-LS")
	}
	return nil
}

// readFrame reads SOFn:  precision height(2) width(2) components{id sampling table}
func (d *decoder) readFrame(marker uint8, payload []byte) error {
	switch marker {
	case 0xc0, 0xc1, 0xc2:
	case 0xc3:
		return unsupported("lossless JPEG")
	case 0xc5, 0xc6, 0xc7:
		return unsupported("hierarchical JPEG")
	case 0xcb, 0xcf:
		return unsupported("lossless JPEG with arithmetic coding")
	default:
		return unsupported("JPEG with arithmetic coding")
	}
	if d.comps != nil {
		return damaged("a second frame header")
	}
	if len(payload) < 6 || len(payload) < 6+3*int(payload[5]) {
		return damaged("the frame header is cut short")
	}
	if payload[0] != 8 {
		return unsupported("JPEG of %d bits", payload[0])
	}
	d.progressive = marker == 0xc2
	d.height, d.width = int(binary.BigEndian.Uint16(payload[1:])), int(binary.BigEndian.Uint16(payload[3:]))
	if d.width == 0 {
		return damaged("the width is 0")
	}
	if d.height == 0 {
		return unsupported("JPEG whose height comes at its end (DNL)")
	}
	n := int(payload[5])
	if n != 1 && n != 3 && n != 4 {
		return unsupported("JPEG of %d components", n)
	}
	comps := make([]component, n)
	for i := range comps {
		c, p := &comps[i], payload[6+3*i:]
		c.id, c.h, c.v, c.table = p[0], int(p[1]>>4), int(p[1]&15), p[2]
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 {
			return damaged("component %d has sampling factors %d x %d", i, c.h, c.v)
		}
		if c.table > 3 {
			return damaged("component %d has quantisation table %d", i, c.table)
		}
		for j := range i {
			if comps[j].id == c.id {
				return damaged("two components have the number %d", c.id)
			}
		}
		if n == 1 { // whatever it says: there are no others to be sampled more or less than
			c.h, c.v = 1, 1
		}
		d.hMax, d.vMax = max(d.hMax, c.h), max(d.vMax, c.v)
	}
	d.mcuW, d.mcuH = ceilDiv(d.width, 8*d.hMax), ceilDiv(d.height, 8*d.vMax)
	for i := range comps {
		c := &comps[i]
		c.w, c.high = ceilDiv(d.width*c.h, d.hMax), ceilDiv(d.height*c.v, d.vMax)
		c.blocksW, c.blocksH = d.mcuW*c.h, d.mcuH*c.v
		for k := range c.missing {
			c.missing[k] = notSeen
		}
	}
	d.comps = comps
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// readQuant reads DQT:  precision<<4|table values(64, one or two bytes each, in zigzag order) ...
func (d *decoder) readQuant(p []byte) error {
	for len(p) > 0 {
		wide, id := p[0]>>4, p[0]&15
		p = p[1:]
		if wide > 1 || id > 3 {
			return damaged("quantisation table %d of precision %d", id, wide)
		}
		size := 64 << wide
		if len(p) < size {
			return damaged("quantisation table %d is cut short", id)
		}
		for k := range 64 {
			if wide == 1 {
				d.quant[id][k] = int32(binary.BigEndian.Uint16(p[2*k:]))
			} else {
				d.quant[id][k] = int32(p[k])
			}
		}
		d.hasQuant[id] = true
		p = p[size:]
	}
	return nil
}

// readHuffman reads DHT:  class<<4|table counts(16) symbols ...
func (d *decoder) readHuffman(p []byte) error {
	for len(p) > 0 {
		if len(p) < 17 {
			return damaged("a Huffman table is cut short")
		}
		class, id := p[0]>>4, p[0]&15
		if class > 1 || id > 3 {
			return damaged("Huffman table %d of class %d", id, class)
		}
		n := 0
		for _, count := range p[1:17] {
			n += int(count)
		}
		if n > 256 || len(p) < 17+n {
			return damaged("Huffman table %d has %d symbols", id, n)
		}
		if d.huff[class][id] == nil {
			d.huff[class][id] = new(huffman)
		}
		d.huff[class][id].set(p[1 : 17+n])
		p = p[17+n:]
	}
	return nil
}

// model tells what the components are, as libjpeg does: by JFIF, by Adobe's marker, by their names.
func (d *decoder) model() Model {
	switch {
	case len(d.comps) == 1:
		return Gray
	case len(d.comps) == 4:
		if d.adobe && d.adobeTransform == 2 {
			return YCCK
		}
		return CMYK
	case d.jfif:
		return YCbCr
	case d.adobe:
		if d.adobeTransform == 0 {
			return RGB
		}
		return YCbCr
	case d.comps[0].id == 'R' && d.comps[1].id == 'G' && d.comps[2].id == 'B':
		return RGB
	}
	return YCbCr
}
