package images

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// hostileRoot is a root with one picture in it, beside a folder that must not be reached.
func hostileRoot(t *testing.T) (cfg Config, secret string) {
	t.Helper()
	above := t.TempDir()
	root, out := filepath.Join(above, "media"), filepath.Join(above, "outside")
	for _, d := range []string{root, out, filepath.Join(root, "sub")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret = filepath.Join(out, "secret.jpg")
	for _, f := range []string{filepath.Join(root, "a.jpg"), secret} {
		if err := os.WriteFile(f, small(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Config{Root: root, MaxPixels: DefaultMaxPixels, MaxBytes: DefaultMaxBytes}, secret
}

func small(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// hostilePaths lead out, or to what is no file, in every spelling somebody has tried somewhere.
func hostilePaths(secret string) []string {
	paths := []string{
		"", ".", "./", "..", "../", "/", "//", "///etc/passwd", "/etc/passwd", "//etc/passwd", secret,
		"../outside/secret.jpg", "sub/../../outside/secret.jpg", "./../outside/secret.jpg", "sub/./../../outside/secret.jpg",
		"sub//..//..//outside/secret.jpg", "a.jpg/../../outside/secret.jpg", "sub/..", "sub/../..", "..//", "....//outside/secret.jpg",
		"..\\outside\\secret.jpg", "sub\\..\\..\\outside\\secret.jpg", "C:\\windows\\system.ini", "\\\\host\\share\\x.jpg", "C:a.jpg",
		"%2e%2e/outside/secret.jpg", "..%2foutside%2fsecret.jpg", "%2e%2e%2foutside/secret.jpg", "..%252f..%252fetc/passwd", "..%c0%afetc/passwd",
		"\u2025/outside/secret.jpg", "\uff0e\uff0e/outside/secret.jpg", "..\u2215outside\u2215secret.jpg", "..\uff0foutside\uff0fsecret.jpg", "..\u2044outside",
		"\u202e gpj.terces/edistuo/..", "\ufeff../outside/secret.jpg", "..\u0000/outside/secret.jpg", "a.jpg\x00", "a.jpg\x00.png", "\x00", "\x00../a.jpg",
		"../\x00", "a.jpg\n", "a.jpg ", " a.jpg", "a.jpg/", "a.jpg/x", "sub", "sub/", "\xff\xfe", "\xc0\xae\xc0\xae/outside", "..\r\n/x",
		"/proc/self/environ", "proc/self/environ", "../../proc/self/mem", "/dev/zero", "/dev/stdin", "../../../../../../dev/zero", "/proc/self/fd/0", "/proc/self/root/etc/passwd",
		"file:///etc/passwd", "file://a.jpg", "http://127.0.0.1:1/a.jpg", "https://example.com/a.jpg", "HTTP://127.0.0.1/", "ftp://h/a.jpg", "//127.0.0.1/a.jpg",
		"data:image/png;base64,AAAA", "s3://bucket/a.jpg", "gopher://127.0.0.1:6379/_FLUSHALL", "php://input", "jar:http://h!/", "http:\\\\127.0.0.1\\a.jpg",
		"|id", "`id`", "$(id)", "a.jpg;id", "~root/a.jpg", "~/.ssh/id_rsa", "${HOME}/a.jpg", "*.jpg", "a.{jpg,png}", "-rf", "--help", "@a.jpg", "msl:a.jpg", "ephemeral:a.jpg", "label:@/etc/passwd",
		"CON", "NUL", "aux.jpg", "a.jpg:stream", "a.jpg::$DATA", ".git/config", ".htaccess",
		strings.Repeat("../", 1000) + "etc/passwd", strings.Repeat("a/", 5000) + "a.jpg", strings.Repeat("a", 256) + ".jpg", strings.Repeat("b", 1<<20), strings.Repeat("/", 1<<16),
		"fifo", "socket", "link", "linkdir/secret.jpg", "linkabs", "loop", "sub/up/outside/secret.jpg", "deadlink", "linkproc/self/environ", "linkdev", "linkfolder/../../outside/secret.jpg",
	}
	return paths
}

func TestHostilePathsLeadNowhere(t *testing.T) {
	t.Parallel()
	cfg, secret := hostileRoot(t)
	out := filepath.Dir(secret)
	for name, target := range map[string]string{
		"link": "../outside/secret.jpg", "linkdir": "../outside", "linkabs": secret, "loop": "loop", "sub/up": "../..", "deadlink": "nowhere",
		"linkproc": "/proc", "linkdev": "/dev/zero", "linkfolder": "sub",
	} {
		if err := os.Symlink(target, filepath.Join(cfg.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(cfg.Root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := list(t, out)
	paths := hostilePaths(secret)
	for _, p := range paths {
		if made, err := cfg.thumbnail(t.Context(), square(p, nil, 4)); err == nil {
			t.Errorf("source %.80q: made %+v", p, made)
		} else if len(err.Error()) > 3<<20 {
			t.Errorf("source %.80q: an error of %d bytes", p, len(err.Error()))
		}
		// As a target some of them are odd names of files that may be; none may be outside.
		target := p
		_, _ = cfg.thumbnail(t.Context(), square("a.jpg", &target, 4))
	}
	if after := list(t, out); after != before {
		t.Errorf("outside the root: %s, was %s", after, before)
	}
	for name := range strings.SplitSeq(list(t, cfg.Root), " ") {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s was left", name)
		}
	}
	if len(paths) < 100 {
		t.Errorf("only %d paths", len(paths))
	}
	t.Logf("%d paths, each as source and target", len(paths))
}

func list(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			names = append(names, path+"="+info.Mode().String()+string(rune('0'+info.Size()%10)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// Nothing is fetched: the name of a picture is never an address, and the error says what it is taken for.
func TestAnAddressIsNoStorageName(t *testing.T) {
	t.Parallel()
	cfg, _ := hostileRoot(t)
	for _, address := range []string{"http://127.0.0.1:1/a.jpg", "https://example.com/a.jpg", "ftp://h/a", "file:///etc/passwd", "s3://b/k.png"} {
		_, err := cfg.thumbnail(t.Context(), square(address, nil, 4))
		e, ok := errors.AsType[*protocol.Exception](err)
		if !ok || e.Type != "ValueError" || !strings.Contains(e.Error(), "nothing is fetched") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A link or folder that changes while tasks run never leads out: os.Root looks at each step of a path itself.
func TestLinksSwappedUnderATask(t *testing.T) {
	t.Parallel()
	cfg, secret := hostileRoot(t)
	flip := filepath.Join(cfg.Root, "flip")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.RemoveAll(flip)
				_ = os.Symlink("../outside", flip)
				_ = os.RemoveAll(flip)
				_ = os.Symlink("sub", flip)
			}
		}
	})
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	target := "flip/made.jpg"
	inside := 0
	for range 100 {
		if _, err := cfg.thumbnail(t.Context(), square("a.jpg", &target, 4)); err == nil {
			inside++
		}
	}
	close(stop)
	wg.Wait()
	if found := list(t, filepath.Dir(secret)); found != "" {
		t.Errorf("written outside: %s", found)
	}
	t.Logf("100 tasks, %d found the link inside", inside)
}

func chunk(kind string, data []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	out = append(append(out, kind...), data...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

func deflated(n int) []byte {
	var b bytes.Buffer
	w, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	zero := make([]byte, 1<<16)
	for ; n > 0; n -= len(zero) {
		_, _ = w.Write(zero[:min(n, len(zero))])
	}
	_ = w.Close()
	return b.Bytes()
}

func pngHead(w, h uint32, depth, colour byte, more ...[]byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, w)
	head = append(binary.BigEndian.AppendUint32(head, h), depth, colour, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", head)...)
	for _, m := range more {
		out = append(out, m...)
	}
	return append(out, chunk("IEND", nil)...)
}

// gifHead is a GIF's header of that size with a palette of two colours; frames follow.
func gifHead(w, h uint16) []byte {
	out := binary.LittleEndian.AppendUint16([]byte("GIF89a"), w)
	out = binary.LittleEndian.AppendUint16(out, h)
	return append(out, 0x80, 0, 0, 0, 0, 0, 255, 255, 255)
}

// gifFrame is a picture of one pixel.
var gifFrame = []byte{0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0}

// bombs are small files that want to become large ones; ok says that a thumbnail may come of it.
func bombs(t *testing.T) map[string]struct {
	data []byte
	ok   bool
} {
	t.Helper()
	type bomb = struct {
		data []byte
		ok   bool
	}
	pixel, huge := chunk("IDAT", deflated(2)), deflated(48<<20)
	text := append([]byte("Comment\x00\x00"), huge...)
	profile := append([]byte("icc\x00\x00"), huge...)
	big := jpegBytes(t, 8, 8)
	at := bytes.Index(big, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(big[at+5:], 65535)
	binary.BigEndian.PutUint16(big[at+7:], 65535)
	var frames []byte
	for range 20_000 {
		frames = append(frames, gifFrame...)
	}
	var animated []byte
	animated = append(animated, chunk("acTL", []byte{0, 15, 66, 64, 0, 0, 0, 0})...)
	for range 5_000 {
		animated = append(animated, chunk("fcTL", make([]byte, 26))...)
	}
	webp := func(w, h uint32) []byte {
		x := append([]byte{0x10, 0, 0, 0}, byte(w), byte(w>>8), byte(w>>16), byte(h), byte(h>>8), byte(h>>16))
		out := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(4+8+len(x)))
		out = append(append(out, "WEBPVP8X"...), 10, 0, 0, 0)
		return append(out, x...)
	}
	lossless := func(w, h uint32) []byte {
		bits := (w - 1) | (h-1)<<14
		out := append(binary.LittleEndian.AppendUint32([]byte("RIFF"), 4+8+6), "WEBPVP8L\x05\x00\x00\x00\x2f"...)
		return append(binary.LittleEndian.AppendUint32(out, bits), 0)
	}
	return map[string]bomb{
		"png of 2^31 pixels each way":    {pngHead(1<<31-1, 1<<31-1, 8, 6, pixel), false},
		"png of 50,000 each way":         {pngHead(50_000, 50_000, 16, 6, chunk("IDAT", huge)), false},
		"png of 100,000,001 in a row":    {pngHead(100_000_001, 1, 1, 0, pixel), false},
		"png of nothing":                 {pngHead(0, 0, 8, 2, pixel), false},
		"png within the limit, no data":  {pngHead(3_000, 3_000, 1, 0, pixel), false},
		"png with 48 MiB behind a pixel": {pngHead(1, 1, 8, 0, chunk("IDAT", huge)), false},
		"png with a comment of 48 MiB":   {pngHead(1, 1, 8, 0, chunk("zTXt", text), pixel), true},
		"png with a profile of 48 MiB":   {pngHead(1, 1, 8, 0, chunk("iCCP", profile), pixel), true},
		"png with 5,000 frames":          {pngHead(1, 1, 8, 0, append(animated, pixel...)), true},
		"jpeg of 65,535 each way":        {big, false},
		"gif of 65,535 each way":         {append(append(gifHead(65535, 65535), gifFrame...), 0x3b), false},
		"gif with 20,000 frames":         {append(append(gifHead(1, 1), frames...), 0x3b), true},
		"gif without an end":             {append(gifHead(1, 1), frames[:1500]...), true},
		"webp of 2^24 each way":          {webp(1<<24-1, 1<<24-1), false},
		"webp lossless of 16,384":        {lossless(16384, 16384), false},
		"bmp of 2^31":                    {[]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\xff\xff\xff\x7f\xff\xff\xff\x7f\x01\x00\x18\x00"), false},
		"tiff of 2^32":                   {[]byte("II*\x00\x08\x00\x00\x00\x02\x00\x00\x01\x04\x00\x01\x00\x00\x00\xff\xff\xff\xff\x01\x01\x04\x00\x01\x00\x00\x00\xff\xff\xff\xff"), false},
	}
}

func jpegBytes(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, w, h)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// thumb runs the task over the file and returns what it allocated.
func thumb(t *testing.T, cfg Config, data []byte) (allocated uint64, err error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(cfg.Root, "in"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	target := "out.png"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = cfg.thumbnail(t.Context(), square("in", &target, 4))
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// Not parallel: what is allocated is counted for the process.
func TestBombsDoNotGoOff(t *testing.T) {
	cfg, _ := hostileRoot(t)
	cases := bombs(t)
	for name, b := range cases {
		allocated, err := thumb(t, cfg, b.data)
		if (err == nil) != b.ok {
			t.Errorf("%s (%d bytes): %v, a thumbnail is expected: %v", name, len(b.data), err, b.ok)
		}
		if e, ok := errors.AsType[*protocol.Exception](err); err != nil && (!ok || e.Type != "ValueError") {
			t.Errorf("%s: %v is no ValueError", name, err)
		}
		if most := uint64(24<<20 + 128*len(b.data)); allocated > most {
			t.Errorf("%s (%d bytes) allocates %d MiB", name, len(b.data), allocated>>20)
		}
	}
	t.Logf("%d bombs", len(cases))
}

func TestPolyglotsAndDisguises(t *testing.T) {
	cfg, _ := hostileRoot(t)
	good := small(t)
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	if f, err := z.Create("evil.php"); err != nil {
		t.Fatal(err)
	} else if _, err := f.Write([]byte("<?php system($_GET[0]) ?>")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var picture, still bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	if err := gif.Encode(&still, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	const evil = "<script>alert(1)</script><?php system($_GET[0]) ?>"
	comment := append([]byte{0xff, 0xfe, 0, byte(2 + len(evil))}, evil...)
	cases := map[string]struct {
		data []byte
		ok   bool
	}{
		"jpeg and zip":       {append(bytes.Clone(good), archive.Bytes()...), true},
		"png and zip":        {append(bytes.Clone(picture.Bytes()), archive.Bytes()...), true},
		"jpeg with a script": {append(append(bytes.Clone(good[:2]), comment...), good[2:]...), true},
		"png with a script":  {append(bytes.Clone(picture.Bytes()[:33]), append(chunk("tEXt", []byte("Comment\x00"+evil)), picture.Bytes()[33:]...)...), true},
		"gif and script":     {append(bytes.Clone(still.Bytes()), evil...), true},
		"gif that is script": {[]byte("GIF89a/*" + evil + "*/=1;alert(1)"), false},
		"zip":                {archive.Bytes(), false},
		"zip and jpeg":       {append(bytes.Clone(archive.Bytes()), good...), false},
		"html":               {[]byte("<html>" + evil), false},
		"svg":                {[]byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>`), false},
		"xml entity":         {[]byte(`<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>`), false},
		"a billion laughs":   {[]byte(`<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>`), false},
		"postscript":         {[]byte("%!PS-Adobe-3.0\n(/etc/passwd) (r) file"), false},
		"pdf":                {[]byte("%PDF-1.7\n1 0 obj<</OpenAction"), false},
		"mvg":                {[]byte("push graphic-context\nfill 'url(https://127.0.0.1/|id)'"), false},
		"elf":                {[]byte("\x7fELF\x02\x01\x01"), false},
		"shell":              {[]byte("#!/bin/sh\nid"), false},
		"pickle":             {[]byte("\x80\x04\x95cos\nsystem\n"), false},
		"heif":               {[]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), false},
		"webp that is avi":   {[]byte("RIFF\x00\x00\x00\x00AVI LIST"), false},
		"empty":              {nil, false},
		"one byte":           {[]byte{0xff}, false},
	}
	for name, tt := range cases {
		_, err := thumb(t, cfg, tt.data)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v, a thumbnail is expected: %v", name, err, tt.ok)
		}
		if err != nil {
			continue
		}
		made, err := os.ReadFile(filepath.Join(cfg.Root, "out.png"))
		if err != nil {
			t.Fatal(err)
		}
		for _, left := range []string{"script", "php", "PK\x03\x04"} {
			if bytes.Contains(made, []byte(left)) {
				t.Errorf("%s: the thumbnail carries %q on", name, left)
			}
		}
	}
	// Every beginning of a good file is a damaged one, or a picture, and never a panic.
	cut := 0
	for _, data := range [][]byte{good, picture.Bytes(), still.Bytes()} {
		for n := 0; n < len(data); n += 1 + len(data)/29 {
			_, err := thumb(t, cfg, data[:n])
			if e, ok := errors.AsType[*protocol.Exception](err); err != nil && (!ok || e.Type != "ValueError") {
				t.Errorf("cut at %d: %v", n, err)
			}
			cut++
		}
	}
	t.Logf("%d polyglots and disguises, %d cut files", len(cases), cut)
}

// A hard link is another name of the same file: as a target it is replaced, not written through.
func TestAHardLinkIsNotWrittenThrough(t *testing.T) {
	t.Parallel()
	cfg, secret := hostileRoot(t)
	if err := os.Link(secret, filepath.Join(cfg.Root, "hard.jpg")); err != nil {
		t.Skip(err)
	}
	want, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	target := "hard.jpg"
	if _, err := cfg.thumbnail(t.Context(), square("a.jpg", &target, 2)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(secret); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file outside was changed: %v", err)
	}
	info, err := os.Stat(filepath.Join(cfg.Root, target))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v %v, want a file of mode 644", info.Mode(), err)
	}
}
