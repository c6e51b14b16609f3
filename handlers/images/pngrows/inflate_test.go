package pngrows

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"io"
	"math/rand/v2"
	"testing"
)

// inflated takes all of z in pieces.
func inflated(z []byte, piece int) ([]byte, error) {
	f := newInflater(func() []byte {
		if len(z) == 0 {
			return nil
		}
		p := z[:min(piece, len(z))]
		z = z[len(p):]
		return p
	}, 1)
	if err := f.begin(); err != nil {
		return nil, err
	}
	var out []byte
	for {
		b, err := f.take(1)
		if err != nil || b == nil {
			return out, err
		}
		out = append(out, b...)
		for f.read < f.written {
			out = append(out, f.out[f.read:f.written]...)
			f.read = f.written
		}
	}
}

// texts are bytes of all sorts: noise, runs at every distance, few letters, long repeats.
func texts(rnd *rand.Rand, most int) []byte {
	n := 1 << rnd.IntN(most)
	out := make([]byte, 0, n+300)
	for len(out) < n {
		switch k := rnd.IntN(6); {
		case k == 0:
			for range rnd.IntN(300) {
				out = append(out, byte(rnd.Uint32()))
			}
		case k == 1:
			v := byte(rnd.Uint32())
			for range rnd.IntN(600) {
				out = append(out, v)
			}
		case k == 2 && len(out) > 0:
			d := 1 + rnd.IntN(min(len(out), 32768))
			for range rnd.IntN(400) {
				out = append(out, out[len(out)-d])
			}
		case k == 3 && len(out) > 12:
			d := 1 + rnd.IntN(12)
			for range rnd.IntN(60) {
				out = append(out, out[len(out)-d])
			}
		default:
			for range rnd.IntN(300) {
				out = append(out, byte(rnd.ExpFloat64()*4))
			}
		}
	}
	return out
}

func TestInflate(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 96 {
		most := 15
		if i%8 == 0 { // now and then more than the window and what is inflated ahead
			most = 20
		}
		want := texts(rnd, most)
		var z bytes.Buffer
		w, err := zlib.NewWriterLevel(&z, flate.HuffmanOnly+i%12)
		if err != nil {
			t.Fatal(err)
		}
		for rest := want; len(rest) > 0; { // several blocks
			n := min(1+rnd.IntN(100_000), len(rest))
			_, _ = w.Write(rest[:n])
			if rnd.IntN(2) == 0 {
				_ = w.Flush()
			}
			rest = rest[n:]
		}
		_ = w.Close()
		piece := 1 + rnd.IntN(1<<rnd.IntN(18))
		got, err := inflated(z.Bytes(), piece)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d: %d bytes of %d, %v", i, len(got), len(want), err)
		}
		if i%10 == 0 { // cut short (more than the checksum), it is an error, of which what came before is right
			cut := z.Bytes()[:rnd.IntN(z.Len()-4)]
			got, err := inflated(cut, piece)
			if err == nil || !bytes.HasPrefix(want, got) {
				t.Fatalf("%d: cut to %d of %d: %d bytes, %v", i, len(cut), z.Len(), len(got), err)
			}
		}
	}
}

// FuzzInflate compares with the standard library: what one refuses the other does too, and what it gives is the same.
func FuzzInflate(f *testing.F) {
	for _, level := range []int{0, 1, 6, 9, flate.HuffmanOnly} {
		var z bytes.Buffer
		w, _ := zlib.NewWriterLevel(&z, level)
		_, _ = w.Write([]byte("hello hello hello, hello; aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabcabcabcabcabc"))
		_ = w.Close()
		f.Add(z.Bytes())
	}
	f.Fuzz(func(t *testing.T, z []byte) {
		got, err := inflated(z, 7)
		if len(z) < 2 {
			if err == nil {
				t.Fatal("no header, no error")
			}
			return
		}
		if err != nil && len(got) == 0 {
			if _, bad := zlib.NewReader(bytes.NewReader(z)); bad != nil {
				return
			}
		}
		want, wrong := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(z[2:])), 1<<24))
		if len(want) == 1<<24 {
			return
		}
		if (err == nil) != (wrong == nil) {
			t.Fatalf("%v, the standard library: %v", err, wrong)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want %d", len(got), len(want))
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var noise []byte
	for range 4 << 20 {
		noise = append(noise, byte(rnd.NormFloat64()*6))
	}
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	_, _ = w.Write(noise)
	_ = w.Close()
	b.SetBytes(int64(len(noise)))
	for b.Loop() {
		if _, err := inflated(z.Bytes(), 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
