package protocol

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/andybalholm/brotli"
	bzip2writer "github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Kombu's compressions (kombu/compression.py). The header "compression" holds the content type or an alias:
//
//	application/x-gzip    gzip, zlib        a zlib stream (RFC 1950), not a gzip file
//	application/x-bz2     bzip2, bzip
//	application/x-lzma    lzma, xz          xz; legacy .lzma is read too
//	application/x-brotli  brotli
//	application/zstd      zstd, zstandard   one frame that names its content's size; any frames are read
type compression struct {
	contentType string
	aliases     []string
	deflate     func(w io.Writer) (io.WriteCloser, error)
	inflate     func(data []byte, limit int) ([]byte, error)
}

var compressions = []compression{
	{"application/x-gzip", []string{"gzip", "zlib"}, func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }, inflateZlib},
	{"application/x-bz2", []string{"bzip2", "bzip"}, func(w io.Writer) (io.WriteCloser, error) { return bzip2writer.NewWriter(w, nil) }, inflateBzip2},
	{"application/x-lzma", []string{"lzma", "xz"}, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, inflateLZMA},
	{"application/x-brotli", []string{"brotli"}, func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriter(w), nil }, inflateBrotli},
	{"application/zstd", []string{"zstd", "zstandard"}, nil, inflateZstd},
}

func findCompression(codec string) (compression, bool) {
	for _, c := range compressions {
		if c.contentType == codec {
			return c, true
		}
		for _, a := range c.aliases {
			if a == codec {
				return c, true
			}
		}
	}
	return compression{}, false
}

// Compress compresses by alias or content type and returns the header value ("application/x-gzip").
func Compress(codec string, data []byte) (out []byte, contentType string, err error) {
	c, ok := findCompression(codec)
	if !ok {
		return nil, "", &EncodeError{Err: fmt.Errorf("unknown compression %q", clip(codec))}
	}
	if c.deflate == nil { // zstd: only EncodeAll knows the size beforehand
		out, err := deflateZstd(data)
		return out, c.contentType, err
	}
	var b bytes.Buffer
	w, err := c.deflate(&b)
	if err == nil {
		if _, err = w.Write(data); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return nil, "", &EncodeError{Err: fmt.Errorf("%s: %w", c.contentType, err)}
	}
	return b.Bytes(), c.contentType, nil
}

// The encoders are costly to make and safe to share: EncodeAll keeps no state between calls. For less
// than 256 bytes the size is only written with a single segment, which for much would ask the reader
// for a window as large.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2))
	})
	zstdTinyEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithSingleSegment(true), zstd.WithWindowSize(zstd.MinWindowSize))
	})
)

func deflateZstd(data []byte) ([]byte, error) {
	if len(data) == 0 { // which EncodeAll would turn into no frame at all
		return slices.Clone(emptyZstd), nil
	}
	encoder := zstdEncoder
	if len(data) < 256 {
		encoder = zstdTinyEncoder
	}
	e, err := encoder()
	if err != nil {
		return nil, &EncodeError{Err: err}
	}
	return e.EncodeAll(data, nil), nil
}

// emptyZstd is the frame of nothing: magic, one segment of size 0, one last raw block of size 0.
var emptyZstd = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00}

// Decompress inflates by content type or alias, up to l.Inflated bytes (more: ErrTooLarge). What
// follows the compressed data is refused. Errors are *DecodeError.
func Decompress(codec string, data []byte, l Limits) ([]byte, error) {
	c, ok := findCompression(codec)
	if !ok {
		return nil, &DecodeError{Part: "compression", Err: fmt.Errorf("unknown compression %q", clip(codec))}
	}
	out, err := c.inflate(data, l.inflated())
	if err != nil {
		return nil, &DecodeError{Part: "compression", Err: fmt.Errorf("%s: %w", c.contentType, err)}
	}
	return out, nil
}

var errTrailing = errors.New("data after the end of the stream")

// readLimited reads all of r, whose reader must keep its own memory within bounds.
func readLimited(r io.Reader, limit int) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if n > int64(limit) {
		return nil, tooLarge(limit)
	}
	return b.Bytes(), nil
}

func tooLarge(limit int) error {
	return fmt.Errorf("inflates to more than %d bytes: %w", limit, ErrTooLarge)
}

func inflateZlib(data []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(data)
	r, err := zlib.NewReader(src)
	if err != nil {
		return nil, err
	}
	out, err := readLimited(r, limit)
	if err == nil && src.Len() > 0 {
		return nil, errTrailing
	}
	return out, err
}

// inflateBzip2 needs no more memory than bzip2's blocks of 900 kB. Several streams in a row are one.
func inflateBzip2(data []byte, limit int) ([]byte, error) {
	return readLimited(bzip2.NewReader(bytes.NewReader(data)), limit)
}

// inflateBrotli: a window has at most 16 MiB.
func inflateBrotli(data []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(data)
	return readLimited(brotli.NewReader(src), limit)
}

// maxZstdWindow is libzstd's own bound. The output is the window here: it costs nothing of its own.
const maxZstdWindow = 128 << 20

func inflateZstd(data []byte, limit int) ([]byte, error) {
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(limit)+1), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	out, err := d.DecodeAll(data, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), err == nil && len(out) > limit:
		return nil, tooLarge(limit)
	case err != nil:
		return nil, err
	}
	return out, nil
}

// inflateLZMA reads xz, several streams in a row too, and legacy .lzma.
func inflateLZMA(data []byte, limit int) ([]byte, error) {
	if bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")) {
		return inflateXZ(data, limit)
	}
	return inflateLegacyLZMA(data, limit)
}

func inflateLegacyLZMA(data []byte, limit int) ([]byte, error) {
	const header = 13 // properties, dictionary size, uncompressed size
	if len(data) < header {
		return nil, io.ErrUnexpectedEOF
	}
	if binary.LittleEndian.Uint32(data[1:]) > maxDict {
		return nil, errDict
	}
	if size := binary.LittleEndian.Uint64(data[5:]); size != 1<<64-1 && size > uint64(limit) {
		return nil, tooLarge(limit)
	}
	r, err := lzma.ReaderConfig{DictCap: maxDict}.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return readLimited(r, limit)
}
