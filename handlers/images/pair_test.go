package images

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Two rows narrowed at once are the two rows narrowed one by one, to the bit, at hard edges too.
func TestPairedRowsAreExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		w, n := 1+rnd.IntN(300), 1+rnd.IntN(40)
		rows := [2][]uint8{make([]uint8, w), make([]uint8, w)}
		for x := range w {
			rows[0][x], rows[1][x] = uint8(rnd.IntN(2)*255), uint8(rnd.IntN(256))
		}
		r := resampler{
			p:       plane{w: w, h: 2, channels: 1, row: func(y int, _ []uint8) []uint8 { return rows[y] }},
			kx:      newKernel(axisOf(w, 1, 1, w), float64(rnd.IntN(5)-2), float64(w), n),
			scratch: make([]uint8, w),
		}
		p := newPair(&r, n)
		for y := range 2 {
			want := make([]int32, n)
			narrow1(&r.kx, rows[y], want)
			if got := p.row(y, 2); !slices.Equal(got, want) {
				t.Fatalf("row %d of %d samples to %d: %v, want %v", y, w, n, got, want)
			}
		}
	}
}
