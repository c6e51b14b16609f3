package images

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"

	"golang.org/x/image/webp"

	"github.com/stalkworker/stalk/handlers/images/jpegscale"
)

// An info is what a file's header says; no pixel has been read.
type info struct {
	size
	format string
	colors color.Model
	jpeg   jpegscale.Header
	metadata
}

// upright is the size once the orientation is applied.
func (i info) upright() size { return i.size.swapped(i.orientation >= 5) }

type codec struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var codecs = map[string]codec{
	formatPNG:  {png.DecodeConfig, nil}, // see pngPicture
	formatGIF:  {gif.DecodeConfig, gif.Decode},
	formatWebP: {webp.DecodeConfig, webp.Decode},
}

// probe reads the header of the file name and refuses what is no readable picture or has more than maxPixels.
func probe(name string, data []byte, maxPixels int64) (i info, err error) {
	defer recoverDecoder(name, &err)
	format, readable := sniff(data)
	switch {
	case len(data) == 0:
		return info{}, valueError("%q is empty", name)
	case format == "":
		return info{}, valueError("%q is not a picture: its first bytes are those of no known format", name)
	case !readable:
		return info{}, valueError("%q is %s, which is not read here: JPEG, PNG, GIF and WebP are", name, format)
	}
	i.format = format
	if format == formatJPEG {
		if i.jpeg, err = jpegscale.ReadHeader(data); err != nil {
			return info{}, damaged(name, format, err)
		}
		i.size = size{i.jpeg.Width, i.jpeg.Height}
	} else {
		config, err := codecs[format].config(bytes.NewReader(data))
		if err != nil {
			return info{}, damaged(name, format, err)
		}
		i.size, i.colors = size{config.Width, config.Height}, config.ColorModel
	}
	if i.w <= 0 || i.h <= 0 {
		return info{}, valueError("%q is damaged: it is %d x %d pixels", name, i.w, i.h)
	}
	if i.pixels() > maxPixels {
		return info{}, valueError("%q has %d x %d = %d pixels, the limit is %d", name, i.w, i.h, i.pixels(), maxPixels)
	}
	i.metadata = readMetadata(format, data)
	return i, nil
}

// decode reads the picture of a probed file. wants are the sizes of the whole picture, as stored, that serve the caller: a
// decoder may return the picture reduced, never below them; its planes say how far. When ctx ends it returns the cause.
//
// The whole file is passed as bytes, not as a reader, so that what was probed is what is decoded even if
// the file is being written to.
func decode(ctx context.Context, name string, data []byte, i info, wants ...size) (p *picture, err error) {
	defer recoverDecoder(name, &err)
	if i.format == formatJPEG {
		p, err := decodeJPEG(ctx, data, i, wants)
		if err != nil && ctx.Err() == nil {
			return nil, damaged(name, i.format, err)
		}
		return p, err
	}
	if i.format == formatPNG {
		return pngPicture(ctx, name, data, i)
	}
	if i.format == formatWebP {
		p, err := webpPicture(ctx, data, i, largest(wants))
		if err != nil && ctx.Err() == nil {
			return nil, damaged(name, i.format, err)
		}
		if p != nil || err != nil {
			return p, err
		}
	}
	img, err := codecs[i.format].decode(&interruptible{ctx, bytes.NewReader(data)})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, damaged(name, i.format, err)
	}
	got := img.Bounds()
	if i.format == formatGIF && got != image.Rect(0, 0, i.w, i.h) {
		img = onCanvas(img, i.size)
	} else if (size{got.Dx(), got.Dy()}) != i.size {
		return nil, valueError("%q is damaged: its header says %d x %d pixels, its data %d x %d", name, i.w, i.h, got.Dx(), got.Dy())
	}
	return newPicture(img), nil
}

// largest is a size that none of wants is larger than.
func largest(wants []size) (l size) {
	for _, w := range wants {
		l.w, l.h = max(l.w, w.w), max(l.h, w.h)
	}
	return l
}

func damaged(name, format string, err error) error {
	return valueError("%q is damaged or unsupported %s: %v", name, format, err)
}

// recoverDecoder turns a panic of a decoder into an error: what a file holds must not look like a bug of the task.
func recoverDecoder(name string, err *error) {
	if p := recover(); p != nil {
		*err = valueError("%q is damaged: its decoder gave up (%v)", name, p)
	}
}

// interruptible lets the end of the context end a decoder, none of which knows contexts.
type interruptible struct {
	ctx context.Context
	r   *bytes.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, fmt.Errorf("interrupted: %w", context.Cause(i.ctx))
	}
	return i.r.Read(p)
}
