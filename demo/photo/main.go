// Command photo draws the photograph of `make demo`, and checks the thumbnail made of it.
//
//	photo make FILE [W H]                a JPEG of 12 megapixels or the size, the same every time
//	photo check SOURCE THUMBNAIL W H     exit code 1 and a line that says why, if it is not right
package main

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	_ "image/png" // a thumbnail may be one
	"os"
	"strconv"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "photo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "make":
		return drawPhoto(args[1], 4000, 3000)
	case len(args) == 4 && args[0] == "make":
		w, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		h, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return drawPhoto(args[1], w, h)
	case len(args) == 5 && args[0] == "check":
		w, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		h, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		return check(args[1], args[2], w, h)
	}
	return errors.New("usage: photo make FILE [WIDTH HEIGHT] | photo check SOURCE THUMBNAIL WIDTH HEIGHT")
}

func drawPhoto(name string, w, h int) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := bufio.NewWriter(f)
	if err := jpeg.Encode(b, sampleimage.New(w, h, 7), &jpeg.Options{Quality: 90}); err != nil {
		return err
	}
	return b.Flush()
}

// check compares the thumbnail with the source in a grid of cells: their average colours must agree, so one
// that is empty, cut, turned or of another picture is told.
func check(source, thumbnail string, w, h int) error {
	big, err := load(source)
	if err != nil {
		return err
	}
	small, err := load(thumbnail)
	if err != nil {
		return err
	}
	if got := small.Bounds().Size(); got != image.Pt(w, h) {
		return fmt.Errorf("the thumbnail is %v, want %dx%d", got, w, h)
	}
	const cells, most = 8, 6
	for y := range cells {
		for x := range cells {
			a, b := average(big, x, y, cells), average(small, x, y, cells)
			for i, channel := range []string{"red", "green", "blue"} {
				if d := a[i] - b[i]; d > most || d < -most {
					return fmt.Errorf("the thumbnail does not look like the photo: cell %d,%d has %s %.0f, want %.0f", x, y, channel, b[i], a[i])
				}
			}
		}
	}
	return nil
}

func load(name string) (image.Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// average is the mean colour of one cell, 0 to 255, from a sample of its pixels.
func average(m image.Image, x, y, cells int) [3]float64 {
	size := m.Bounds().Size()
	r := image.Rect(x*size.X/cells, y*size.Y/cells, (x+1)*size.X/cells, (y+1)*size.Y/cells).Add(m.Bounds().Min)
	step := max(1, r.Dx()/40)
	var sum [3]float64
	n := 0.0
	for py := r.Min.Y; py < r.Max.Y; py += step {
		for px := r.Min.X; px < r.Max.X; px += step {
			red, green, blue, _ := m.At(px, py).RGBA()
			sum[0] += float64(red >> 8)
			sum[1] += float64(green >> 8)
			sum[2] += float64(blue >> 8)
			n++
		}
	}
	for i := range sum {
		sum[i] /= n
	}
	return sum
}
