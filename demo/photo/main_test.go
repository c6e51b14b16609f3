package main

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

func TestOnlyTheRightThumbnailPasses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	save := func(name string, m image.Image) string {
		t.Helper()
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, m); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	photo := sampleimage.New(400, 300, 7)
	source := save("source.png", photo)
	right := image.NewRGBA(image.Rect(0, 0, 64, 48))
	draw.CatmullRom.Scale(right, right.Bounds(), photo, photo.Bounds(), draw.Src, nil)
	turned := image.NewRGBA(right.Bounds())
	for y := range 48 {
		for x := range 64 {
			turned.Set(63-x, 47-y, right.At(x, y))
		}
	}
	cut := image.NewRGBA(right.Bounds())
	draw.CatmullRom.Scale(cut, cut.Bounds(), photo, image.Rect(0, 0, 300, 225), draw.Src, nil)

	for _, tt := range []struct {
		name  string
		image image.Image
		width int
		ok    bool
	}{
		{"the right one", right, 64, true},
		{"of another size", right, 65, false},
		{"turned", turned, 64, false},
		{"cut", cut, 64, false},
		{"empty", image.NewRGBA(right.Bounds()), 64, false},
	} {
		if err := check(source, save("thumb.png", tt.image), tt.width, 48); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}
