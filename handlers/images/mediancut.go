package images

import (
	"image/color"
	"slices"
)

// A bin is the pixels whose colours share the upper 5 bits of each channel.
type bin struct {
	sum [3]uint64
	n   uint64
}

func binOf(r, g, b uint8) int { return int(r>>3)<<10 | int(g>>3)<<5 | int(b>>3) }

func (b *bin) add(r, g, bl uint8) {
	b.sum[0], b.sum[1], b.sum[2], b.n = b.sum[0]+uint64(r), b.sum[1]+uint64(g), b.sum[2]+uint64(bl), b.n+1
}

// mean is in sixteenths.
func (b *bin) mean(channel int) int { return int(16 * b.sum[channel] / b.n) }

// cut finds 255 colours for the bins by a median cut, in near the nearest of them for each bin that has pixels. The part to be cut is always the one whose
// colours are farthest apart for the pixels it has, along its longest side.
func cut(bins *[1 << 15]bin, near *[1 << 15]uint8) color.Palette {
	type part struct {
		bins    []int
		channel int
		weight  float64
	}
	measured := func(list []int) part {
		p := part{bins: list}
		pixels, widest := 0.0, -1
		for _, i := range list {
			pixels += float64(bins[i].n)
		}
		for c := range 3 {
			low, high := 1<<30, 0
			for _, i := range list {
				v := bins[i].mean(c)
				low, high = min(low, v), max(high, v)
			}
			if high-low > widest {
				widest, p.channel = high-low, c
			}
		}
		p.weight = float64(widest) * float64(widest) * pixels
		if len(list) == 1 {
			p.weight = 0
		}
		return p
	}
	var all []int
	for i := range bins {
		if bins[i].n > 0 {
			all = append(all, i)
		}
	}
	parts := []part{measured(all)}
	for len(parts) < 255 {
		most := 0
		for i := range parts {
			if parts[i].weight > parts[most].weight {
				most = i
			}
		}
		p := parts[most]
		if p.weight == 0 {
			break
		}
		slices.SortFunc(p.bins, func(a, b int) int { return bins[a].mean(p.channel) - bins[b].mean(p.channel) })
		half, pixels := 0, uint64(0)
		for _, i := range p.bins {
			pixels += bins[i].n
		}
		for run := uint64(0); half < len(p.bins)-1 && (half == 0 || 2*(run+bins[p.bins[half]].n) <= pixels); half++ {
			run += bins[p.bins[half]].n
		}
		parts[most] = measured(p.bins[:half])
		parts = append(parts, measured(p.bins[half:]))
	}
	colours := make([][3]int, len(parts))
	palette := make(color.Palette, len(parts))
	for n, p := range parts {
		var sum bin
		for _, i := range p.bins {
			b := &bins[i]
			sum.sum[0], sum.sum[1], sum.sum[2], sum.n = sum.sum[0]+b.sum[0], sum.sum[1]+b.sum[1], sum.sum[2]+b.sum[2], sum.n+b.n
		}
		colours[n] = [3]int{sum.mean(0), sum.mean(1), sum.mean(2)}
		palette[n] = color.RGBA{uint8((colours[n][0] + 8) / 16), uint8((colours[n][1] + 8) / 16), uint8((colours[n][2] + 8) / 16), 255}
	}
	for _, i := range all {
		r, g, b := bins[i].mean(0), bins[i].mean(1), bins[i].mean(2)
		least := 1 << 40
		for n, c := range colours {
			if d := (c[0]-r)*(c[0]-r)*2 + (c[1]-g)*(c[1]-g)*4 + (c[2]-b)*(c[2]-b); d < least {
				least, near[i] = d, uint8(n)
			}
		}
	}
	return palette
}
