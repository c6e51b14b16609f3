package images

import (
	"bytes"
	"encoding/binary"
)

// What a header says beside the size. Everything here reads hostile bytes: each length is checked against
// what is there, each loop moves forward, and what makes no sense is treated as absent.
type metadata struct {
	orientation int    // 1 to 8
	icc         []byte // colour profile, or nil
	exif        []byte // a TIFF structure in the file's own bytes, or nil
	interlaced  bool   // PNG
}

const (
	maxProfile = 4 << 20
	maxTags    = 4096 // entries of the first EXIF directory that are looked at
)

// readMetadata finds orientation and colour profile in the file data.
func readMetadata(format string, data []byte) metadata {
	var m metadata
	switch format {
	case formatJPEG:
		m = jpegMetadata(data)
	case formatPNG:
		m = pngMetadata(data)
	case formatWebP:
		m = webpMetadata(data)
	}
	if m.orientation < 1 || m.orientation > 8 {
		m.orientation = 1
	}
	if len(m.icc) < 128 || len(m.icc) > maxProfile {
		m.icc = nil
	}
	return m
}

// jpegMetadata walks the segments before the scan:  FF marker length(2, itself included) payload
func jpegMetadata(data []byte) metadata {
	var m metadata
	var profile [256][]byte
	var parts int
	rest := data[min(2, len(data)):]
	for {
		start := bytes.IndexByte(rest, 0xff)
		if start < 0 {
			break
		}
		for rest = rest[start:]; len(rest) > 0 && rest[0] == 0xff; { // a marker may be padded with more FF
			rest = rest[1:]
		}
		if len(rest) < 3 {
			break
		}
		marker := rest[0]
		if marker == 0 || marker == 1 || marker >= 0xd0 && marker <= 0xd7 { // no payload
			rest = rest[1:]
			continue
		}
		length := int(binary.BigEndian.Uint16(rest[1:]))
		if marker == 0xda || marker == 0xd9 || length < 2 || 1+length > len(rest) {
			break
		}
		payload := rest[3 : 1+length]
		rest = rest[1+length:]
		switch {
		case marker == 0xe1 && m.orientation == 0:
			if tiff, ok := bytes.CutPrefix(payload, []byte("Exif\x00\x00")); ok {
				m.orientation, m.exif = orientation(tiff), tiff
			}
		case marker == 0xe2:
			if part, ok := bytes.CutPrefix(payload, []byte("ICC_PROFILE\x00")); ok && len(part) > 2 {
				profile[part[0]], parts = part[2:], int(part[1])
			}
		}
	}
	if parts > 0 {
		for i := 1; i <= parts; i++ {
			if profile[i] == nil { // incomplete: none
				m.icc = nil
				break
			}
			m.icc = append(m.icc, profile[i]...)
		}
	}
	return m
}

// pngMetadata walks the chunks:  length(4) type(4) data crc(4)
func pngMetadata(data []byte) metadata {
	var m metadata
	seen := false                                  // a second profile is not inflated: a file may hold a million of them
	m.interlaced = len(data) > 28 && data[28] != 0 // the last byte of IHDR, which comes first
	rest := data[min(8, len(data)):]
	for len(rest) >= 12 {
		length := uint64(binary.BigEndian.Uint32(rest))
		if length+12 > uint64(len(rest)) {
			break
		}
		kind, payload := string(rest[4:8]), rest[8:8+length]
		rest = rest[12+length:]
		switch kind {
		case "eXIf":
			m.orientation, m.exif = orientation(payload), payload
		case "iCCP":
			if !seen {
				seen, m.icc = true, inflateProfile(payload)
			}
		case "IEND":
			return m
		}
	}
	return m
}

// webpMetadata walks the chunks of the RIFF file:  type(4) length(4, little endian) data, padded to even
func webpMetadata(data []byte) metadata {
	var m metadata
	rest := data[min(12, len(data)):]
	for len(rest) >= 8 {
		length := uint64(binary.LittleEndian.Uint32(rest[4:]))
		if length+8 > uint64(len(rest)) {
			break
		}
		kind, payload := string(rest[:4]), rest[8:8+length]
		rest = rest[min(8+length+length&1, uint64(len(rest))):]
		switch kind {
		case "EXIF":
			tiff := bytes.TrimPrefix(payload, []byte("Exif\x00\x00")) // some writers keep JPEG's prefix
			m.orientation, m.exif = orientation(tiff), tiff
		case "ICCP":
			m.icc = payload
		}
	}
	return m
}

// orientation reads tag 0x0112 of the first directory of a TIFF structure:
//
//	"II" or "MM"  42  offset(4)  ...  count(2)  { tag(2) type(2) count(4) value(4) } ...
//
// It returns 0 when there is none.
func orientation(tiff []byte) int {
	entry, order := orientationEntry(tiff)
	if entry == nil {
		return 0
	}
	v := 0
	switch order.Uint16(entry[2:]) {
	case 1: // byte
		v = int(entry[8])
	case 3: // short
		v = int(order.Uint16(entry[8:]))
	case 4: // long
		v = int(min(order.Uint32(entry[8:]), 9))
	}
	if v < 1 || v > 8 {
		return 0
	}
	return v
}

// orientationEntry is the directory's entry of the tag, in tiff itself; nil when there is none.
func orientationEntry(tiff []byte) ([]byte, binary.ByteOrder) {
	if len(tiff) < 8 {
		return nil, nil
	}
	var order binary.ByteOrder
	switch string(tiff[:2]) {
	case "II":
		order = binary.LittleEndian
	case "MM":
		order = binary.BigEndian
	default:
		return nil, nil
	}
	offset := uint64(order.Uint32(tiff[4:]))
	if order.Uint16(tiff[2:]) != 42 || offset+2 > uint64(len(tiff)) {
		return nil, nil
	}
	count := int(order.Uint16(tiff[offset:]))
	entries := tiff[offset+2:]
	for range min(count, maxTags, len(entries)/12) {
		entry := entries[:12]
		entries = entries[12:]
		if order.Uint16(entry) == 0x0112 && order.Uint32(entry[4:]) == 1 {
			return entry, order
		}
	}
	return nil, nil
}

// upright is a copy of the EXIF of a picture that has been turned as it says: nothing is left to turn.
func upright(tiff []byte) []byte {
	tiff = bytes.Clone(tiff)
	entry, order := orientationEntry(tiff)
	if entry == nil {
		return tiff
	}
	clear(entry[8:])
	switch order.Uint16(entry[2:]) {
	case 1:
		entry[8] = 1
	case 3:
		order.PutUint16(entry[8:], 1)
	case 4:
		order.PutUint32(entry[8:], 1)
	}
	return tiff
}
