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
	wants, err := j.wanted(i)
	if err != nil {
		return nil, err
	}
	groups := j.groups(i)
	if err := handlers.Reserve(ctx, j.footprint(i, data, wants, groups)); err != nil {
		return nil, err
	}
	if err := j.progress(stageDecode, 0); err != nil {
		return nil, err
	}
	p, err := decode(ctx, j.source, data, i, wants...)
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
	for _, group := range groups {
		if err := j.progress(stageResize, len(made)); err != nil {
			return nil, err
		}
		if group[0].style.all {
			m, err := j.animate(ctx, media, data, i, group[0])
			if err != nil {
				return nil, err
			}
			made = append(made, m)
			continue
		}
		finishes := make([]finish, len(group))
		orders := make([]order, len(group))
		for n, v := range group {
			if finishes[n], orders[n], err = plan(v, p, i); err != nil {
				return nil, err
			}
		}
		reduced, err := reduceAll(ctx, p, i, orders)
		if err != nil {
			return nil, err
		}
		for n, s := range reduced {
			if n > 0 {
				if err := j.progress(stageResize, len(made)); err != nil {
					return nil, err
				}
			}
			m, err := finishes[n].write(ctx, media, s, group[n])
			if err != nil {
				return nil, err
			}
			made = append(made, m)
		}
	}
	return made, nil
}

// groupPixels is how many pixels are made in one pass over the source. What is made in one pass is kept until it is written.
const groupPixels = 8 << 20

// groups are the variants, in order, as they are made together: each animation by itself.
func (j *job) groups(i info) (groups [][]variant) {
	first, pixels := 0, int64(0)
	for n, v := range j.variants {
		out, _, _ := v.frame.fit(i.upright()) // wanted has seen to errors
		if n > first && (pixels+out.pixels() > groupPixels || v.style.all || j.variants[first].style.all) {
			groups = append(groups, j.variants[first:n])
			first, pixels = n, 0
		}
		pixels += out.pixels()
	}
	return append(groups, j.variants[first:])
}

// footprint is about how many bytes of memory the job takes, its source's file included.
func (j *job) footprint(i info, data []byte, wants []size, groups [][]variant) int64 {
	var most int64
	for _, group := range groups {
		var made int64
		for _, v := range group {
			out, _, _ := v.frame.fit(i.upright())
			made += out.pixels()
		}
		if group[0].style.all {
			if a, err := scanAnimation(data); err == nil { // the frames as they come, and what is made of all of them
				made = made*int64(len(a.frames)+8)/8 + i.pixels()
			}
		}
		most = max(most, 8*made+int64(len(group)-1)*i.filterRows())
	}
	return i.footprint(len(data), wants, 0) + most
}

// wanted checks what the variants come to, and returns for each the size of the whole source, as stored, at the scale of what is made.
func (j *job) wanted(i info) (wants []size, err error) {
	for _, v := range j.variants {
		out, crop, err := v.frame.fit(i.upright())
		if err != nil {
			return nil, err
		}
		if out.pixels() > j.cfg.MaxPixels {
			return nil, valueError("the thumbnail would have %d x %d = %d pixels, the limit is %d", out.w, out.h, out.pixels(), j.cfg.MaxPixels)
		}
		if v.style.format != formatPNG && max(out.w, out.h) > maxSide {
			return nil, valueError("the thumbnail would be %d x %d pixels, a JPEG can have %d each way", out.w, out.h, maxSide)
		}
		// The whole source at the scale at which the part that is used has the size of the output.
		u := i.upright()
		whole := size{ceil(float64(u.w) * float64(out.w) / crop.w), ceil(float64(u.h) * float64(out.h) / crop.h)}
		whole = whole.swapped(i.orientation >= 5)
		wants = append(wants, size{min(whole.w, i.w), min(whole.h, i.h)})
	}
	return wants, nil
}

func ceil(f float64) int {
	n := int(f)
	if float64(n) < f {
		n++
	}
	return n
}

// A finish is what is done to a variant once it is reduced.
type finish struct {
	to *gamut // nil: its colours stay as they are
	attachment
}

// plan settles how a variant is made of the picture.
func plan(v variant, p *picture, i info) (f finish, o order, err error) {
	if o.out, o.crop, err = v.frame.fit(i.upright()); err != nil {
		return f, o, err
	}
	f.icc = i.icc
	if v.style.toSRGB && p.model != modelGray {
		if g := gamutOf(i.icc); g != nil { // else it stays as it is, with its profile
			f.icc = nil
			if !g.isSRGB() {
				f.to = g
			}
		}
	}
	if v.style.keepMetadata {
		f.exif = upright(i.exif)
	}
	o.halve = v.style.format == formatJPEG && !v.style.full && f.to == nil
	return f, o, nil
}

func (f *finish) write(ctx context.Context, media storage, s *scaled, v variant) (Made, error) {
	if f.to != nil {
		s.toSRGB(f.to)
	}
	s.sharpen(v.style.sharpen)
	quality := 0
	written, err := media.write(v.target, func(w io.Writer) (err error) {
		quality, err = s.encode(ctx, w, v.style, f.attachment)
		return err
	})
	if err != nil {
		return Made{}, err
	}
	return Made{Name: v.target, Width: s.w, Height: s.h, Bytes: written, Format: v.style.format, Quality: quality}, nil
}

// An order is one picture an encoder wants: upright, out pixels, from the part crop, both of these seen upright
// and in pixels of the source; chroma planes of their own halved or not.
type order struct {
	out   size
	crop  box
	halve bool
}

// reduceAll makes all that is ordered of the picture, in one pass.
func reduceAll(ctx context.Context, p *picture, i info, orders []order) ([]*scaled, error) {
	flipX, flipY := flips(i.orientation)
	wants := make([]want, len(orders))
	for n, o := range orders {
		wants[n] = want{o.out.swapped(i.orientation >= 5), o.crop.stored(i.size, i.orientation), o.halve, flipX, flipY}
	}
	made, err := p.scale(ctx, wants)
	if err != nil {
		return nil, err
	}
	for _, s := range made {
		s.orient(i.orientation)
	}
	return made, nil
}
