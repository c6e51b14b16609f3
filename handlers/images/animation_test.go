package images

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"os"
	"path/filepath"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// flag is an animation that disposes of frames in every way: on red, a green square stays, a blue one gives back what was there, a white one
// leaves a hole, and the last frame changes next to nothing.
func flag(t *testing.T) []byte {
	t.Helper()
	palette := color.Palette{color.RGBA{255, 0, 0, 255}, color.RGBA{0, 255, 0, 255}, color.RGBA{0, 0, 255, 255}, color.White, color.Transparent}
	square := func(r image.Rectangle, index uint8) *image.Paletted {
		m := image.NewPaletted(r, palette)
		for i := range m.Pix {
			m.Pix[i] = index
		}
		return m
	}
	g := gif.GIF{
		Image: []*image.Paletted{
			square(image.Rect(0, 0, 80, 40), 0), square(image.Rect(0, 0, 20, 20), 1), square(image.Rect(20, 0, 40, 20), 2),
			square(image.Rect(40, 0, 60, 20), 3), square(image.Rect(79, 39, 80, 40), 4),
		},
		Delay:     []int{5, 10, 15, 20, 25},
		Disposal:  []byte{gif.DisposalNone, gif.DisposalNone, gif.DisposalPrevious, gif.DisposalBackground, gif.DisposalNone},
		LoopCount: 3,
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, &g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAnimationKeepsAllFrames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root, "flag.gif", flag(t))
	a := defaults("flag.gif")
	a.Size, a.Frames = dims(40, 40), framesAll
	made, err := testConfig(root).thumbnail(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != "thumbs/flag_40x40.gif" || made.Width != 40 || made.Height != 20 || made.Format != "gif" || made.Frames != 5 {
		t.Errorf("made %+v", made)
	}
	data, err := os.ReadFile(filepath.Join(root, made.Name))
	if err != nil {
		t.Fatal(err)
	}
	g, err := gif.DecodeAll(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Image) != 5 || g.LoopCount != 3 || g.Delay[0] != 5 || g.Delay[4] != 25 {
		t.Fatalf("%d frames, %d loops, delays %v", len(g.Image), g.LoopCount, g.Delay)
	}
	const red, green, blue, white, none = "red", "green", "blue", "white", "none"
	for n, want := range [][4]string{ // at the middle of each square
		{red, red, red, red}, {green, red, red, red}, {green, blue, red, red}, {green, red, white, red}, {green, red, none, red},
	} {
		for i, name := range want {
			got := color.NRGBAModel.Convert(g.Image[n].At(5+10*i, 5)).(color.NRGBA)
			wanted := map[string]color.NRGBA{red: {255, 0, 0, 255}, green: {0, 255, 0, 255}, blue: {0, 0, 255, 255}, white: {255, 255, 255, 255}}[name]
			if got != wanted {
				t.Errorf("frame %d, square %d: %v, want %s", n, i, got, name)
			}
		}
	}
	if g.Disposal[3] != gif.DisposalBackground {
		t.Errorf("through the hole of the last frame the one before is seen: %v", g.Disposal)
	}
}

func TestAnimationRefusals(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root, "flag.gif", flag(t))
	put(t, root, "still.jpg", jpegOf(t, image.NewGray(image.Rect(0, 0, 9, 9))))
	cut := flag(t)
	put(t, root, "cut.gif", cut[:len(cut)-20])
	for name, change := range map[string]func(*thumbnailArgs){
		"a JPEG has no frames":         func(a *thumbnailArgs) { a.Source = "still.jpg" },
		"a file cut short":             func(a *thumbnailArgs) { a.Source = "cut.gif" },
		"another format":               func(a *thumbnailArgs) { a.Format = str("png") },
		"another ending":               func(a *thumbnailArgs) { a.Target = str("a.png") },
		"bytes":                        func(a *thumbnailArgs) { a.MaxBytes = new(int64); *a.MaxBytes = 5000 },
		"a GIF without all frames":     func(a *thumbnailArgs) { a.Frames, a.Format = framesFirst, str("gif") },
		"frames that are neither word": func(a *thumbnailArgs) { a.Frames = "last" },
	} {
		a := defaults("flag.gif")
		a.Frames = framesAll
		change(&a)
		_, err := testConfig(root).thumbnail(t.Context(), a)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		raised(t, err, "ValueError")
	}
	cfg := testConfig(root)
	cfg.MaxPixels = 4*80*40 + 1 // five frames are more
	a := defaults("flag.gif")
	a.Frames = framesAll
	if _, err := cfg.thumbnail(t.Context(), a); err == nil {
		t.Error("five frames pass a limit of four")
	}
}

// A still and an animation of the same source, by one task.
func TestAnimationAmongVariants(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root, "flag.gif", flag(t))
	var list []protocol.Value
	for _, frames := range []string{framesFirst, framesAll} {
		o := &protocol.Object{}
		o.Set("frames", frames)
		o.Set("size", dims(20, 20))
		list = append(list, o)
	}
	made, err := testConfig(root).variants(t.Context(), variantsArgs{Source: "flag.gif", Variants: list})
	if err != nil || len(made) != 2 || made[0].Frames != 0 || made[1].Frames != 5 || made[1].Name != "thumbs/flag_20x20.gif" {
		t.Errorf("%+v, %v", made, err)
	}
}

// A thumbnail of many colours finds 255 that are near all of them.
func TestPalettedIsNear(t *testing.T) {
	t.Parallel()
	photo := rgbPhoto(120, 90)
	s := &scaled{size: size{120, 90}, model: modelRGBA, pix: [][]uint8{photo.Pix}}
	m := paletted(s)
	if len(m.Palette) > 256 || psnr(m, photo) < 32 {
		t.Errorf("%d colours, %.1f dB", len(m.Palette), psnr(m, photo))
	}
	t.Logf("%d colours, %.1f dB", len(m.Palette), psnr(m, photo))
}

func FuzzAnimation(f *testing.F) {
	still, err := os.ReadFile("testdata/still.gif")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(still[:min(len(still), 3000)])
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := probe("f", data, 1<<16)
		if err != nil || i.format != formatGIF {
			return
		}
		a, err := scanAnimation(data)
		if err != nil || int64(len(a.frames))*i.pixels() > 1<<18 {
			return
		}
		_ = a.play(t.Context(), "f", i.size, func(int, *image.RGBA) error { return nil })
	})
}
