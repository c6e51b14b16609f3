package pngrows

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image/png"
	"math/rand/v2"
	"testing"
)

// mended is the file with every checksum right.
func mended(data []byte) []byte {
	out := bytes.Clone(data)
	for at := 8; len(out)-at >= 12; {
		n := int(binary.BigEndian.Uint32(out[at:]))
		if n > len(out)-at-12 {
			break
		}
		binary.BigEndian.PutUint32(out[at+8+n:], crc32.ChecksumIEEE(out[at+4:at+8+n]))
		at += 12 + n
	}
	return out
}

// FuzzRows compares with image/png: what that reads, this reads too, with the same pixels.
func FuzzRows(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, kind := range kinds {
		f.Add(draw(rnd, kind, 1+rnd.IntN(12), 1+rnd.IntN(12)).file(rnd))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = mended(data)
		head, err := DecodeHeader(data)
		if err != nil || head.Width*head.Height > 1<<20 {
			return
		}
		want, wrong := png.Decode(bytes.NewReader(data))
		r, err := NewReader(data)
		if err == nil && wrong == nil {
			same(t, data, r, want)
			return
		}
		if wrong == nil {
			t.Fatalf("%v, image/png reads it", err)
		}
		for err == nil && r.y < r.Height { // it may read what image/png refuses, but no more than that
			if r.Deep {
				_, err = r.Row16()
			} else {
				_, err = r.Row()
			}
		}
	})
}
