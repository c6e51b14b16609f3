package images

import (
	"fmt"
	"math"
	"math/big"
	"path"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// The words of arguments that are choices.
const (
	subsampling420 = "4:2:0"
	subsampling444 = "4:4:4"
	metadataDrop   = "drop"
	metadataKeep   = "keep"
	iccKeep        = "keep"
	iccSRGB        = "srgb"
	framesFirst    = "first"
	framesAll      = "all"
)

// Bounds of UnsharpMask's arguments.
const (
	maxRadius    = 20
	maxPercent   = 1000
	maxThreshold = 255
)

// variantOf checks a request; where names the part in errors ("" or "variants[2]: ").
func variantOf(where string, r request) (variant, error) {
	v := variant{style: defaultStyle}
	var err error
	if v.frame, err = framingOf(where, r); err != nil {
		return v, err
	}
	if v.style, err = styleOf(where, r); err != nil {
		return v, err
	}
	if r.target == nil {
		return v, nil
	}
	if v.target, err = clean(*r.target); err != nil {
		return v, err
	}
	if v.style.all && strings.ToLower(path.Ext(v.target)) != ".gif" {
		return v, valueError("%sframes='all' makes a GIF: the target %s must end in .gif", where, protocol.Repr(v.target))
	}
	if v.style.format == "" {
		if v.style.format, err = formatOfName(where, v.target); err != nil {
			return v, err
		}
	}
	return v, nil
}

func framingOf(where string, r request) (framing, error) {
	f := framing{size: size{defaultSide, defaultSide}, how: r.fit, focal: defaultFocal}
	if len(r.size) != 2 {
		return f, valueError("%ssize must be (width, height), got %d numbers", where, len(r.size))
	}
	for i, d := range r.size {
		n, ok := d.(int64)
		if _, huge := d.(*big.Int); !ok && !huge {
			return f, exception("TypeError", nil, fmt.Sprintf("%ssize must be two integers, got %s", where, protocol.Repr(r.size)))
		}
		if n < 1 || n > maxSide {
			return f, valueError("%ssize must be between 1 and %d each way, got %s", where, maxSide, protocol.Repr(r.size))
		}
		if i == 0 {
			f.size.w = int(n)
		} else {
			f.size.h = int(n)
		}
	}
	switch r.fit {
	case fitInside, fitContain, fitCover, fitFill:
	default:
		return f, valueError("%sfit must be 'inside', 'contain', 'cover' or 'fill', got %s", where, protocol.Repr(r.fit))
	}
	if r.focal != nil {
		n, ok := numbers(r.focal, 2)
		switch {
		case !ok:
			return f, exception("TypeError", nil, fmt.Sprintf("%sfocal must be (x, y), got %s", where, protocol.Repr(r.focal)))
		case n[0] < 0 || n[0] > 1 || n[1] < 0 || n[1] > 1:
			return f, valueError("%sfocal must be between 0 and 1 each way, got %s", where, protocol.Repr(r.focal))
		case r.fit != fitCover:
			return f, valueError("%sfocal is for fit='cover', the fit is %s", where, protocol.Repr(r.fit))
		}
		f.focal = [2]float64{n[0], n[1]}
	}
	if r.crop != nil {
		f.crop = new([4]int)
		for i := range f.crop {
			n, ok := int64(0), len(r.crop) == len(f.crop)
			if ok {
				n, ok = r.crop[i].(int64)
			}
			if !ok {
				return f, exception("TypeError", nil, fmt.Sprintf("%scrop must be (left, top, right, bottom) in whole pixels, got %s", where, protocol.Repr(r.crop)))
			}
			f.crop[i] = int(min(max(n, -1), math.MaxInt32))
		}
		if f.crop[0] < 0 || f.crop[1] < 0 || f.crop[2] <= f.crop[0] || f.crop[3] <= f.crop[1] {
			return f, valueError("%scrop must be (left, top, right, bottom) with left < right and top < bottom, got %s", where, protocol.Repr(r.crop))
		}
	}
	return f, nil
}

func styleOf(where string, r request) (style, error) {
	s := style{quality: int(r.quality), progressive: r.progressive}
	if r.quality < 1 || r.quality > 100 {
		return s, valueError("%squality must be between 1 and 100, got %d", where, r.quality)
	}
	if r.format != nil {
		switch strings.ToLower(*r.format) {
		case "jpeg", "jpg":
			s.format = formatJPEG
		case "png":
			s.format = formatPNG
		case formatGIF:
			if r.frames != framesAll {
				return s, valueError("%sformat 'gif' is for frames='all'", where)
			}
			s.format = formatGIF
		default:
			return s, valueError("%sformat must be 'jpeg' or 'png' (or None: as the target or the source), got %s", where, protocol.Repr(*r.format))
		}
	}
	if r.sharpen != nil {
		n, ok := numbers(r.sharpen, 3)
		switch {
		case !ok:
			return s, exception("TypeError", nil, fmt.Sprintf("%ssharpen must be (radius, percent, threshold), got %s", where, protocol.Repr(r.sharpen)))
		case n[0] < 0 || n[0] > maxRadius || n[1] < 0 || n[1] > maxPercent || n[2] < 0 || n[2] > maxThreshold:
			return s, valueError("%ssharpen must be a radius up to %d, a percentage up to %d and a threshold up to %d, got %s",
				where, maxRadius, maxPercent, maxThreshold, protocol.Repr(r.sharpen))
		}
		s.sharpen = unsharp{n[0], int(n[1]), int(n[2])}
	}
	if r.maxBytes != nil {
		if *r.maxBytes < 1 {
			return s, valueError("%smax_bytes must be 1 or more, got %d", where, *r.maxBytes)
		}
		s.maxBytes = *r.maxBytes
	}
	var err error
	s.full, err = choice(where, "subsampling", r.subsampling, subsampling420, subsampling444)
	if err == nil {
		s.keepMetadata, err = choice(where, "metadata", r.metadata, metadataDrop, metadataKeep)
	}
	if err == nil {
		s.toSRGB, err = choice(where, "icc", r.icc, iccKeep, iccSRGB)
	}
	if err == nil {
		s.all, err = choice(where, "frames", r.frames, framesFirst, framesAll)
	}
	if err == nil && s.all {
		switch {
		case s.format != "" && s.format != formatGIF:
			err = valueError("%sframes='all' makes a GIF, the format is %s", where, protocol.Repr(*r.format))
		case s.maxBytes > 0:
			err = valueError("%smax_bytes is for JPEG: a GIF has no quality to give up", where)
		}
		s.format = formatGIF
	}
	return s, err
}

// choice reports whether value is the second of two words.
func choice(where, name, value, usual, other string) (bool, error) {
	if value != usual && value != other {
		return false, valueError("%s%s must be '%s' or '%s', got %s", where, name, usual, other, protocol.Repr(value))
	}
	return value == other, nil
}

// numbers are n finite numbers.
func numbers(list []protocol.Value, n int) ([]float64, bool) {
	if len(list) != n {
		return nil, false
	}
	var out []float64
	for _, v := range list {
		switch v := v.(type) {
		case int64:
			out = append(out, float64(v))
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, false
			}
			out = append(out, v)
		default:
			return nil, false
		}
	}
	return out, true
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
