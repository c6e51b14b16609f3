package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"io"
)

// maxFrames is how many frames an animation may have: with fewer pixels each than a thumbnail has, millions would fit into a file.
const maxFrames = 2000

// An animation is what a GIF says of its frames; no pixel has been decoded.
type animation struct {
	head   []byte // of the file, with the palette of all frames
	frames []animationFrame
	loops  int // as image/gif counts them: -1 once, 0 for ever
}

// An animationFrame is one picture of a GIF where it lies in the file.
type animationFrame struct {
	control  []byte // the block before it that says how it is shown, or nil
	data     []byte
	delay    int // hundredths of a second
	disposal byte
}

// scanAnimation walks the blocks of a GIF:
//
//	header(6) width(2) height(2) flags background aspect [palette]
//	21 F9 04 flags delay(2) transparent 00
//	21 label {n data(n)}... 00
//	2C left(2) top(2) width(2) height(2) flags [palette] codes {n data(n)}... 00
//	3B
func scanAnimation(data []byte) (animation, error) {
	a := animation{loops: -1}
	at := 13
	if len(data) < at {
		return a, io.ErrUnexpectedEOF
	}
	palette := func(flags byte) int {
		if flags&0x80 == 0 {
			return 0
		}
		return 3 << (flags&7 + 1)
	}
	at += palette(data[10])
	if at > len(data) {
		return a, io.ErrUnexpectedEOF
	}
	a.head = data[:at]
	// blocks returns where the blocks of data from p on end, -1: not in the file.
	blocks := func(p int) int {
		for p < len(data) {
			n := int(data[p])
			p += 1 + n
			if n == 0 && p <= len(data) {
				return p
			}
		}
		return -1
	}
	var f animationFrame
	for at < len(data) {
		switch data[at] {
		case 0x3b:
			return a, nil
		case 0x21:
			end := -1
			if at+2 < len(data) {
				end = blocks(at + 2)
			}
			if end < 0 {
				return a, io.ErrUnexpectedEOF
			}
			body := data[at+2 : end]
			switch {
			case data[at+1] == 0xf9 && len(body) == 6:
				f.control = data[at:end]
				f.disposal = body[1] >> 2 & 7
				f.delay = int(binary.LittleEndian.Uint16(body[2:]))
			case data[at+1] == 0xff && len(body) >= 16 && string(body[1:12]) == "NETSCAPE2.0" && body[12] == 3 && body[13] == 1:
				a.loops = int(binary.LittleEndian.Uint16(body[14:]))
			}
			at = end
		case 0x2c:
			if at+10 > len(data) {
				return a, io.ErrUnexpectedEOF
			}
			end := blocks(at + 10 + palette(data[at+9]) + 1)
			if end < 0 {
				return a, io.ErrUnexpectedEOF
			}
			f.data = data[at:end]
			a.frames = append(a.frames, f)
			if len(a.frames) > maxFrames {
				return a, fmt.Errorf("it has more than %d frames", maxFrames)
			}
			f, at = animationFrame{}, end
		default:
			return a, fmt.Errorf("there is no block 0x%02x in a GIF", data[at])
		}
	}
	return a, io.ErrUnexpectedEOF
}

// decode decodes one frame, by itself.
func (a *animation) decode(ctx context.Context, f animationFrame) (*image.Paletted, error) {
	alone := io.MultiReader(bytes.NewReader(a.head), bytes.NewReader(f.control), &interruptible{ctx, bytes.NewReader(f.data)}, bytes.NewReader([]byte{0x3b}))
	m, err := gif.Decode(alone)
	if err != nil {
		return nil, err
	}
	return m.(*image.Paletted), nil
}

// play puts the frames together, and has each shown to see: as it is seen, colours multiplied by alpha, valid until the next.
func (a *animation) play(ctx context.Context, name string, s size, see func(n int, canvas *image.RGBA) error) error {
	canvas := image.NewRGBA(image.Rect(0, 0, s.w, s.h))
	var before []uint8
	for n, f := range a.frames {
		m, err := a.decode(ctx, f)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return damaged(name, formatGIF, err)
		}
		b := m.Rect
		if f.disposal == gif.DisposalPrevious {
			before = append(before[:0], canvas.Pix...)
		}
		var table [256][4]uint8
		for i, c := range m.Palette[:min(len(m.Palette), 256)] {
			r, g, b, a := c.RGBA()
			table[i] = [4]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), uint8(a >> 8)}
		}
		for y := b.Min.Y; y < b.Max.Y; y++ {
			row := canvas.Pix[canvas.PixOffset(b.Min.X, y):]
			for x, index := range m.Pix[(y-b.Min.Y)*m.Stride:][:b.Dx()] {
				if c := &table[index]; c[3] != 0 {
					copy(row[4*x:4*x+4], c[:])
				}
			}
		}
		if err := see(n, canvas); err != nil {
			return err
		}
		switch f.disposal {
		case gif.DisposalBackground: // which every viewer takes for nothing at all
			for y := b.Min.Y; y < b.Max.Y; y++ {
				clear(canvas.Pix[canvas.PixOffset(b.Min.X, y):][:4*b.Dx()])
			}
		case gif.DisposalPrevious:
			copy(canvas.Pix, before)
		}
	}
	return nil
}

// animate makes the thumbnail of all frames of a GIF.
func (j *job) animate(ctx context.Context, media storage, data []byte, i info, v variant) (Made, error) {
	out, crop, err := v.frame.fit(i.upright())
	if err != nil {
		return Made{}, err
	}
	a, err := j.animation(data, i, out)
	if err != nil {
		return Made{}, err
	}
	g := gif.GIF{LoopCount: a.loops, Config: image.Config{Width: out.w, Height: out.h}}
	err = a.play(ctx, j.source, i.size, func(n int, canvas *image.RGBA) error {
		p := &picture{size: i.size, model: modelRGBA, planes: []plane{{
			w: i.w, h: i.h, channels: 4, perX: 1, perY: 1,
			row: func(y int, _ []uint8) []uint8 { return canvas.Pix[y*canvas.Stride:][:canvas.Stride] },
		}}}
		made, err := reduceAll(ctx, p, i, []order{{out, crop, false}})
		if err != nil {
			return err
		}
		made[0].sharpen(v.style.sharpen)
		m := paletted(made[0])
		g.Image, g.Delay = append(g.Image, m), append(g.Delay, a.frames[n].delay)
		g.Disposal = append(g.Disposal, gif.DisposalNone)
		if _, _, _, alpha := m.Palette[len(m.Palette)-1].RGBA(); n > 0 && alpha == 0 {
			g.Disposal[n-1] = gif.DisposalBackground // else what was there would be seen through this one
		}
		return nil
	})
	if err != nil {
		return Made{}, err
	}
	if last := len(g.Disposal) - 1; last > 0 { // and when it starts again, through the first
		g.Disposal[last] = gif.DisposalBackground
	}
	written, err := media.write(v.target, func(w io.Writer) error { return gif.EncodeAll(&watched{ctx, w}, &g) })
	if err != nil {
		return Made{}, err
	}
	return Made{Name: v.target, Width: out.w, Height: out.h, Bytes: written, Format: formatGIF, Frames: len(g.Image)}, nil
}

// animation scans the source, and refuses what would be too much: each frame counts as the whole picture, as it is seen.
func (j *job) animation(data []byte, i info, out size) (animation, error) {
	if i.format != formatGIF {
		return animation{}, valueError("%q is no GIF: frames='all' is for animations", j.source)
	}
	a, err := scanAnimation(data)
	switch {
	case err != nil:
		return a, damaged(j.source, formatGIF, err)
	case len(a.frames) == 0:
		return a, valueError("%q is damaged: it has no frames", j.source)
	}
	if pixels := int64(len(a.frames)) * max(i.pixels(), out.pixels()); pixels > j.cfg.MaxPixels {
		return a, valueError("%q has %d frames, %d pixels in all, the limit is %d", j.source, len(a.frames), pixels, j.cfg.MaxPixels)
	}
	return a, nil
}

// paletted finds the best 256 colours for a thumbnail: its own, if it has no more; else those of a median cut. What is more than half transparent is
// transparent, by the last colour, which is there only then.
func paletted(s *scaled) *image.Paletted {
	px := func(i int) (r, g, b, a uint8) {
		switch s.model {
		case modelRGBA:
			p := s.pix[0][4*i:][:4]
			return divided(p[0], p[3]), divided(p[1], p[3]), divided(p[2], p[3]), p[3]
		case modelRGB:
			p := s.pix[0][3*i:][:3]
			return p[0], p[1], p[2], 255
		}
		v := s.pix[0][i]
		return v, v, v, 255
	}
	n := s.w * s.h
	own := map[[3]uint8]uint8{}
	var bins [1 << 15]bin
	clear, many := false, false
	for i := range n {
		r, g, b, a := px(i)
		if a < 128 {
			clear = true
			continue
		}
		if key := ([3]uint8{r, g, b}); !many {
			if _, ok := own[key]; !ok {
				if many = len(own) == 255; !many {
					own[key] = uint8(len(own))
				}
			}
		}
		bins[binOf(r, g, b)].add(r, g, b)
	}
	m := image.NewPaletted(image.Rect(0, 0, s.w, s.h), nil)
	var index func(r, g, b uint8) uint8
	if many {
		var near [1 << 15]uint8
		m.Palette = cut(&bins, &near)
		index = func(r, g, b uint8) uint8 { return near[binOf(r, g, b)] }
	} else {
		m.Palette = make(color.Palette, len(own))
		for c, i := range own {
			m.Palette[i] = color.RGBA{c[0], c[1], c[2], 255}
		}
		index = func(r, g, b uint8) uint8 { return own[[3]uint8{r, g, b}] }
	}
	none := uint8(len(m.Palette))
	if clear || none == 0 {
		m.Palette = append(m.Palette, color.RGBA{})
	}
	for i := range n {
		if r, g, b, a := px(i); a >= 128 {
			m.Pix[i] = index(r, g, b)
		} else {
			m.Pix[i] = none
		}
	}
	return m
}
