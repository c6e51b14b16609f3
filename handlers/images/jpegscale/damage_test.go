package jpegscale

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sound are small files of every kind.
func sound(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	r := rand.New(rand.NewPCG(3, 4))
	for name, d := range map[string]drawing{
		"grey":        {w: 50, h: 30, adobe: -1, factors: [][2]int{{1, 1}}},
		"420":         {w: 50, h: 40, adobe: -1, factors: [][2]int{{2, 2}, {1, 1}, {1, 1}}},
		"odd":         {w: 50, h: 40, adobe: -1, factors: [][2]int{{1, 2}, {3, 1}, {1, 4}}, separate: true},
		"restart":     {w: 90, h: 40, adobe: -1, factors: [][2]int{{2, 1}, {1, 1}, {1, 1}}, restart: 2},
		"progressive": {w: 50, h: 40, adobe: -1, factors: [][2]int{{2, 2}, {1, 1}, {1, 1}}, progressive: true},
		"cmyk":        {w: 30, h: 20, adobe: 2, factors: [][2]int{{1, 1}, {1, 1}, {1, 1}, {1, 1}}, restart: 5},
		"bare":        {w: 30, h: 20, adobe: -1, factors: [][2]int{{1, 1}}, noTables: true, noEOI: true, fill: true, wide: true},
	} {
		d.fillIn(r)
		out[name] = d.encode()
	}
	for _, name := range []string{"o1.jpg", "o2.jpg"} {
		data, err := os.ReadFile(filepath.Join("../testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = data
	}
	return out
}

// tryAll decodes at every scale, strictly and not, and returns whether the file passed strictly at full size. Whatever the data, what
// comes back is a whole picture or an error.
func tryAll(t testing.TB, name string, data []byte) (strict bool) {
	t.Helper()
	const most = 4 << 20
	for _, n := range []Scale{Eighth, Quarter, Half, Full} {
		for _, lenient := range []bool{false, true} {
			o := Options{Scale: n, Lenient: lenient, MaxMemory: most}
			if n > Eighth && lenient {
				o.Coarser = []Scale{Eighth}
			}
			if !lenient {
				o.MaxDetail = 1e6
			}
			img, err := Decode(data, o)
			if err != nil {
				if img != nil {
					t.Errorf("%s: a picture and an error", name)
				}
				continue
			}
			if !lenient && img.Damage != nil {
				t.Errorf("%s: damage %v passes", name, img.Damage)
			}
			strict = strict || !lenient && n == Full
			for _, img := range append([]*Image{img}, img.Coarser...) {
				for _, p := range img.Planes {
					if samples := max(len(p.Pix), len(p.Fine)); p.W > p.Stride || (p.H-1)*p.Stride+p.W > samples || p.W*8 < p.FullW*int(img.Scale) || p.H*8 < p.FullH*int(img.Scale) {
						t.Errorf("%s: %d x %d, stride %d, %d samples of %d x %d", name, p.W, p.H, p.Stride, samples, p.FullW, p.FullH)
					}
				}
			}
		}
	}
	return strict
}

// Files cut at every byte, with bits flipped, with parts left out, doubled and exchanged: none panics, none runs on, and none that is cut
// passes for whole.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	tried, passed := 0, 0
	try := func(name string, data []byte) {
		tried++
		if tryAll(t, name, data) {
			passed++
		}
	}
	for name, data := range sound(t) {
		if !tryAll(t, name, data) {
			t.Errorf("%s is sound and does not pass", name)
		}
		// The last bytes are those of the end marker, and maybe some that are not needed.
		scan := bytes.LastIndex(data, []byte{0xff, markSOS})
		for n := 0; n < len(data); n += 1 + len(data)/200 {
			tried++
			if tryAll(t, fmt.Sprintf("%s cut at %d", name, n), data[:n]) && n < scan {
				t.Errorf("%s of %d bytes cut at %d passes for whole", name, len(data), n)
			}
		}
		for range 150 {
			bad := bytes.Clone(data)
			for range 1 + r.IntN(4) {
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			}
			try(name+" with bits flipped", bad)
			a, b := r.IntN(len(data)), r.IntN(len(data))
			try(name+" spliced", append(bytes.Clone(data[:a]), data[b:]...))
		}
	}
	t.Logf("%d damaged files, %d decode all the same", tried, passed)
}

// Of a file that is cut, what stands before the cut is decoded, and the rest is grey.
func TestLenientGoesAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	d := drawing{w: 64, h: 640, adobe: -1, factors: [][2]int{{1, 1}}}
	d.fillIn(rand.New(rand.NewPCG(1, 1)))
	whole := d.encode()
	for _, n := range []Scale{Eighth, Quarter, Half, Full} {
		want, err := Decode(whole, Options{Scale: n})
		if err != nil {
			t.Fatal(err)
		}
		cut := whole[:len(whole)/2]
		if _, err := Decode(cut, Options{Scale: n}); err == nil {
			t.Errorf("scale %d: half a file passes", n)
		}
		got, err := Decode(cut, Options{Scale: n, Lenient: true})
		if err != nil || got.Damage == nil {
			t.Fatalf("scale %d: %v, damage %v", n, err, got)
		}
		p, q := want.Planes[0], got.Planes[0]
		value := func(p Plane, at int) int {
			if p.Fine != nil {
				return int(p.Fine[at])>>FineBits - FineZero
			}
			return int(p.Pix[at])
		}
		for y := range p.H / 3 {
			for x := range p.W {
				if value(p, y*p.Stride+x) != value(q, y*q.Stride+x) {
					t.Fatalf("scale %d: sample %d, %d differs", n, x, y)
				}
			}
		}
		if last := (q.H-1)*q.Stride + q.W - 1; value(q, last) != 128 {
			t.Errorf("scale %d: the last sample is %d, want grey", n, value(q, last))
		}
	}
}

// With restart intervals damage ends with its interval.
func TestRestartIntervalsEndDamage(t *testing.T) {
	t.Parallel()
	d := drawing{w: 80, h: 80, adobe: -1, factors: [][2]int{{1, 1}}, restart: 10}
	d.fillIn(rand.New(rand.NewPCG(2, 2)))
	data := d.encode()
	want, err := Decode(data, Options{Scale: Eighth})
	if err != nil {
		t.Fatal(err)
	}
	rst := func(n byte) int { return bytes.Index(data, []byte{0xff, markRST0 + n}) }
	for name, bad := range map[string][]byte{
		"an interval is cut short":        append(bytes.Clone(data[:rst(2)+4]), data[rst(3):]...),
		"an interval and its marker miss": append(bytes.Clone(data[:rst(2)]), data[rst(3):]...),
		"an interval comes twice":         append(bytes.Clone(data[:rst(3)]), data[rst(2):]...),
	} {
		if _, err := Decode(bad, Options{Scale: Eighth}); err == nil {
			t.Errorf("%s: no error", name)
		}
		got, err := Decode(bad, Options{Scale: Eighth, Lenient: true})
		if err != nil || got.Damage == nil {
			t.Fatalf("%s: %v, %+v", name, err, got)
		}
		p, q := want.Planes[0], got.Planes[0]
		for y := range 10 {
			for x := range 10 {
				if same := p.Fine[y*p.Stride+x] == q.Fine[y*q.Stride+x]; !same && y != 3 && y != 2 {
					t.Errorf("%s: sample %d, %d is lost", name, x, y)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := drawing{w: 16, h: 16, adobe: -1, factors: [][2]int{{1, 1}}}
	d.fillIn(rand.New(rand.NewPCG(2, 2)))
	data := d.encode()
	sof := bytes.Index(data, []byte{0xff, 0xc1})
	with := func(change func(data []byte)) []byte {
		bad := bytes.Clone(data)
		change(bad)
		return bad
	}
	for name, tt := range map[string]struct {
		data        []byte
		text        string
		unsupported bool
	}{
		"12 bits":                 {with(func(b []byte) { b[sof+4] = 12 }), "JPEG of 12 bits", true},
		"lossless":                {with(func(b []byte) { b[sof+1] = 0xc3 }), "lossless JPEG", true},
		"hierarchical":            {with(func(b []byte) { b[sof+1] = 0xc5 }), "hierarchical JPEG", true},
		"arithmetic":              {with(func(b []byte) { b[sof+1] = 0xc9 }), "JPEG with arithmetic coding", true},
		"progressive, arithmetic": {with(func(b []byte) { b[sof+1] = 0xca }), "JPEG with arithmetic coding", true},
		"DNL":                     {with(func(b []byte) { b[sof+5], b[sof+6] = 0, 0 }), "(DNL)", true},
		"two components":          {with(func(b []byte) { b[sof+9] = 2 }), "", false},
		"no width":                {with(func(b []byte) { b[sof+7], b[sof+8] = 0, 0 }), "width is 0", false},
		"no picture":              {[]byte("GIF89a"), "no JPEG", false},
		"nothing":                 {nil, "no JPEG", false},
	} {
		_, headerErr := ReadHeader(tt.data)
		_, err := Decode(tt.data, Options{Lenient: true})
		for _, err := range []error{err, headerErr} {
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(tt.text)) || tt.unsupported != errors.Is(err, ErrUnsupported) && tt.text != "" {
				t.Errorf("%s: %v, want %q", name, err, tt.text)
			}
		}
	}
}

// A header may promise what it likes: nothing is allocated beyond the limit, and a scan that goes over the picture again and
// again comes to an end.
func TestBounds(t *testing.T) {
	d := drawing{w: 16, h: 16, adobe: -1, factors: [][2]int{{2, 2}, {1, 1}, {1, 1}}, progressive: true}
	d.fillIn(rand.New(rand.NewPCG(2, 2)))
	data := d.encode()
	sof := bytes.Index(data, []byte{0xff, 0xc2})
	for i := range 4 {
		data[sof+5+i] = 0xff
	}
	h, err := ReadHeader(data)
	if err != nil || h.Width != 65535 || h.Memory(Full) < 15<<30 || h.Memory(Eighth) > 1<<30 {
		t.Errorf("%+v, %v: %d bytes", h, err, h.Memory(Full))
	}
	if n := testing.AllocsPerRun(5, func() {
		if _, err := Decode(data, Options{MaxMemory: 1 << 30}); err == nil || !errors.Is(err, ErrUnsupported) {
			t.Error("4 gigapixels are decoded in 1 GiB")
		}
	}); n > 100 {
		t.Errorf("%v allocations", n)
	}
	// Thousands of scans, each of a few bytes, over 4 megapixels.
	d = drawing{w: 2000, h: 2000, adobe: -1, factors: [][2]int{{1, 1}}, progressive: true, noEOI: true}
	d.coefs = [][][64]int32{make([][64]int32, 250*250)}
	for k := range d.quant {
		d.quant[k] = 1
	}
	many := d.encode()
	sos := bytes.Index(many, []byte{0xff, markSOS})
	second := sos + 2 + bytes.Index(many[sos+2:], []byte{0xff, markSOS})
	again := bytes.Clone(many[second:])
	many = many[:second] // one bit of each DC never comes
	for range 5000 {
		many = append(many, again[:12]...)
	}
	for _, lenient := range []bool{false, true} {
		start := time.Now()
		img, err := Decode(many, Options{Lenient: lenient})
		if lenient != (err == nil) || lenient && img.Damage == nil {
			t.Errorf("lenient %v: %v", lenient, err)
		}
		if took := time.Since(start); took > 60*time.Second {
			t.Errorf("took %v", took)
		}
	}
	stop := errors.New("enough")
	calls := 0
	if _, err := Decode(many, Options{Lenient: true, Check: func() error {
		if calls++; calls == 10 {
			return stop
		}
		return nil
	}}); !errors.Is(err, stop) {
		t.Errorf("interrupted: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, data := range sound(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		tryAll(t, "fuzz", data)
		if h, err := ReadHeader(data); err == nil && (h.Width <= 0 || h.Height <= 0 || len(h.Sampling) == 0) {
			t.Errorf("%+v", h)
		}
	})
}
