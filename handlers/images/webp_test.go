package images

import (
	"os"
	"path/filepath"
	"testing"
)

// A lossy WebP that is much reduced is not smoothed first, and nobody sees it.
func TestRoughWebPIsSmoothOnceReduced(t *testing.T) {
	t.Parallel()
	files := []string{"testdata/lossy.webp", "testdata/alpha.webp"}
	if more := os.Getenv("WEBP_FOLDER"); more != "" {
		found, _ := filepath.Glob(filepath.Join(more, "*.webp"))
		files = append(files, found...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		i, err := probe(file, data, DefaultMaxPixels)
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []int{roughFrom, 2 * roughFrom} {
			to := size{i.w / by, i.h / by}
			crop := box{0, 0, float64(i.w), float64(i.h)}
			made := func(least size) []uint8 {
				p, err := webpPicture(t.Context(), data, i, least)
				if err != nil || p == nil {
					t.Fatal(p, err)
				}
				s, err := p.scale(t.Context(), []want{{out: to, crop: crop}})
				if err != nil {
					t.Fatal(err)
				}
				return s[0].pix[0]
			}
			rough, smooth := made(to), made(i.size)
			psnr := decibels(smooth, rough)
			t.Logf("%s by %d: %.1f dB", file, by, psnr)
			if psnr < 50 {
				t.Errorf("%s by %d: %.1f dB", file, by, psnr)
			}
		}
	}
}
