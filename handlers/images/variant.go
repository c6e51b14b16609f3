package images

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// A variant is one thumbnail to make, checked.
type variant struct {
	target string // "": derived
	frame  framing
	style  style
}

// A framing is which part of the source is shown, and how large.
type framing struct {
	size  size
	how   string     // fitInside, fitContain, fitCover or fitFill
	focal [2]float64 // of fitCover: how much of what is cut is cut on the left and above
	crop  *[4]int    // left, top, right, bottom in pixels of the upright source; nil: all of it
}

// A style is how the thumbnail is finished and written.
type style struct {
	format       string // "": by target or source
	quality      int
	maxBytes     int64 // 0: any
	progressive  bool
	full         bool // chroma in full size
	sharpen      unsharp
	keepMetadata bool
	toSRGB       bool
	all          bool // frames: the format is GIF
}

// What is asked for when nothing is.
const (
	defaultSide    = 256
	defaultQuality = 85
	maxSide        = 65535 // what a JPEG can hold
)

var (
	defaultFocal = [2]float64{0.5, 0.5}
	defaultStyle = style{quality: defaultQuality}
)

// settle fills in what depends on the source: its format and, when no target was given, the name
//
//	<folder of source>/thumbs/<name>_<w>x<h>[_<fit>][_q<quality>][_<what else is asked for>].<jpg, png or gif>
//
// with w and h as asked for, and only what is not the default. name is the source's without its ending if that is
// the ending written, and with it otherwise: a.gif and a.jpg have different thumbnails.
func (v *variant) settle(source, sourceFormat string, alpha bool) {
	if v.style.format == "" {
		switch {
		case sourceFormat == formatJPEG || sourceFormat == formatPNG:
			v.style.format = sourceFormat
		case alpha:
			v.style.format = formatPNG
		default:
			v.style.format = formatJPEG
		}
	}
	if v.target != "" {
		return
	}
	dir, base := path.Split(source)
	ext := ".jpg"
	switch v.style.format {
	case formatPNG:
		ext = ".png"
	case formatGIF:
		ext = ".gif"
	}
	name := strings.TrimSuffix(base, ext)
	if name == "" {
		name = base
	}
	name += fmt.Sprintf("_%dx%d", v.frame.size.w, v.frame.size.h)
	if v.frame.how != fitInside {
		name += "_" + v.frame.how
	}
	v.target = path.Join(dir, "thumbs", name+v.suffix()+ext)
}

// suffix names what else makes this picture another one.
func (v *variant) suffix() string {
	var s strings.Builder
	isJPEG := v.style.format == formatJPEG
	if v.style.quality != defaultQuality && isJPEG {
		fmt.Fprintf(&s, "_q%d", v.style.quality)
	}
	if v.frame.focal != defaultFocal {
		s.WriteString("_at" + short(v.frame.focal[0]) + "-" + short(v.frame.focal[1]))
	}
	if c := v.frame.crop; c != nil {
		fmt.Fprintf(&s, "_crop%d-%d-%d-%d", c[0], c[1], c[2], c[3])
	}
	if u := v.style.sharpen; u.percent > 0 {
		fmt.Fprintf(&s, "_sharp%s-%d-%d", short(u.radius), u.percent, u.threshold)
	}
	if v.style.maxBytes > 0 {
		fmt.Fprintf(&s, "_max%d", v.style.maxBytes)
	}
	if v.style.progressive && isJPEG {
		s.WriteString("_progressive")
	}
	if v.style.full && isJPEG {
		s.WriteString("_444")
	}
	if v.style.keepMetadata {
		s.WriteString("_meta")
	}
	if v.style.toSRGB {
		s.WriteString("_srgb")
	}
	return s.String()
}

func short(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// A request is the arguments of one thumbnail as they came; of lists and texts, nil is None.
type request struct {
	target, format       *string
	size                 []protocol.Value
	fit                  string
	quality              int64
	focal, crop, sharpen []protocol.Value
	maxBytes             *int64
	progressive          bool
	subsampling          string
	metadata, icc        string
	frames               string
}

// knownKeys are those of a dict of the task variants.
const knownKeys = "target, size, fit, format, quality, focal, crop, sharpen, max_bytes, progressive, subsampling, metadata, icc and frames"

// variantOfObject checks one dict of the task variants.
func variantOfObject(index int, value protocol.Value) (variant, error) {
	where := fmt.Sprintf("variants[%d]: ", index)
	o, ok := value.(*protocol.Object)
	if !ok || o == nil {
		return variant{}, exception("TypeError", nil, where+"want a dict, got "+protocol.Repr(value))
	}
	r := request{
		size: []protocol.Value{int64(defaultSide), int64(defaultSide)}, fit: fitInside, quality: defaultQuality,
		subsampling: subsampling420, metadata: metadataDrop, icc: iccKeep, frames: framesFirst,
	}
	for _, m := range o.Members() {
		want, fits := "", true
		switch m.Key {
		case "target":
			want = "str or None"
			r.target, fits = optional[string](m.Value)
		case "format":
			want = "str or None"
			r.format, fits = optional[string](m.Value)
		case "size":
			want = "(width, height)"
			r.size, fits = m.Value.([]protocol.Value)
		case "fit":
			want = "str"
			r.fit, fits = m.Value.(string)
		case "quality":
			want = "int"
			r.quality, fits = m.Value.(int64)
		case "focal":
			want = "(x, y) or None"
			r.focal, fits = optionalList(m.Value)
		case "crop":
			want = "(left, top, right, bottom) or None"
			r.crop, fits = optionalList(m.Value)
		case "sharpen":
			want = "(radius, percent, threshold) or None"
			r.sharpen, fits = optionalList(m.Value)
		case "max_bytes":
			want = "int or None"
			r.maxBytes, fits = optional[int64](m.Value)
		case "progressive":
			want = "bool"
			r.progressive, fits = m.Value.(bool)
		case "subsampling":
			want = "str"
			r.subsampling, fits = m.Value.(string)
		case "metadata":
			want = "str"
			r.metadata, fits = m.Value.(string)
		case "icc":
			want = "str"
			r.icc, fits = m.Value.(string)
		case "frames":
			want = "str"
			r.frames, fits = m.Value.(string)
		default:
			return variant{}, exception("TypeError", nil, fmt.Sprintf("%sunknown key %s: %s are known", where, protocol.Repr(m.Key), knownKeys))
		}
		if !fits {
			return variant{}, exception("TypeError", nil, fmt.Sprintf("%s%s must be %s, got %s", where, m.Key, want, protocol.Repr(m.Value)))
		}
	}
	return variantOf(where, r)
}

func optional[T string | int64](v protocol.Value) (*T, bool) {
	if v == nil {
		return nil, true
	}
	t, ok := v.(T)
	return &t, ok
}

func optionalList(v protocol.Value) ([]protocol.Value, bool) {
	if v == nil {
		return nil, true
	}
	list, ok := v.([]protocol.Value)
	return list, ok
}
