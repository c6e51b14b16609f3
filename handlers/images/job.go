package images

import (
	"context"
	"io"

	"github.com/stalkworker/stalk/handlers"
)

// The stages that stalk.images.thumbnail reports.
const (
	stageDecode = "decode"
	stageResize = "resize"
)

// A job is one call of either task: one source, decoded once, and what is made of it. It runs in one
// goroutine, since the slot it runs in is one CPU.
type job struct {
	cfg      Config
	source   string
	variants []variant
	progress func(stage string, done int) error // before each stage; done variants are written
}

func (j *job) run(ctx context.Context) ([]Made, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	media, err := openStorage(j.cfg.Root)
	if err != nil {
		return nil, err
	}
	defer media.Close()
	data, stat, err := media.read(j.source, j.cfg.MaxBytes)
	if err != nil {
		return nil, err
	}
	i, err := probe(j.source, data, j.cfg.MaxPixels)
	if err != nil {
		return nil, err
	}
	want, err := j.wanted(i)
	if err != nil {
		return nil, err
	}
	if err := handlers.Reserve(ctx, i.footprint(len(data), want, j.largest(i))); err != nil {
		return nil, err
	}
	if err := j.progress(stageDecode, 0); err != nil {
		return nil, err
	}
	p, err := decode(ctx, j.source, data, i, want)
	if err != nil {
		return nil, err
	}
	targets := map[string]int{}
	for n := range j.variants {
		v := &j.variants[n]
		v.settle(j.source, i.format, p.model == modelRGBA)
		if v.target == j.source || media.same(v.target, stat) {
			return nil, valueError("target %q is the source: a second run would reduce the reduced", v.target)
		}
		if first, twice := targets[v.target]; twice {
			return nil, valueError("variants[%d] and variants[%d] have the same target %q", first, n, v.target)
		}
		targets[v.target] = n
	}
	made := make([]Made, 0, len(j.variants))
	for n, v := range j.variants {
		if err := j.progress(stageResize, n); err != nil {
			return nil, err
		}
		m, err := j.make(ctx, media, p, i, v)
		if err != nil {
			return nil, err
		}
		made = append(made, m)
	}
	return made, nil
}

// wanted checks what the variants come to, and returns the least size, as stored, that the source must be decoded to.
func (j *job) wanted(i info) (size, error) {
	var want size
	for _, v := range j.variants {
		out, crop, err := v.frame.fit(i.upright())
		if err != nil {
			return size{}, err
		}
		if out.pixels() > j.cfg.MaxPixels {
			return size{}, valueError("the thumbnail would have %d x %d = %d pixels, the limit is %d", out.w, out.h, out.pixels(), j.cfg.MaxPixels)
		}
		if v.style.format != formatPNG && max(out.w, out.h) > maxSide {
			return size{}, valueError("the thumbnail would be %d x %d pixels, a JPEG can have %d each way", out.w, out.h, maxSide)
		}
		// The whole source at the scale at which the part that is used has the size of the output.
		u := i.upright()
		whole := size{ceil(float64(u.w) * float64(out.w) / crop.w), ceil(float64(u.h) * float64(out.h) / crop.h)}
		whole = whole.swapped(i.orientation >= 5)
		want.w, want.h = max(want.w, min(whole.w, i.w)), max(want.h, min(whole.h, i.h))
	}
	return want, nil
}

// largest is how many pixels the largest variant has.
func (j *job) largest(i info) (most int64) {
	for _, v := range j.variants {
		out, _, _ := v.frame.fit(i.upright()) // wanted has seen to errors
		most = max(most, out.pixels())
	}
	return most
}

func ceil(f float64) int {
	n := int(f)
	if float64(n) < f {
		n++
	}
	return n
}

func (j *job) make(ctx context.Context, media storage, p *picture, i info, v variant) (Made, error) {
	out, crop, err := v.frame.fit(i.upright())
	if err != nil {
		return Made{}, err
	}
	var to *gamut
	a := attachment{icc: i.icc}
	if v.style.toSRGB && p.model != modelGray {
		if g := gamutOf(i.icc); g != nil { // else it stays as it is, with its profile
			a.icc = nil
			if !g.isSRGB() {
				to = g
			}
		}
	}
	if v.style.keepMetadata {
		a.exif = upright(i.exif)
	}
	s, err := reduce(ctx, p, i, out, crop, v.style.format == formatJPEG && !v.style.full && to == nil)
	if err != nil {
		return Made{}, err
	}
	if to != nil {
		s.toSRGB(to)
	}
	s.sharpen(v.style.sharpen)
	quality := 0
	written, err := media.write(v.target, func(w io.Writer) (err error) {
		quality, err = s.encode(ctx, w, v.style, a)
		return err
	})
	if err != nil {
		return Made{}, err
	}
	return Made{Name: v.target, Width: s.w, Height: s.h, Bytes: written, Format: v.style.format, Quality: quality}, nil
}

// reduce makes of the picture what an encoder wants: upright, out pixels, from the part crop, both of these seen upright
// and in pixels of the source; chroma planes of their own halved or not.
func reduce(ctx context.Context, p *picture, i info, out size, crop box, halve bool) (*scaled, error) {
	flipX, flipY := flips(i.orientation)
	s, err := p.scale(ctx, crop.stored(i.size, i.orientation), out.swapped(i.orientation >= 5), halve, flipX, flipY)
	if err != nil {
		return nil, err
	}
	s.orient(i.orientation)
	return s, nil
}
