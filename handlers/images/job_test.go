package images

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

// A decoder may return the picture reduced: what is cut and how it is turned stays the same.
func TestReducedDecodeGivesTheSameThumbnail(t *testing.T) {
	p := newPicture(sampleimage.New(200, 120, 3))
	q := *p // the same samples, as an eighth of the file's own size
	q.size = size{1600, 960}
	q.planes = slices.Clone(p.planes)
	for i := range q.planes {
		q.planes[i].perX *= 8
		q.planes[i].perY *= 8
	}
	for o := 1; o <= 8; o++ {
		i := info{size: p.size, format: formatJPEG, metadata: metadata{orientation: o}}
		large := i
		large.size = q.size
		for _, how := range []string{fitInside, fitCover, fitFill} {
			out, crop := fit(how, i.upright(), size{30, 40})
			outLarge, cropLarge := fit(how, large.upright(), size{30, 40})
			a, err := reduce(t.Context(), p, i, out, crop, true)
			if err != nil {
				t.Fatal(err)
			}
			b, err := reduce(t.Context(), &q, large, outLarge, cropLarge, true)
			if err != nil {
				t.Fatal(err)
			}
			if a.size != b.size || !bytes.Equal(a.pix[0], b.pix[0]) || !bytes.Equal(a.pix[1], b.pix[1]) {
				t.Errorf("orientation %d, %s: the thumbnails differ", o, how)
			}
		}
	}
}

// What a decoder is asked for: the whole picture at the scale of each variant.
func TestWantedIsTheScaleOfEachVariant(t *testing.T) {
	for _, tt := range []struct {
		orientation int
		variants    []variant
		want        []size
	}{
		{1, []variant{asked(fitInside, 256, 256)}, []size{{256, 192}}},
		{6, []variant{asked(fitInside, 256, 256)}, []size{{256, 192}}},
		{1, []variant{asked(fitCover, 300, 300)}, []size{{400, 300}}},
		{6, []variant{asked(fitCover, 300, 300)}, []size{{400, 300}}},
		{1, []variant{asked(fitFill, 10, 300), asked(fitFill, 50, 5)}, []size{{10, 300}, {50, 5}}},
		{1, []variant{asked(fitFill, 9000, 9000)}, []size{{4000, 3000}}},
	} {
		j := job{cfg: testConfig(""), variants: tt.variants}
		got, err := j.wanted(info{size: size{4000, 3000}, metadata: metadata{orientation: tt.orientation}})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("orientation %d, %+v: %v, %v, want %v", tt.orientation, tt.variants, got, err, tt.want)
		}
	}
}
