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
	if err := handlers.Reserve(ctx, i.footprint(len(data), j.largest(i))); err != nil {
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
		out, crop := fit(v.fit, i.upright(), v.size)
		if out.pixels() > j.cfg.MaxPixels {
			return size{}, valueError("the thumbnail would have %d x %d = %d pixels, the limit is %d", out.w, out.h, out.pixels(), j.cfg.MaxPixels)
		}
		if v.format != formatPNG && max(out.w, out.h) > maxSide {
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
		out, _ := fit(v.fit, i.upright(), v.size)
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
	out, crop := fit(v.fit, i.upright(), v.size)
	s, err := reduce(ctx, p, i, out, crop, v.format)
	if err != nil {
		return Made{}, err
	}
	written, err := media.write(v.target, func(w io.Writer) error {
		return s.encode(ctx, w, v.format, v.quality, i.icc)
	})
	if err != nil {
		return Made{}, err
	}
	return Made{Name: v.target, Width: s.w, Height: s.h, Bytes: written, Format: v.format}, nil
}

// reduce makes of the picture what an encoder for format wants: upright, out pixels, from the part crop, both
// of these seen upright and in pixels of the source.
func reduce(ctx context.Context, p *picture, i info, out size, crop box, format string) (*scaled, error) {
	if i.orientation >= 5 { // crops are centred, so turning them is all there is to it
		out = out.swapped(true)
		crop = box{crop.y, crop.x, crop.h, crop.w}
	}
	flipX, flipY := flips(i.orientation)
	s, err := p.scale(ctx, crop, out, format == formatJPEG, flipX, flipY)
	if err != nil {
		return nil, err
	}
	s.orient(i.orientation)
	return s, nil
}
