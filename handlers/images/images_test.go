package images

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/images/sampleimage"
	"github.com/stalkworker/stalk/protocol"
)

func testConfig(root string) Config {
	return Config{Root: root, MaxPixels: DefaultMaxPixels, MaxBytes: DefaultMaxBytes}
}

func dims(w, h int) []protocol.Value { return []protocol.Value{int64(w), int64(h)} }

// defaults are the arguments of thumbnail(source).
func defaults(source string) thumbnailArgs {
	return thumbnailArgs{
		Source: source, Size: dims(256, 256), Fit: fitInside, Quality: 85,
		Subsampling: subsampling420, Metadata: metadataDrop, ICC: iccKeep,
	}
}

// square are those of a thumbnail of n x n pixels.
func square(source string, target *string, n int) thumbnailArgs {
	a := defaults(source)
	a.Target, a.Size = target, dims(n, n)
	return a
}

func str(s string) *string { return &s }

func put(t *testing.T, root, name string, data []byte) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func jpegOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pngOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gifOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gif.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// raised demands a Python exception of the class.
func raised(t *testing.T, err error, class string) *protocol.Exception {
	t.Helper()
	e, ok := errors.AsType[*protocol.Exception](err)
	if !ok || e.Type != class {
		t.Fatalf("error %v (%T), want a %s", err, err, class)
	}
	return e
}

func noLeftovers(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("temporary file %s is left", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, root, name string) (image.Image, string) {
	t.Helper()
	f, err := os.Open(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, format, err := image.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m, format
}

func TestThumbnailThroughTheHandler(t *testing.T) {
	root := t.TempDir()
	put(t, root, "photos/cat.jpg", jpegOf(t, sampleimage.New(640, 480, 1)))
	hs, err := Handlers(Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if len(hs) != 2 || hs[0].Name() != "stalk.images.thumbnail" || hs[1].Name() != "stalk.images.variants" {
		t.Fatalf("handlers %v", hs)
	}
	call := func(h handlers.Handler, args []protocol.Value, kwargs *protocol.Object) protocol.Value {
		t.Helper()
		got, err := h.Invoke()(t.Context(), &protocol.Task{Args: args, Kwargs: kwargs})
		if err != nil {
			t.Fatal(err)
		}
		v, err := protocol.FromGo(got)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	stat := func(name string) int64 {
		s, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if s.Mode().Perm() != 0o644 {
			t.Errorf("%s has mode %v, want 0644", name, s.Mode().Perm())
		}
		return s.Size()
	}
	check := func(v protocol.Value, name string, w, h int64, format string) {
		t.Helper()
		o, ok := v.(*protocol.Object)
		if !ok {
			t.Fatalf("result %T, want a dict", v)
		}
		for _, m := range []protocol.Member{
			{Key: "name", Value: name},
			{Key: "width", Value: w},
			{Key: "height", Value: h},
			{Key: "bytes", Value: stat(name)},
			{Key: "format", Value: format},
		} {
			if got, _ := o.Get(m.Key); got != m.Value {
				t.Errorf("result[%q] = %v, want %v", m.Key, got, m.Value)
			}
		}
		if o.Len() != 5 {
			t.Errorf("result has %d keys, want 5", o.Len())
		}
		img, f := load(t, root, name)
		if img.Bounds().Dx() != int(w) || img.Bounds().Dy() != int(h) || f != format {
			t.Errorf("%s is %v %s", name, img.Bounds(), f)
		}
	}
	check(call(hs[0], []protocol.Value{"photos/cat.jpg"}, nil), "photos/thumbs/cat_256x256.jpg", 256, 192, "jpeg")
	check(call(hs[0], []protocol.Value{"photos/cat.jpg", "out/deep/c.png"}, protocol.ObjectOf(
		protocol.Member{Key: "size", Value: dims(50, 50)}, protocol.Member{Key: "fit", Value: "cover"}, protocol.Member{Key: "format"})),
		"out/deep/c.png", 50, 50, "png")
	list := call(hs[1], []protocol.Value{"photos/cat.jpg", []protocol.Value{
		protocol.ObjectOf(),
		protocol.ObjectOf(protocol.Member{Key: "size", Value: dims(64, 64)}, protocol.Member{Key: "format", Value: "PNG"}),
		protocol.ObjectOf(protocol.Member{Key: "size", Value: dims(31, 47)}, protocol.Member{Key: "fit", Value: "fill"}, protocol.Member{Key: "quality", Value: int64(40)}),
	}}, nil).([]protocol.Value)
	check(list[0], "photos/thumbs/cat_256x256.jpg", 256, 192, "jpeg")
	check(list[1], "photos/thumbs/cat.jpg_64x64.png", 64, 48, "png")
	check(list[2], "photos/thumbs/cat_31x47_fill_q40.jpg", 31, 47, "jpeg")
	noLeftovers(t, root)
}

func TestHandlersRefusesABadConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	put(t, filepath.Dir(file), "file", nil)
	for _, cfg := range []Config{{}, {Root: file}, {Root: file + "/none"}, {Root: t.TempDir(), MaxPixels: -1}, {Root: t.TempDir(), MaxBytes: -1}} {
		if _, err := Handlers(cfg); err == nil || !strings.HasPrefix(err.Error(), "images: ") {
			t.Errorf("Handlers(%+v) = %v", cfg, err)
		}
	}
}

func TestNothingLeavesTheMediaRoot(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "secret.jpg", jpegOf(t, sampleimage.New(32, 32, 1)))
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(32, 32, 1)))
	for link, to := range map[string]string{
		"link.jpg": filepath.Join(outside, "secret.jpg"), "folder": outside,
		"up": "../" + filepath.Base(outside), "inner.jpg": "in.jpg",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig(root)
	for _, name := range []string{
		"", "/etc/passwd", filepath.Join(outside, "secret.jpg"), "..", "../x.jpg", "a/../../x.jpg", "a/../in.jpg", "in.jpg\x00.png",
		".", "thumbs/", "link.jpg", "folder/secret.jpg", "up/secret.jpg", "./..", "//in.jpg",
	} {
		_, err := cfg.thumbnail(t.Context(), defaults(name))
		e := raised(t, err, "SuspiciousFileOperation")
		if e.Module != "django.core.exceptions" {
			t.Errorf("module %q", e.Module)
		}
		if name == "link.jpg" { // as a target it is replaced, not followed
			continue
		}
		a := defaults("in.jpg")
		a.Target = &name
		_, err = cfg.thumbnail(t.Context(), a)
		raised(t, err, "SuspiciousFileOperation")
	}
	if files, _ := os.ReadDir(outside); len(files) != 1 {
		t.Errorf("%d files outside, want the one", len(files))
	}
	if _, err := cfg.thumbnail(t.Context(), defaults("inner.jpg")); err != nil {
		t.Errorf("a link that stays inside: %v", err)
	}
	before, _ := os.ReadFile(filepath.Join(outside, "secret.jpg"))
	a := defaults("in.jpg")
	a.Target = str("link.jpg")
	if _, err := cfg.thumbnail(t.Context(), a); err != nil {
		t.Errorf("replacing a link: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(outside, "secret.jpg")); !bytes.Equal(before, after) {
		t.Error("the file a link led to was written")
	}
}

func TestFileErrorsAreThoseOfPython(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(300, 300, 1)))
	put(t, root, "folder/x", nil)
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(root)
	_, err := cfg.thumbnail(t.Context(), defaults("none.jpg"))
	e := raised(t, err, "FileNotFoundError")
	if len(e.Args) != 3 || e.Args[0] != int64(2) || e.Args[1] != "No such file or directory" || e.Args[2] != "none.jpg" {
		t.Errorf("args %v", e.Args)
	}
	_, err = cfg.thumbnail(t.Context(), defaults("folder"))
	raised(t, err, "IsADirectoryError")
	_, err = cfg.thumbnail(t.Context(), defaults("in.jpg/x.jpg"))
	raised(t, err, "NotADirectoryError")
	_, err = cfg.thumbnail(t.Context(), defaults("pipe"))
	raised(t, err, "ValueError")
	a := defaults("in.jpg")
	a.Target = str("folder")
	if _, err = cfg.thumbnail(t.Context(), a); err == nil {
		t.Error("a folder was overwritten")
	}
	a.Target = str("in.jpg/x.jpg")
	_, err = cfg.thumbnail(t.Context(), a)
	raised(t, err, "FileExistsError")
	a.Target = str("in.jpg")
	_, err = cfg.thumbnail(t.Context(), a)
	raised(t, err, "ValueError")
	if err := os.Link(filepath.Join(root, "in.jpg"), filepath.Join(root, "hard.jpg")); err != nil {
		t.Fatal(err)
	}
	a.Target = str("hard.jpg")
	_, err = cfg.thumbnail(t.Context(), a)
	raised(t, err, "ValueError")
	noLeftovers(t, root)
}

func TestBadArgumentsNameThePart(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(300, 300, 1)))
	cfg := testConfig(root)
	for _, tt := range []struct {
		change func(*thumbnailArgs)
		class  string
		text   string
	}{
		{func(a *thumbnailArgs) { a.Size = dims(0, 5) }, "ValueError", "size must be between 1 and 65535"},
		{func(a *thumbnailArgs) { a.Size = dims(5, 70000) }, "ValueError", "size must be between 1 and 65535"},
		{func(a *thumbnailArgs) { a.Size = dims(5, 5)[:1] }, "ValueError", "got 1 numbers"},
		{func(a *thumbnailArgs) { a.Size = []protocol.Value{1.5, 2.0} }, "TypeError", "size must be two integers"},
		{func(a *thumbnailArgs) { a.Fit = "crop" }, "ValueError", "'inside', 'contain', 'cover' or 'fill', got 'crop'"},
		{func(a *thumbnailArgs) { a.Quality = 0 }, "ValueError", "quality must be between 1 and 100, got 0"},
		{func(a *thumbnailArgs) { a.Format = str("webp") }, "ValueError", "'jpeg' or 'png'"},
		{func(a *thumbnailArgs) { a.Target = str("x.webp") }, "ValueError", "'x.webp' promises a format"},
		{func(a *thumbnailArgs) { a.Size, a.Fit = dims(60000, 60000), "fill" }, "ValueError", "3600000000 pixels, the limit is 100000000"},
	} {
		a := defaults("in.jpg")
		tt.change(&a)
		_, err := cfg.thumbnail(t.Context(), a)
		if e := raised(t, err, tt.class); !strings.Contains(e.Args[0].(string), tt.text) {
			t.Errorf("text %q, want %q in it", e.Args[0], tt.text)
		}
	}
	one := func(members ...protocol.Member) []protocol.Value {
		return []protocol.Value{protocol.ObjectOf(), protocol.ObjectOf(members...)}
	}
	for _, tt := range []struct {
		variants []protocol.Value
		class    string
		text     string
	}{
		{nil, "ValueError", "1 to 100, got 0"},
		{one(protocol.Member{Key: "width", Value: int64(3)}), "TypeError", "variants[1]: unknown key 'width'"},
		{one(protocol.Member{Key: "size", Value: int64(3)}), "TypeError", "variants[1]: size must be (width, height), got 3"},
		{one(protocol.Member{Key: "fit", Value: "x"}), "ValueError", "variants[1]: fit must be"},
		{one(protocol.Member{Key: "quality", Value: "x"}), "TypeError", "variants[1]: quality must be int, got 'x'"},
		{[]protocol.Value{"x"}, "TypeError", "variants[0]: want a dict, got 'x'"},
		{one(), "ValueError", "variants[0] and variants[1] have the same target"},
	} {
		_, err := cfg.variants(t.Context(), variantsArgs{"in.jpg", tt.variants})
		if e := raised(t, err, tt.class); !strings.Contains(e.Args[0].(string), tt.text) {
			t.Errorf("text %q, want %q in it", e.Args[0], tt.text)
		}
	}
}

func TestUnreadableFilesSayWhy(t *testing.T) {
	root := t.TempDir()
	photo := jpegOf(t, sampleimage.New(200, 100, 1))
	picture := pngOf(t, sampleimage.New(200, 100, 1))
	for _, tt := range []struct {
		data []byte
		text string
	}{
		{nil, "is empty"},
		{[]byte("hello, world"), "is not a picture"},
		{[]byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1"), "is AVIF, which is not read"},
		{[]byte("\x00\x00\x00\x20ftypheic\x00\x00\x00\x00mif1heic"), "is HEIC, which"},
		{[]byte("II*\x00\x08\x00\x00\x00"), "is TIFF, which"},
		{[]byte("<?xml version='1.0'?>\n<svg xmlns='x'/>"), "is SVG, which"},
		{photo[:len(photo)/2], "is damaged"},
		{photo[:100], "is damaged"},
		{picture[:len(picture)/2], "is damaged"},
		{append(append([]byte{}, picture[:60]...), make([]byte, 500)...), "is damaged"},
		{[]byte("RIFF\x04\x00\x00\x00WEBP"), "is damaged"},
		{[]byte("GIF89a"), "is damaged"},
	} {
		put(t, root, "in", tt.data)
		_, err := testConfig(root).thumbnail(t.Context(), defaults("in"))
		if e := raised(t, err, "ValueError"); !strings.Contains(e.Args[0].(string), tt.text) {
			t.Errorf("text %q, want %q in it", e.Args[0], tt.text)
		}
	}
	if files, _ := os.ReadDir(root); len(files) != 1 {
		t.Errorf("%d files, want the source alone", len(files))
	}
}

func TestLimitsAreCheckedBeforeDecoding(t *testing.T) {
	root := t.TempDir()
	data := jpegOf(t, sampleimage.New(200, 100, 1))
	put(t, root, "in.jpg", data)
	cfg := testConfig(root)
	cfg.MaxPixels = 19_999
	_, err := cfg.thumbnail(t.Context(), defaults("in.jpg"))
	if e := raised(t, err, "ValueError"); !strings.Contains(e.Args[0].(string), "200 x 100 = 20000 pixels, the limit is 19999") {
		t.Errorf("text %q", e.Args[0])
	}
	cfg.MaxPixels, cfg.MaxBytes = 20_000, int64(len(data))-1
	_, err = cfg.thumbnail(t.Context(), defaults("in.jpg"))
	raised(t, err, "ValueError")
	cfg.MaxBytes++
	if _, err = cfg.thumbnail(t.Context(), defaults("in.jpg")); err != nil {
		t.Error(err)
	}
	// A header that promises 65,500 x 65,500 pixels and a body that holds none: memory is not even asked for.
	bomb := bytes.Clone(data)
	sof := bytes.Index(bomb, []byte{0xff, 0xc0})
	copy(bomb[sof+5:], []byte{0xff, 0xdc, 0xff, 0xdc})
	put(t, root, "bomb.jpg", bomb)
	allocated := testing.AllocsPerRun(1, func() {
		_, err = testConfig(root).thumbnail(t.Context(), defaults("bomb.jpg"))
	})
	if e := raised(t, err, "ValueError"); !strings.Contains(e.Args[0].(string), "pixels, the limit is") || allocated > 1000 {
		t.Errorf("text %q after %v allocations", e.Args[0], allocated)
	}
}

// A cancelled context ends the task at each stage, with its cause, and leaves nothing.
func TestCancellationStopsEveryStage(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(400, 300, 1)))
	for _, stop := range []string{stageDecode, stageResize} {
		ctx, cancel := context.WithCancelCause(t.Context())
		j := job{cfg: testConfig(root), source: "in.jpg", variants: []variant{asked(fitInside, 50, 50)}}
		j.progress = func(stage string, _ int) error { // the stage itself must notice
			if stage == stop {
				cancel(handlers.ErrSoftLimit)
			}
			return nil
		}
		if _, err := j.run(ctx); !errors.Is(err, handlers.ErrSoftLimit) {
			t.Errorf("stopped at %s: %v", stop, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	s := &scaled{size: size{8, 8}, model: modelGray, pix: [][]uint8{make([]uint8, 64)}, sizes: []size{{8, 8}}}
	cancel(handlers.ErrSoftLimit)
	if _, err := s.encode(ctx, &bytes.Buffer{}, style{format: formatPNG}, attachment{}); !errors.Is(err, handlers.ErrSoftLimit) {
		t.Errorf("stopped while encoding: %v", err)
	}
	if files, _ := os.ReadDir(root); len(files) != 1 {
		t.Errorf("%d files, want the source alone", len(files))
	}
}

type host struct {
	handlers.Host // nil: nothing else is asked of it

	mu   sync.Mutex
	seen []protocol.Value
	err  error
}

func (h *host) Report(_ context.Context, s protocol.State, meta protocol.Value) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, meta)
	return h.err
}

func TestProgressIsReportedAndItsLossForgiven(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(400, 300, 1)))
	for _, failure := range []error{nil, errors.New("no result store")} {
		h := &host{err: failure}
		ctx := handlers.NewContext(t.Context(), handlers.Info{ID: "1"}, h)
		if _, err := testConfig(root).thumbnail(ctx, defaults("in.jpg")); err != nil {
			t.Fatal(err)
		}
		v := variantsArgs{"in.jpg", []protocol.Value{protocol.ObjectOf(), protocol.ObjectOf(protocol.Member{Key: "fit", Value: "cover"})}}
		if _, err := testConfig(root).variants(ctx, v); err != nil {
			t.Fatal(err)
		}
		if got, want := protocol.Repr(h.seen), "[{'stage': 'decode'}, {'stage': 'resize'}, {'done': 0, 'total': 2}, {'done': 1, 'total': 2}]"; got != want {
			t.Errorf("reported %s, want %s", got, want)
		}
	}
}

// However many make the same thumbnail at once, readers only ever see a whole one.
func TestConcurrentWritersOfOneTarget(t *testing.T) {
	root := t.TempDir()
	put(t, root, "in.jpg", jpegOf(t, sampleimage.New(400, 300, 1)))
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 5 {
				a := defaults("in.jpg")
				a.Target = str("t/out.png")
				a.Size = dims(40+n, 40+n)
				if _, err := testConfig(root).thumbnail(t.Context(), a); err != nil {
					t.Error(err)
				}
				data, err := os.ReadFile(filepath.Join(root, "t/out.png"))
				if err != nil {
					t.Error(err)
				} else if _, err := png.Decode(bytes.NewReader(data)); err != nil {
					t.Errorf("a reader saw %v", err)
				}
			}
		})
	}
	wg.Wait()
	noLeftovers(t, root)
}

func TestOutputFormatFollowsTargetThenSource(t *testing.T) {
	root := t.TempDir()
	photo := sampleimage.New(60, 40, 1)
	clear := image.NewPaletted(photo.Rect, color.Palette{color.NRGBA{}, color.NRGBA{R: 200, A: 255}})
	put(t, root, "a.jpg", jpegOf(t, photo))
	put(t, root, "a.png", pngOf(t, photo))
	put(t, root, "a.gif", gifOf(t, photo))
	put(t, root, "clear.gif", gifOf(t, clear))
	for _, tt := range []struct{ source, target, format, want, name string }{
		{"a.jpg", "", "", "jpeg", "thumbs/a_256x256.jpg"},
		{"a.png", "", "", "png", "thumbs/a_256x256.png"},
		{"a.gif", "", "", "jpeg", "thumbs/a.gif_256x256.jpg"},
		{"clear.gif", "", "", "png", "thumbs/clear.gif_256x256.png"},
		{"clear.gif", "", "JPEG", "jpeg", "thumbs/clear.gif_256x256.jpg"},
		{"a.jpg", "o/x.PNG", "", "png", "o/x.PNG"},
		{"a.png", "o/x", "", "png", "o/x"},
		{"a.png", "o//./x.webp", "jpg", "jpeg", "o/x.webp"},
	} {
		a := defaults(tt.source)
		if tt.target != "" {
			a.Target = &tt.target
		}
		if tt.format != "" {
			a.Format = &tt.format
		}
		made, err := testConfig(root).thumbnail(t.Context(), a)
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		if _, f := load(t, root, made.Name); made.Format != tt.want || f != tt.want || made.Name != tt.name {
			t.Errorf("%+v: made %+v, the file is %s", tt, made, f)
		}
	}
	if m, _ := load(t, root, "thumbs/clear.gif_256x256.jpg"); m.(*image.YCbCr).Y[0] < 250 {
		t.Error("transparency was not laid over white")
	}
}
