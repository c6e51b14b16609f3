package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
	"github.com/stalkworker/stalk/protocol"
)

// finishCase is one line of testdata/finish/expected.json, which pyfixtures/images_finish.py records with Pillow.
type finishCase struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	Args   struct {
		Size    []float64 `json:"size"`
		Fit     string    `json:"fit"`
		Focal   []float64 `json:"focal"`
		Crop    []float64 `json:"crop"`
		Sharpen []float64 `json:"sharpen"`
		ICC     string    `json:"icc"`
	} `json:"args"`
	Least float64 `json:"least"` // dB
}

func listOf(numbers []float64) (out []protocol.Value) {
	for _, n := range numbers {
		if n == float64(int64(n)) {
			out = append(out, int64(n))
		} else {
			out = append(out, n)
		}
	}
	return out
}

// The arguments mean what they mean in Pillow.
func TestArgumentsDoWhatPillowDoes(t *testing.T) {
	data, err := os.ReadFile("testdata/finish/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []finishCase `json:"cases"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 20 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			source, err := os.ReadFile(filepath.Join("testdata/finish", c.Source))
			if err != nil {
				t.Fatal(err)
			}
			put(t, root, "in.png", source)
			a := defaults("in.png")
			a.Target, a.Size = str("out.png"), dims(1000, 1000)
			a.Focal, a.Crop, a.Sharpen = listOf(c.Args.Focal), listOf(c.Args.Crop), listOf(c.Args.Sharpen)
			if c.Args.Size != nil {
				a.Size = listOf(c.Args.Size)
			}
			if c.Args.Fit != "" {
				a.Fit = c.Args.Fit
			}
			if c.Args.ICC != "" {
				a.ICC = c.Args.ICC
			}
			if _, err := testConfig(root).thumbnail(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			got, _ := load(t, root, "out.png")
			want := readPNG(t, filepath.Join("finish", c.Name+".png"))
			if got.Bounds() != want.Bounds() {
				t.Fatalf("size %v, Pillow's is %v", got.Bounds(), want.Bounds())
			}
			db := psnr(got, want)
			t.Logf("%.1f dB", db)
			if db < c.Least {
				t.Errorf("%.1f dB, want %.0f", db, c.Least)
			}
			out, err := os.ReadFile(filepath.Join(root, "out.png"))
			if err != nil {
				t.Fatal(err)
			}
			if c.Args.ICC == iccSRGB && bytes.Contains(out, []byte("iCCP")) {
				t.Error("the profile is still there")
			}
		})
	}
}

// dictOf is the arguments as a dict of the task variants has them.
func dictOf(pairs ...any) *protocol.Object {
	var members []protocol.Member
	for i := 0; i < len(pairs); i += 2 {
		members = append(members, protocol.Member{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	return protocol.ObjectOf(members...)
}

// What is asked for differently is named differently, and what could be asked for before is named as before.
func TestDerivedNamesTellArgumentsApart(t *testing.T) {
	root := t.TempDir()
	put(t, root, "p/cat.jpg", jpegOf(t, sampleimage.New(120, 90, 1)))
	size := []protocol.Value{int64(30), int64(20)}
	list := func(values ...protocol.Value) []protocol.Value { return values }
	var dicts []protocol.Value
	var names []string
	for _, tt := range []struct {
		dict *protocol.Object
		name string
	}{
		{dictOf("size", size), "cat_30x20.jpg"},
		{dictOf("size", size, "fit", "cover"), "cat_30x20_cover.jpg"},
		{dictOf("size", size, "fit", "cover", "quality", int64(60)), "cat_30x20_cover_q60.jpg"},
		{dictOf("size", size, "quality", int64(60), "format", "png"), "cat.jpg_30x20.png"},
		{dictOf("size", size, "fit", "contain"), "cat_30x20_contain.jpg"},
		{dictOf("size", size, "fit", "cover", "focal", list(int64(0), 0.25)), "cat_30x20_cover_at0-0.25.jpg"},
		{dictOf("size", size, "crop", list(int64(1), int64(2), int64(60), int64(70))), "cat_30x20_crop1-2-60-70.jpg"},
		{dictOf("size", size, "sharpen", list(0.5, int64(80), int64(0))), "cat_30x20_sharp0.5-80-0.jpg"},
		{dictOf("size", size, "max_bytes", int64(5000)), "cat_30x20_max5000.jpg"},
		{dictOf("size", size, "progressive", true), "cat_30x20_progressive.jpg"},
		{dictOf("size", size, "subsampling", "4:4:4"), "cat_30x20_444.jpg"},
		{dictOf("size", size, "metadata", "keep"), "cat_30x20_meta.jpg"},
		{dictOf("size", size, "icc", "srgb"), "cat_30x20_srgb.jpg"},
		{dictOf("size", size, "icc", "srgb", "progressive", true, "format", "png", "metadata", "keep"), "cat.jpg_30x20_meta_srgb.png"},
	} {
		dicts, names = append(dicts, tt.dict), append(names, "p/thumbs/"+tt.name)
	}
	made, err := testConfig(root).variants(t.Context(), variantsArgs{"p/cat.jpg", dicts})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range made {
		if m.Name != names[i] {
			t.Errorf("variants[%d] is %s, want %s", i, m.Name, names[i])
		}
		load(t, root, m.Name)
		if (m.Quality != 0) != strings.Contains(m.Name, "_max") {
			t.Errorf("%+v tells a quality", m)
		}
	}
}

func TestNewArgumentsAreChecked(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(300, 200, 1)))
	put(t, root, "in.png", pngOf(t, sampleimage.New(30, 20, 1)))
	list := func(values ...protocol.Value) []protocol.Value { return values }
	for _, tt := range []struct {
		key   string
		value protocol.Value
		class string
		text  string
	}{
		{"focal", list(0.5), "TypeError", "focal must be (x, y), got [0.5]"},
		{"focal", list("left", "top"), "TypeError", "focal must be (x, y), got ['left', 'top']"},
		{"focal", list(0.5, 1.5), "ValueError", "focal must be between 0 and 1 each way"},
		{"focal", list(0.5, 0.5), "ValueError", "focal is for fit='cover', the fit is 'inside'"},
		{"focal", "center", "TypeError", "focal must be (x, y) or None, got 'center'"},
		{"crop", list(int64(1), int64(2), int64(3)), "TypeError", "crop must be (left, top, right, bottom) in whole pixels"},
		{"crop", list(0.5, 0.5, 3.0, 4.0), "TypeError", "crop must be (left, top, right, bottom) in whole pixels"},
		{"crop", list(int64(5), int64(0), int64(5), int64(9)), "ValueError", "with left < right"},
		{"crop", list(int64(-5), int64(0), int64(5), int64(9)), "ValueError", "with left < right"},
		{"crop", list(int64(0), int64(0), int64(301), int64(9)), "ValueError", "leaves the picture, which is 300 x 200 pixels"},
		{"crop", list(int64(0), int64(0), int64(1<<60), int64(9)), "ValueError", "leaves the picture"},
		{"sharpen", list(int64(2), int64(150)), "TypeError", "sharpen must be (radius, percent, threshold)"},
		{"sharpen", list(int64(99), int64(150), int64(3)), "ValueError", "a radius up to 20"},
		{"sharpen", true, "TypeError", "sharpen must be (radius, percent, threshold) or None, got True"},
		{"max_bytes", int64(0), "ValueError", "max_bytes must be 1 or more, got 0"},
		{"max_bytes", int64(100), "ValueError", "does not fit in max_bytes 100 at quality 10"},
		{"max_bytes", "1 KB", "TypeError", "max_bytes must be int or None"},
		{"progressive", int64(1), "TypeError", "progressive must be bool, got 1"},
		{"subsampling", "4:2:2", "ValueError", "subsampling must be '4:2:0' or '4:4:4', got '4:2:2'"},
		{"metadata", "exif", "ValueError", "metadata must be 'drop' or 'keep', got 'exif'"},
		{"icc", "drop", "ValueError", "icc must be 'keep' or 'srgb', got 'drop'"},
		{"icc", nil, "TypeError", "icc must be str, got None"},
	} {
		_, err := testConfig(root).variants(t.Context(), variantsArgs{"in.jpg", []protocol.Value{dictOf(tt.key, tt.value)}})
		e := raised(t, err, tt.class)
		if text := e.Args[0].(string); !strings.Contains(text, tt.text) {
			t.Errorf("%s=%v: %q, want %q in it", tt.key, tt.value, text, tt.text)
		}
	}
	_, err := testConfig(root).variants(t.Context(), variantsArgs{"in.png", []protocol.Value{dictOf("max_bytes", int64(5000))}})
	if e := raised(t, err, "ValueError"); !strings.Contains(e.Args[0].(string), "max_bytes is for JPEG") {
		t.Error(e)
	}
}

func TestMaxBytesTakesTheBestQualityThatFits(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(96, 64, 1)))
	cfg := testConfig(root)
	sizes := map[int]int64{}
	for q := 1; q <= 95; q++ {
		a := defaults("in.jpg")
		a.Quality, a.Target = int64(q), str(fmt.Sprintf("q%d.jpg", q))
		made, err := cfg.thumbnail(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		sizes[q] = made.Bytes
	}
	for _, quality := range []int64{95, 85, 40} {
		for _, most := range []int64{sizes[10], sizes[33], sizes[33] - 1, sizes[34] + 1, sizes[60], sizes[84], sizes[95], 1 << 40} {
			a := defaults("in.jpg")
			a.Quality, a.MaxBytes, a.Target = quality, &most, str("out.jpg")
			made, err := cfg.thumbnail(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			want := int(quality)
			for sizes[want] > most {
				want--
			}
			if made.Quality != want || made.Bytes != sizes[want] {
				t.Errorf("%d bytes, up to %d: quality %d of %d bytes, want %d", most, quality, made.Quality, made.Bytes, want)
			}
		}
	}
}

// EXIF is kept but for the orientation, which has been applied, in every container and byte order.
func TestMetadataKept(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"o3.jpg", "o6.jpg", "o6.png", "o6.webp"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, root, name, data)
		format, _ := sniff(data)
		before := readMetadata(format, data)
		for _, target := range []string{"out.jpg", "out.png"} {
			a := defaults(name)
			a.Target, a.Metadata = &target, metadataKeep
			if _, err := testConfig(root).thumbnail(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			load(t, root, target)
			out, err := os.ReadFile(filepath.Join(root, target))
			if err != nil {
				t.Fatal(err)
			}
			format, _ := sniff(out)
			after := readMetadata(format, out)
			if !bytes.Contains(after.exif, []byte("maker")) && bytes.Contains(before.exif, []byte("maker")) {
				t.Errorf("%s, %s: the maker is gone", name, target)
			}
			if len(after.exif) != len(before.exif) || orientation(after.exif) != 1 || orientation(before.exif) == 1 {
				t.Errorf("%s, %s: %d bytes of EXIF with orientation %d, of %d with %d", name, target,
					len(after.exif), orientation(after.exif), len(before.exif), orientation(before.exif))
			}
			a.Metadata = metadataDrop
			if _, err := testConfig(root).thumbnail(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if out, _ = os.ReadFile(filepath.Join(root, target)); readMetadata(format, out).exif != nil {
				t.Errorf("%s, %s: metadata were not dropped", name, target)
			}
		}
	}
}

func TestMetadataTooLongForAJPEG(t *testing.T) {
	root := t.TempDir()
	var b bytes.Buffer
	if err := png.Encode(&inserting{w: &b, after: 33, extra: pngEXIF(make([]byte, 65528))}, image.NewGray(image.Rect(0, 0, 9, 9))); err != nil {
		t.Fatal(err)
	}
	put(t, root, "in.png", b.Bytes())
	a := defaults("in.png")
	a.Target, a.Metadata = str("out.jpg"), metadataKeep
	_, err := testConfig(root).thumbnail(t.Context(), a)
	if e := raised(t, err, "ValueError"); !strings.Contains(e.Args[0].(string), "65528 bytes long, a JPEG can have 65527") {
		t.Error(e)
	}
}

// A profile that cannot be converted stays with its picture, and one that is sRGB goes without a change of a pixel.
func TestProfilesThatAreNotConverted(t *testing.T) {
	p3, err := os.ReadFile("testdata/finish/in_p3.png")
	if err != nil {
		t.Fatal(err)
	}
	icc := readMetadata(formatPNG, p3).icc
	if gamutOf(icc) == nil || gamutOf(icc).isSRGB() {
		t.Fatal("Display P3 is not seen as what it is")
	}
	tables := bytes.ReplaceAll(icc, []byte("rXYZ"), []byte("A2B0"))
	for n := range icc { // every length and a few torn bytes: no panic
		gamutOf(icc[:n])
	}
	photo := sampleimage.New(80, 60, 1)
	root := t.TempDir()
	var b bytes.Buffer
	if err := png.Encode(&inserting{w: &b, after: 33, extra: pngProfile(tables)}, photo); err != nil {
		t.Fatal(err)
	}
	put(t, root, "tables.png", b.Bytes())
	a := defaults("tables.png")
	a.Target, a.ICC = str("out.jpg"), iccSRGB
	if _, err := testConfig(root).thumbnail(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(filepath.Join(root, "out.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readMetadata(formatJPEG, out).icc, tables) {
		t.Error("the profile is gone")
	}
}

func FuzzGamut(f *testing.F) {
	for _, name := range []string{"p3", "adobe", "prophoto", "linear", "gamma", "bt709"} {
		data, err := os.ReadFile("testdata/finish/in_" + name + ".png")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(readMetadata(formatPNG, data).icc)
	}
	f.Fuzz(func(t *testing.T, icc []byte) {
		if g := gamutOf(icc); g != nil {
			g.isSRGB()
			for _, px := range [][]uint8{{0, 0, 0}, {255, 255, 255}, {1, 200, 90}} {
				g.convert(px)
			}
		}
	})
}

// The JPEG of an RGB picture is what libjpeg would have made of it: its conversion, its means.
func TestRGBBecomesPlanesOnce(t *testing.T) {
	for _, d := range []size{{1, 1}, {2, 2}, {3, 5}, {16, 9}} {
		s := &scaled{size: d, model: modelRGB, pix: [][]uint8{make([]uint8, 3*d.w*d.h)}, sizes: []size{d}}
		for i := range s.pix[0] {
			s.pix[0][i] = uint8(i * 37)
		}
		rgba := &scaled{size: d, model: modelRGBA, pix: [][]uint8{make([]uint8, 4*d.w*d.h)}, sizes: []size{d}}
		for i := range d.w * d.h {
			copy(rgba.pix[0][4*i:], s.pix[0][3*i:3*i+3])
			rgba.pix[0][4*i+3] = 255
		}
		for _, full := range []bool{true, false} {
			p, q := s.planes(full), rgba.planes(full)
			for i := range p.Planes {
				if !bytes.Equal(p.Planes[i].Pix, q.Planes[i].Pix) {
					t.Errorf("%v, full %v: plane %d differs with an opaque alpha", d, full, i)
				}
			}
			step := 2
			if full {
				step = 1
			}
			for y := 0; y < d.h; y += step {
				for x := 0; x < d.w; x += step {
					var r, g, b float64
					for k := range step * step {
						at := 3 * (min(y+k/step, d.h-1)*d.w + min(x+k%step, d.w-1))
						r, g, b = r+float64(s.pix[0][at]), g+float64(s.pix[0][at+1]), b+float64(s.pix[0][at+2])
					}
					n := float64(step * step)
					cb, cr := 128+(-0.168735892*r-0.331264108*g+0.5*b)/n, 128+(0.5*r-0.418687589*g-0.081312411*b)/n
					at := y/step*p.Planes[1].Stride + x/step
					if !near(p.Planes[1].Pix[at], cb) || !near(p.Planes[2].Pix[at], cr) {
						t.Errorf("%v, full %v, at %d,%d: %d %d, want %.2f %.2f", d, full, x, y, p.Planes[1].Pix[at], p.Planes[2].Pix[at], cb, cr)
					}
				}
			}
		}
	}
}

func near(got uint8, want float64) bool {
	return float64(got) > want-0.51 && float64(got) < want+0.51 || got == 255 && want > 255
}

var errDisk = errors.New("disk")

type brokenDisk struct{}

func (brokenDisk) Write([]byte) (int, error) { return 0, errDisk }

func TestErrorsOfTheDiskAreNotMistakenForMaxBytes(t *testing.T) {
	s := &scaled{size: size{8, 8}, model: modelGray, pix: [][]uint8{make([]uint8, 64)}, sizes: []size{{8, 8}}}
	_, err := s.encode(t.Context(), brokenDisk{}, style{format: formatJPEG, quality: 85, maxBytes: 5000}, attachment{})
	if !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

// inserting puts extra behind the first bytes of a stream: image/png writes no metadata.
type inserting struct {
	w     io.Writer
	after int
	extra []byte
}

func (i *inserting) Write(p []byte) (int, error) {
	n := 0
	if i.after > 0 {
		head := p[:min(i.after, len(p))]
		wrote, err := i.w.Write(head)
		n += wrote
		i.after -= wrote
		if err != nil {
			return n, err
		}
		p = p[len(head):]
	}
	if i.after == 0 && len(i.extra) > 0 {
		if _, err := i.w.Write(i.extra); err != nil {
			return n, err
		}
		i.extra = nil
	}
	if len(p) == 0 {
		return n, nil
	}
	wrote, err := i.w.Write(p)
	return n + wrote, err
}

// A JPEG in a wide gamut is converted from its planes, and written in 4:2:0 as any other.
func TestWideGamutJPEGBecomesSRGB(t *testing.T) {
	p3, err := os.ReadFile("testdata/finish/in_p3.png")
	if err != nil {
		t.Fatal(err)
	}
	icc := readMetadata(formatPNG, p3).icc
	g := gamutOf(icc)
	root := t.TempDir()
	photo := jpegOf(t, readPNG(t, "finish/in_p3.png"))
	put(t, root, "in.jpg", append(append(bytes.Clone(photo[:2]), jpegProfile(icc)...), photo[2:]...))
	thumbnail := func(target, icc string) image.Image {
		a := defaults("in.jpg")
		a.Target, a.ICC, a.Size = &target, icc, dims(60, 60)
		if _, err := testConfig(root).thumbnail(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		m, _ := load(t, root, target)
		return m
	}
	want := image.NewRGBA(image.Rect(0, 0, 60, 40))
	kept := thumbnail("keep.png", iccKeep).(*image.RGBA)
	copy(want.Pix, kept.Pix)
	for i := 0; i < len(want.Pix); i += 4 {
		g.convert(want.Pix[i:])
	}
	if got := thumbnail("srgb.png", iccSRGB); !bytes.Equal(got.(*image.RGBA).Pix, want.Pix) || bytes.Equal(kept.Pix, want.Pix) {
		t.Error("the PNG is not the converted one")
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, want, &jpeg.Options{Quality: 85}); err != nil {
		t.Fatal(err)
	}
	std, err := jpeg.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	if ours, theirs := psnr(thumbnail("srgb.jpg", iccSRGB), want), psnr(std, want); ours < theirs-0.2 {
		t.Errorf("the JPEG is %.1f dB from it, that of image/jpeg %.1f", ours, theirs)
	}
	for name, has := range map[string]bool{"keep.png": true, "srgb.png": false, "srgb.jpg": false} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		format, _ := sniff(data)
		if (readMetadata(format, data).icc != nil) != has {
			t.Errorf("%s has a profile: %v", name, !has)
		}
	}
}
