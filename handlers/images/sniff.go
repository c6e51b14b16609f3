package images

import "bytes"

// The formats that are read; the first two are also written.
const (
	formatJPEG = "jpeg"
	formatPNG  = "png"
	formatGIF  = "gif"
	formatWebP = "webp"
)

// sniff names the format of a file by its first bytes. readable is false for the formats that are known but not
// read here; both are zero for what is no picture at all.
func sniff(data []byte) (format string, readable bool) {
	for _, m := range []struct {
		magic, name string
		readable    bool
	}{
		{"\xff\xd8\xff", formatJPEG, true},
		{"\x89PNG\r\n\x1a\n", formatPNG, true},
		{"GIF87a", formatGIF, true},
		{"GIF89a", formatGIF, true},
		{"II*\x00", "TIFF", false},
		{"MM\x00*", "TIFF", false},
		{"II+\x00", "TIFF", false},
		{"MM\x00+", "TIFF", false},
		{"BM", "BMP", false},
		{"\xff\x0a", "JPEG XL", false},
		{"\x00\x00\x00\x0cJXL ", "JPEG XL", false},
		{"\x00\x00\x00\x0cjP  ", "JPEG 2000", false},
		{"\xff\x4f\xff\x51", "JPEG 2000", false},
		{"\x00\x00\x01\x00", "ICO", false},
		{"8BPS", "Photoshop", false},
		{"%PDF-", "PDF", false},
		{"%!PS", "PostScript", false},
	} {
		if bytes.HasPrefix(data, []byte(m.magic)) {
			return m.name, m.readable
		}
	}
	if len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP" {
		return formatWebP, true
	}
	if len(data) >= 12 && string(data[4:8]) == "ftyp" {
		return sniffFtyp(data), false
	}
	head := data[:min(len(data), 4096)]
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if bytes.HasPrefix(text, []byte("<")) && bytes.Contains(text, []byte("<svg")) {
		return "SVG", false
	}
	return "", false
}

// sniffFtyp tells AVIF from HEIC by the brands of the ISO container; mif1 and msf1 stand for either.
func sniffFtyp(data []byte) string {
	brands := data[8:min(len(data), 64)]
	switch {
	case bytes.Contains(brands, []byte("avif")), bytes.Contains(brands, []byte("avis")):
		return "AVIF"
	case bytes.Contains(brands, []byte("hei")), bytes.Contains(brands, []byte("hev")), bytes.Contains(brands, []byte("mif1")), bytes.Contains(brands, []byte("msf1")):
		return "HEIC"
	}
	return "a video (ISO media)"
}
