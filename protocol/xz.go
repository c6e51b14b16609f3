package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// An xz file, read here rather than by the library because each block's header says how much memory
// its dictionary takes, up to 4 GiB, and the library believes every one:
//
//	stream   fd 37 7a 58 5a 00, flags (2), CRC-32; blocks; index; footer
//	block    header size/4-1, flags, [sizes], filters, padding, CRC-32; LZMA2 data; padding to 4; check
//	index    00, number of blocks, (unpadded size, size) of each, padding to 4, CRC-32
//	footer   CRC-32, size of the index, flags (2), "YZ"
//	several streams in a row, with multiples of four zero bytes between them, are one
//
// Filters other than LZMA2 alone (delta, BCJ), which no default writes, are refused.

const (
	// maxDict is the largest dictionary that liblzma's presets write (-9).
	maxDict = 64 << 20
	// maxDicts is how much all blocks together may allocate for theirs.
	maxDicts = 1 << 30
)

var (
	errDict = fmt.Errorf("dictionaries of too many bytes: %w", ErrTooLarge)
	errXZ   = errors.New("damaged xz data")
)

type xzReader struct {
	src   *bytes.Reader
	out   bytes.Buffer
	limit int
	dicts int // allocated so far
	index []xzBlock
}

type xzBlock struct{ unpadded, size uint64 }

func inflateXZ(data []byte, limit int) ([]byte, error) {
	r := xzReader{src: bytes.NewReader(data), limit: limit}
	for {
		if err := r.stream(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		rest := data[len(data)-r.src.Len():]
		next := bytes.TrimLeft(rest, "\x00")
		if (len(rest)-len(next))%4 != 0 {
			return nil, errXZ
		}
		if len(next) == 0 {
			return r.out.Bytes(), nil
		}
		r.src = bytes.NewReader(next)
		data = next
	}
}

// take reads n bytes; n is small.
func (r *xzReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r.src, b)
	return b, err
}

func crcMatches(b []byte, sum []byte) bool {
	return crc32.ChecksumIEEE(b) == binary.LittleEndian.Uint32(sum)
}

func (r *xzReader) stream() error {
	h, err := r.take(12)
	if err != nil {
		return err
	}
	flags := h[6:8]
	if !bytes.HasPrefix(h, []byte("\xfd7zXZ\x00")) || flags[0] != 0 || !crcMatches(flags, h[8:]) {
		return errXZ
	}
	r.index = nil
	for {
		size, err := r.src.ReadByte()
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		if err := r.block(int(size)*4+4, flags[1]); err != nil {
			return err
		}
	}
	n, err := r.checkIndex()
	if err != nil {
		return err
	}
	f, err := r.take(12)
	if err != nil {
		return err
	}
	if !crcMatches(f[4:10], f) || int64(binary.LittleEndian.Uint32(f[4:]))*4+4 != n || !bytes.Equal(f[8:10], flags) || string(f[10:]) != "YZ" {
		return errXZ
	}
	return nil
}

// block reads a block whose header of the given size starts with the byte just read.
func (r *xzReader) block(size int, check byte) error {
	rest, err := r.take(size - 1)
	if err != nil {
		return err
	}
	h := append([]byte{byte(size/4 - 1)}, rest...)
	if !crcMatches(h[:size-4], h[size-4:]) {
		return errXZ
	}
	packed, unpacked, dict, err := xzBlockHeader(h[1 : size-4])
	if err != nil {
		return err
	}
	if dict = min(dict, max(r.limit, lzma.MinDictCap)); r.dicts+dict > maxDicts {
		return errDict
	}
	r.dicts += dict
	sum, err := newXZCheck(check)
	if err != nil {
		return err
	}
	before, start := r.src.Len(), r.out.Len()
	z, err := lzma.Reader2Config{DictCap: dict}.NewReader2(r.src)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.MultiWriter(&r.out, sum), io.LimitReader(z, int64(r.limit-start)+1)); err != nil {
		return err
	}
	if r.out.Len() > r.limit {
		return tooLarge(r.limit)
	}
	got := xzBlock{uint64(before - r.src.Len()), uint64(r.out.Len() - start)}
	if packed >= 0 && uint64(packed) != got.unpadded || unpacked >= 0 && uint64(unpacked) != got.size {
		return errXZ
	}
	padding, err := r.take(int(-got.unpadded & 3))
	if err != nil {
		return err
	}
	want, err := r.take(sum.Size())
	if err != nil {
		return err
	}
	if len(bytes.Trim(padding, "\x00")) > 0 || !bytes.Equal(sum.Sum(nil), want) {
		return errXZ
	}
	got.unpadded += uint64(size + len(want))
	r.index = append(r.index, got)
	return nil
}

// xzBlockHeader reads flags, sizes (-1: not given) and the one filter.
func xzBlockHeader(h []byte) (packed, unpacked int64, dict int, err error) {
	packed, unpacked = -1, -1
	flags, h := h[0], h[1:]
	if flags&0x3c != 0 {
		return 0, 0, 0, errXZ
	}
	number := func() (n int64) {
		u, size := binary.Uvarint(h)
		if size <= 0 || size > 9 {
			err, h = errXZ, nil
			return 0
		}
		h = h[size:]
		return int64(u)
	}
	if flags&0x40 != 0 {
		packed = number()
	}
	if flags&0x80 != 0 {
		unpacked = number()
	}
	id, props := number(), number()
	switch {
	case err != nil:
		return 0, 0, 0, err
	case flags&3 != 0 || id != 0x21:
		return 0, 0, 0, errors.New("xz filter other than LZMA2")
	case props != 1 || len(h) == 0:
		return 0, 0, 0, errXZ
	}
	size, err := lzma.DecodeDictCap(h[0])
	if err != nil {
		return 0, 0, 0, err
	}
	if size > maxDict {
		return 0, 0, 0, errDict
	}
	return packed, unpacked, int(size), nil
}

func newXZCheck(kind byte) (hash.Hash, error) {
	switch kind {
	case 0:
		return noCheck{}, nil
	case 1:
		return littleEndian{crc32.NewIEEE()}, nil
	case 4:
		return littleEndian{crc64.New(crc64.MakeTable(crc64.ECMA))}, nil
	case 10:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("unknown xz check %d", kind)
}

// littleEndian turns a checksum's bytes round.
type littleEndian struct{ hash.Hash }

func (h littleEndian) Sum(b []byte) []byte {
	sum := h.Hash.Sum(nil)
	for i := len(sum) - 1; i >= 0; i-- {
		b = append(b, sum[i])
	}
	return b
}

// noCheck is the check of a stream without one.
type noCheck struct{}

func (noCheck) Write(p []byte) (int, error) { return len(p), nil }
func (noCheck) Sum(b []byte) []byte         { return b }
func (noCheck) Reset()                      {}
func (noCheck) Size() int                   { return 0 }
func (noCheck) BlockSize() int              { return 1 }

// checkIndex compares the index, whose first byte is read, with the blocks; n is its size.
func (r *xzReader) checkIndex() (n int64, err error) {
	want := binary.AppendUvarint([]byte{0}, uint64(len(r.index)))
	for _, b := range r.index {
		want = binary.AppendUvarint(binary.AppendUvarint(want, b.unpadded), b.size)
	}
	for len(want)%4 != 0 {
		want = append(want, 0)
	}
	got, err := r.take(len(want) - 1 + 4)
	if err != nil {
		return 0, err
	}
	got = append([]byte{0}, got...)
	if !bytes.Equal(got[:len(want)], want) || !crcMatches(want, got[len(want):]) {
		return 0, errXZ
	}
	return int64(len(got)), nil
}
