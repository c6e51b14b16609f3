package jpegwrite

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// sample is that of pyfixtures/jpegwrite.py.
func sample(plane, x, y int) uint8 {
	fold := (x*(3+plane)+y*5)%256 - 128
	if fold < 0 {
		fold = -fold
	}
	speck := (x*7919 + y*104729 + plane*31 + x*y*13) % 37
	return uint8(min(255, (x*2+y)%90+fold+speck*(1+(x/16+y/16)%3)))
}

func drawn(mode string, w, h int) (Picture, bool) {
	p := Picture{W: w, H: h}
	sampling, known := map[string]Sampling{"grey": S444, "444": S444, "422": S422, "420": S420}[mode]
	p.Sampling = sampling
	draw := func(plane, square, stepX, stepY int) {
		var pl Plane
		pl.Stride = ceilDiv(w, stepX)
		for y := 0; y < h; y += stepY {
			for x := 0; x < w; x += stepX {
				pl.Pix = append(pl.Pix, sample(plane, x/square*square, y/square*square))
			}
		}
		p.Planes = append(p.Planes, pl)
	}
	draw(0, 1, 1, 1)
	if mode != "grey" {
		square := 2
		if mode == "444" {
			square = 1
		}
		draw(1, square, w0(sampling), h0(sampling))
		draw(2, square, w0(sampling), h0(sampling))
	}
	return p, known
}

// What we write is byte for byte what libjpeg writes of the same planes with optimize on.
func TestFilesAreThoseOfLibjpeg(t *testing.T) {
	data, err := os.ReadFile("testdata/libjpeg.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases [][7]any `json:"cases"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 400 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	for _, c := range file.Cases {
		mode, w, h, quality := c[0].(string), int(c[1].(float64)), int(c[2].(float64)), int(c[3].(float64))
		progressive, size, want := c[4].(float64) == 1, int(c[5].(float64)), c[6].(string)
		p, known := drawn(mode, w, h)
		if !known {
			t.Fatalf("mode %q", mode)
		}
		got := encoded(t, p, Options{Quality: quality, Progressive: progressive})
		sum := sha256.Sum256(got)
		if hex.EncodeToString(sum[:])[:16] != want {
			t.Errorf("%s: %d bytes that differ from libjpeg's %d", fmt.Sprint(c[:5]...), len(got), size)
		}
	}
}
