// Package jpegscale decodes JPEG files at a whole, a half, a quarter or an eighth of their size, as fast as pure Go
// allows: what is needed to reduce photographs.
//
// A reduced picture is made from the lowest coefficients of each block of 8 x 8 samples, without the picture ever
// existing in its own size: at an eighth from the mean of a block alone. The rest of a block is walked over, several
// symbols at a time; of a progressive file only the scans are read that the scale needs.
//
// Read are baseline, extended sequential and progressive files of 8 bits with Huffman coding: grey, YCbCr and RGB at
// every sampling, CMYK and YCCK. The result is planes as they are stored, each at its own size, with how many pixels of
// the picture one sample covers; nothing is converted or enlarged. Arithmetic coding, 12 bits, lossless and hierarchical
// files are refused by name. Input may be hostile: memory and time are bounded by the header's dimensions, which the
// caller has to check, and by Options.MaxMemory.
package jpegscale

import (
	"errors"
	"fmt"
)

// A Scale is how many samples, each way, are made of a block of eight.
type Scale int

// The scales.
const (
	Eighth  Scale = 1
	Quarter Scale = 2
	Half    Scale = 4
	Full    Scale = 8
)

func (s Scale) valid() bool { return s == Eighth || s == Quarter || s == Half || s == Full }

// A Model says what the planes of a picture hold.
type Model int

// The models. CMYK planes hold what is stored, which by the convention of all writers is the complement: 255 is no ink.
const (
	Gray  Model = iota // one plane
	YCbCr              // three planes, full range
	RGB                // three planes
	CMYK               // four planes
	YCCK               // four planes; the first three are YCbCr, of which R, G and B are the inks themselves
)

// Plane.Fine holds a level as (level+FineZero)<<FineBits.
const (
	FineBits = 3
	FineZero = 256
)

// A Plane is the samples of one component. Sample x covers the pixels [x*PerX, (x+1)*PerX) of the picture. There are
// whole blocks of samples: the last ones may stick out beyond the picture's edge. FullW and FullH are how many samples
// the component has at full size, within the picture.
//
// At full size the samples are in Pix. Reduced they are in Fine, in eighths of a level and from -256 to 511: they are no
// means but the lowest coefficients, which overshoot at edges, and what is made of them needs that.
type Plane struct {
	Pix          []uint8
	Fine         []uint16
	W, H, Stride int
	FullW, FullH int
	PerX, PerY   float64
}

// An Image is a decoded picture. Width and Height are those of the file, whatever the scale.
type Image struct {
	Width, Height int
	Model         Model
	Scale         Scale
	Planes        []Plane
	Coarser       []*Image // as Options.Coarser asks, in that order
	// Detail is the root mean square, in levels, of the lowest two coefficients of a block that the scale leaves out, horizontally and
	// vertically, of the first component; known only with Options.MaxDetail. What is made of a reduced picture is off by a part of it.
	Detail float64
	// Damage is what is wrong with the file; always nil without Options.Lenient. What could not be read is grey.
	Damage error
}

// Options say how to decode. The zero value decodes at full size and refuses damaged files.
type Options struct {
	Scale Scale // 0: Full
	// Coarser are scales below Scale at which the picture is wanted as well, by the same pass over the file: for little more than
	// the price of their samples.
	Coarser []Scale
	// Without Lenient a file that is damaged or cut short is an error, as far as that is seen: scans that are not needed are passed over, but
	// they must be there, and end. An end marker may be missing where everything before it was read.
	//
	// Lenient decodes a damaged file as far as it goes and tells in Image.Damage what was wrong. A file whose header cannot
	// be read is an error all the same.
	Lenient bool
	// MaxDetail ends the decoding with ErrDetail, as soon as that is certain, when the picture's first component has more detail than
	// that just beyond the scale, see Image.Detail; 0: no limit.
	MaxDetail float64
	// MaxMemory is how many bytes may be allocated, see Header.Memory; 0: no limit.
	MaxMemory int64
	// Check is called about once per row of blocks; what it returns ends the decoding. May be nil.
	Check func() error
}

// ErrUnsupported is the cause of errors about files that are no damaged JPEGs but of a kind that is not read.
var ErrUnsupported = errors.New("unsupported")

// ErrDetail is that a picture has more detail than Options.MaxDetail.
var ErrDetail = errors.New("jpegscale: more detail than wanted")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("jpegscale: %w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("jpegscale: "+format, args...)
}

// Decode decodes the file data. It does not keep data.
func Decode(data []byte, o Options) (*Image, error) {
	if o.Scale == 0 {
		o.Scale = Full
	}
	if !o.Scale.valid() {
		return nil, fmt.Errorf("jpegscale: Options.Scale is %d, want 1, 2, 4 or 8", o.Scale)
	}
	for _, s := range o.Coarser {
		if !s.valid() || s >= o.Scale {
			return nil, fmt.Errorf("jpegscale: Options.Coarser has %d, want 1, 2 or 4, and less than the scale of %d", s, o.Scale)
		}
	}
	d := &decoder{opt: o, n: int(o.Scale), src: source{data: data}}
	return d.decode()
}
