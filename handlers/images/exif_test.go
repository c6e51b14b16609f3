package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

// tiff is the smallest EXIF block with one entry.
func tiff(order binary.ByteOrder, tag, kind uint16, count, value uint32) []byte {
	b := []byte("II*\x00\x08\x00\x00\x00\x01\x00")
	if order == binary.BigEndian {
		b = []byte("MM\x00*\x00\x00\x00\x08\x00\x01")
	}
	entry := make([]byte, 12)
	order.PutUint16(entry, tag)
	order.PutUint16(entry[2:], kind)
	order.PutUint32(entry[4:], count)
	if kind == 3 {
		order.PutUint16(entry[8:], uint16(value))
	} else {
		order.PutUint32(entry[8:], value)
	}
	return append(b, entry...)
}

func TestOrientationTag(t *testing.T) {
	good := tiff(binary.LittleEndian, 0x112, 3, 1, 6)
	for _, tt := range []struct {
		name string
		tiff []byte
		want int
	}{
		{"little endian", good, 6},
		{"big endian", tiff(binary.BigEndian, 0x112, 3, 1, 8), 8},
		{"as long", tiff(binary.BigEndian, 0x112, 4, 1, 3), 3},
		{"nine", tiff(binary.LittleEndian, 0x112, 3, 1, 9), 0},
		{"nought", tiff(binary.LittleEndian, 0x112, 3, 1, 0), 0},
		{"another tag", tiff(binary.LittleEndian, 0x113, 3, 1, 6), 0},
		{"two values", tiff(binary.LittleEndian, 0x112, 3, 2, 6), 0},
		{"text", tiff(binary.LittleEndian, 0x112, 2, 1, 6), 0},
		{"cut", good[:len(good)-1], 0},
		{"directory beyond the end", append([]byte("II*\x00\xff\xff\xff\xff"), good[8:]...), 0},
		{"nothing", nil, 0},
	} {
		if got := orientation(tt.tiff); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A profile of the right colour model goes from source to thumbnail, whichever the formats.
func TestColourProfileIsKept(t *testing.T) {
	profile := make([]byte, 150_000) // three segments of a JPEG
	for i := range profile {
		profile[i] = byte(i * i >> 5)
	}
	copy(profile[16:], "RGB ")
	root := t.TempDir()
	photo, picture := jpegOf(t, sampleimage.New(90, 61, 1)), pngOf(t, sampleimage.New(90, 61, 1))
	put(t, root, "a.jpg", bytes.Join([][]byte{photo[:2], jpegProfile(profile), photo[2:]}, nil))
	put(t, root, "b.png", bytes.Join([][]byte{picture[:33], pngProfile(profile), picture[33:]}, nil))
	for _, source := range []string{"a.jpg", "b.png"} {
		for _, format := range []string{formatJPEG, formatPNG} {
			a := defaults(source)
			a.Format = &format
			made, err := testConfig(root).thumbnail(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			load(t, root, made.Name) // still a picture
			data, err := os.ReadFile(filepath.Join(root, made.Name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readMetadata(format, data).icc, profile) {
				t.Errorf("%s as %s: the profile is lost or changed", source, format)
			}
		}
	}
	copy(profile[16:], "CMYK")
	if fitting(profile, modelRGB) != nil {
		t.Error("a CMYK profile was kept for RGB")
	}
}

// Halved chroma lies right under luma after turning, also when a side is odd.
func TestHalvedChromaStaysUnderLumaWhenTurned(t *testing.T) {
	m := image.NewYCbCr(image.Rect(0, 0, 203, 203), image.YCbCrSubsampleRatio420)
	for y := range 102 {
		for x := range 102 {
			m.Cb[y*m.CStride+x], m.Cr[y*m.CStride+x] = uint8(2*x+20), uint8(2*y+20)
		}
	}
	p := newPicture(m)
	for o := 1; o <= 8; o++ {
		for _, out := range []size{{17, 13}, {16, 13}, {13, 16}} {
			i := info{size: p.size, metadata: metadata{orientation: o}}
			crop := box{0, 0, 203, 203}
			full, err := reduce(t.Context(), p, i, out, crop, false)
			if err != nil {
				t.Fatal(err)
			}
			half, err := reduce(t.Context(), p, i, out, crop, true)
			if err != nil {
				t.Fatal(err)
			}
			if full.size != out || half.size != out || half.sizes[1] != (size{(out.w + 1) / 2, (out.h + 1) / 2}) {
				t.Fatalf("sizes %v %v, want %v", full.size, half.sizes, out)
			}
			for plane := 1; plane <= 2; plane++ {
				for y := range out.h / 2 {
					for x := range out.w / 2 {
						sum := 0
						for _, at := range []int{2*y*out.w + 2*x, 2*y*out.w + 2*x + 1, (2*y+1)*out.w + 2*x, (2*y+1)*out.w + 2*x + 1} {
							sum += int(full.pix[plane][at])
						}
						got := int(half.pix[plane][y*half.sizes[plane].w+x])
						if d := got - (sum+2)/4; d < -2 || d > 2 {
							t.Fatalf("orientation %d, %v, plane %d at %d,%d: %d, under its luma %d", o, out, plane, x, y, got, (sum+2)/4)
						}
					}
				}
			}
		}
	}
}

func FuzzMetadata(f *testing.F) {
	seed(f)
	f.Add(tiff(binary.BigEndian, 0x112, 3, 1, 6))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o := orientation(data); o < 0 || o > 8 {
			t.Errorf("orientation %d", o)
		}
		for _, format := range []string{formatJPEG, formatPNG, formatGIF, formatWebP} {
			if m := readMetadata(format, data); m.orientation < 1 || m.orientation > 8 || len(m.icc) > maxProfile {
				t.Errorf("%s: orientation %d, profile of %d bytes", format, m.orientation, len(m.icc))
			}
		}
	})
}

// FuzzDecode makes a thumbnail of anything: an error or a picture of the right size, in bounded time.
func FuzzDecode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := probe("x", data, 1<<18)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		out, crop := fit(fitCover, i.upright(), size{9, 5})
		p, err := decode(ctx, "x", data, i, size{9, 5})
		if err != nil {
			if ctx.Err() != nil {
				t.Error("ten seconds")
			}
			return
		}
		s, err := reduce(ctx, p, i, out, crop, true)
		if err != nil || s.size != out {
			t.Errorf("%v, %v", s, err)
			return
		}
		for _, format := range []string{formatJPEG, formatPNG} {
			if _, err := s.encode(ctx, &bytes.Buffer{}, style{format: format, quality: 85}, attachment{icc: i.icc, exif: i.exif}); err != nil {
				t.Error(err)
			}
		}
	})
}

func seed(f *testing.F) {
	for _, name := range []string{
		"o1.jpg", "o6.jpg", "o6.png", "o6.webp", "tiny_17x9.png", "palette.png", "deep.png", "alpha.webp", "still.gif", "lossless.webp", "gray.jpg", "cmyk.jpg",
	} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// A file full of compressed profiles costs no more than one of them.
func TestOnlyTheFirstProfileIsInflated(t *testing.T) {
	good := make([]byte, 200)
	copy(good[16:], "RGB ")
	picture := pngOf(t, sampleimage.New(8, 8, 1))
	bomb := pngProfile(make([]byte, maxProfile))
	data := bytes.Join([][]byte{picture[:33], pngProfile(good), bytes.Repeat(bomb, 2000), picture[33:]}, nil)
	start := time.Now()
	if m := readMetadata(formatPNG, data); !bytes.Equal(m.icc, good) {
		t.Error("the first profile was not taken")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}
