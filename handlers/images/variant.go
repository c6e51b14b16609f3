package images

import (
	"fmt"
	"math/big"
	"path"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// A variant is one thumbnail to make, checked.
type variant struct {
	target  string // "": derived
	size    size
	fit     string
	format  string // "": by target or source
	quality int
}

// What is asked for when nothing is.
const (
	defaultSide    = 256
	defaultQuality = 85
	maxSide        = 65535 // what a JPEG can hold
)

// variantOf checks arguments as they came; where names the part in errors ("" or "variants[2]: ").
func variantOf(where string, target *string, dimensions []protocol.Value, how string, format *string, quality int64) (variant, error) {
	v := variant{size: size{defaultSide, defaultSide}, fit: how, quality: int(quality)}
	if len(dimensions) != 2 {
		return v, valueError("%ssize must be (width, height), got %d numbers", where, len(dimensions))
	}
	for i, d := range dimensions {
		n, ok := d.(int64)
		if _, huge := d.(*big.Int); !ok && !huge {
			return v, exception("TypeError", nil, fmt.Sprintf("%ssize must be two integers, got %s", where, protocol.Repr(dimensions)))
		}
		if n < 1 || n > maxSide {
			return v, valueError("%ssize must be between 1 and %d each way, got %s", where, maxSide, protocol.Repr(dimensions))
		}
		if i == 0 {
			v.size.w = int(n)
		} else {
			v.size.h = int(n)
		}
	}
	switch how {
	case fitInside, fitCover, fitFill:
	default:
		return v, valueError("%sfit must be 'inside', 'cover' or 'fill', got %s", where, protocol.Repr(how))
	}
	if quality < 1 || quality > 100 {
		return v, valueError("%squality must be between 1 and 100, got %d", where, quality)
	}
	if format != nil {
		switch strings.ToLower(*format) {
		case "jpeg", "jpg":
			v.format = formatJPEG
		case "png":
			v.format = formatPNG
		default:
			return v, valueError("%sformat must be 'jpeg' or 'png' (or None: as the target or the source), got %s", where, protocol.Repr(*format))
		}
	}
	if target == nil {
		return v, nil
	}
	var err error
	if v.target, err = clean(*target); err != nil {
		return v, err
	}
	if v.format == "" {
		if v.format, err = formatOfName(where, v.target); err != nil {
			return v, err
		}
	}
	return v, nil
}

// formatOfName is the format a file's ending promises; "" when it promises none.
func formatOfName(where, name string) (string, error) {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".jpg", ".jpeg", ".jpe", ".jfif":
		return formatJPEG, nil
	case ".png":
		return formatPNG, nil
	case ".gif", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".jxl", ".svg":
		return "", valueError("%starget %s promises a format that is not written here: name it .jpg or .png, or give format", where, protocol.Repr(name))
	}
	return "", nil
}

// variantOfObject checks one dict of the task variants.
func variantOfObject(index int, value protocol.Value) (variant, error) {
	where := fmt.Sprintf("variants[%d]: ", index)
	o, ok := value.(*protocol.Object)
	if !ok || o == nil {
		return variant{}, exception("TypeError", nil, where+"want a dict, got "+protocol.Repr(value))
	}
	var (
		target, format *string
		dimensions     = []protocol.Value{int64(defaultSide), int64(defaultSide)}
		how            = fitInside
		quality        = int64(defaultQuality)
	)
	for _, m := range o.Members() {
		want, fits := "", true
		switch m.Key {
		case "target":
			want = "str or None"
			target, fits = optionalString(m.Value)
		case "format":
			want = "str or None"
			format, fits = optionalString(m.Value)
		case "size":
			want = "(width, height)"
			dimensions, fits = m.Value.([]protocol.Value)
		case "fit":
			want = "str"
			how, fits = m.Value.(string)
		case "quality":
			want = "int"
			quality, fits = m.Value.(int64)
		default:
			return variant{}, exception("TypeError", nil, fmt.Sprintf(
				"%sunknown key %s: target, size, fit, format and quality are known", where, protocol.Repr(m.Key)))
		}
		if !fits {
			return variant{}, exception("TypeError", nil, fmt.Sprintf("%s%s must be %s, got %s", where, m.Key, want, protocol.Repr(m.Value)))
		}
	}
	return variantOf(where, target, dimensions, how, format, quality)
}

func optionalString(v protocol.Value) (*string, bool) {
	if v == nil {
		return nil, true
	}
	s, ok := v.(string)
	return &s, ok
}

// settle fills in what depends on the source: its format and, when no target was given, the name
//
//	<folder of source>/thumbs/<name>_<w>x<h>[_<fit>][_q<quality>].<jpg or png>
//
// with w and h as asked for, fit and quality only where they are not the default. name is the source's without
// its ending if that is the ending written, and with it otherwise: a.gif and a.jpg have different thumbnails.
func (v *variant) settle(source, sourceFormat string, alpha bool) {
	if v.format == "" {
		switch {
		case sourceFormat == formatJPEG || sourceFormat == formatPNG:
			v.format = sourceFormat
		case alpha:
			v.format = formatPNG
		default:
			v.format = formatJPEG
		}
	}
	if v.target != "" {
		return
	}
	dir, base := path.Split(source)
	ext := ".jpg"
	if v.format == formatPNG {
		ext = ".png"
	}
	name := strings.TrimSuffix(base, ext)
	if name == "" {
		name = base
	}
	name = fmt.Sprintf("%s_%dx%d", name, v.size.w, v.size.h)
	if v.fit != fitInside {
		name += "_" + v.fit
	}
	if v.quality != defaultQuality && v.format == formatJPEG {
		name += fmt.Sprintf("_q%d", v.quality)
	}
	v.target = path.Join(dir, "thumbs", name+ext)
}
