package images

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// inflateProfile reads PNG's iCCP:  name 00 method(1, always 0) zlib data
func inflateProfile(payload []byte) []byte {
	end := bytes.IndexByte(payload, 0)
	if end < 0 || end > 79 || end+2 > len(payload) || payload[end+1] != 0 {
		return nil
	}
	z, err := zlib.NewReader(bytes.NewReader(payload[end+2:]))
	if err != nil {
		return nil
	}
	profile, err := io.ReadAll(io.LimitReader(z, maxProfile+1))
	if err != nil || len(profile) > maxProfile {
		return nil
	}
	return profile
}

// fitting returns the profile if it describes pictures of the model: one for CMYK means nothing to RGB.
func fitting(icc []byte, m model) []byte {
	want := "RGB "
	if m == modelGray {
		want = "GRAY"
	}
	if len(icc) < 128 || string(icc[16:20]) != want {
		return nil
	}
	return icc
}

// jpegProfile is the profile as APP2 segments, to stand directly behind a JPEG's first two bytes.
func jpegProfile(icc []byte) []byte {
	const most = 65535 - 2 - 14
	parts := (len(icc) + most - 1) / most
	if parts > 255 {
		return nil
	}
	var out []byte
	for i := range parts {
		part := icc[i*most : min((i+1)*most, len(icc))]
		out = append(out, 0xff, 0xe2)
		out = binary.BigEndian.AppendUint16(out, uint16(2+14+len(part)))
		out = append(out, "ICC_PROFILE\x00"...)
		out = append(out, byte(i+1), byte(parts))
		out = append(out, part...)
	}
	return out
}

// pngProfile is the profile as an iCCP chunk, to stand directly behind a PNG's header chunk.
func pngProfile(icc []byte) []byte {
	if len(icc) == 0 {
		return nil
	}
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(icc) // a bytes.Buffer does not fail
	w.Close()
	chunk := append([]byte("iCCPicc\x00\x00"), z.Bytes()...) // name, method
	out := binary.BigEndian.AppendUint32(nil, uint32(len(chunk)-4))
	out = append(out, chunk...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
}

// pngEXIF is EXIF as an eXIf chunk.
func pngEXIF(tiff []byte) []byte {
	if len(tiff) == 0 {
		return nil
	}
	chunk := append([]byte("eXIf"), tiff...)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(tiff)))
	out = append(out, chunk...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
}

// jpegEXIF is EXIF as an APP1 segment.
func jpegEXIF(tiff []byte) ([]byte, error) {
	const head, most = "Exif\x00\x00", 65535 - 2
	switch {
	case len(tiff) == 0:
		return nil, nil
	case len(head)+len(tiff) > most:
		return nil, valueError("the metadata of the source are %d bytes long, a JPEG can have %d: a PNG can keep them", len(tiff), most-len(head))
	}
	out := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(2+len(head)+len(tiff)))
	return append(append(out, head...), tiff...), nil
}
