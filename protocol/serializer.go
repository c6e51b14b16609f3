package protocol

import (
	"errors"
	"fmt"
	"slices"
)

// A serializer of Kombu (kombu/serialization.py):
//
//	json     application/json             utf-8
//	msgpack  application/x-msgpack        binary
//	yaml     application/x-yaml           utf-8
//	pickle   application/x-python-serialize   known by name only: reading it would execute it
//	auth     application/data             utf-8     known by name only: Seal signs and checks it
type serializer struct {
	name, contentType, encoding string
	append                      func(dst []byte, v Value) ([]byte, error)
	parse                       func(data []byte, l Limits) (Value, error)
}

var serializers = []serializer{
	{"json", "application/json", "utf-8", AppendJSON, ParseJSON},
	{"msgpack", "application/x-msgpack", "binary", appendMsgpack, parseMsgpack},
	{"yaml", "application/x-yaml", "utf-8", appendYAML, parseYAML},
	{"pickle", "application/x-python-serialize", "binary", nil, nil},
	{signedName, signedContent, "utf-8", nil, nil},
}

// findSerializer looks up a name or content type, exactly: "application/json; charset=utf-8" is neither,
// as with Kombu.
func findSerializer(nameOrType string) (*serializer, bool) {
	for i := range serializers {
		if s := &serializers[i]; s.name == nameOrType || s.contentType == nameOrType {
			return s, true
		}
	}
	return &serializer{}, false
}

// ContentType returns the content type of a serializer's name or content type, and whether it can be
// read and written here without more: pickle is known and cannot, auth needs a Seal.
func ContentType(nameOrType string) (contentType string, usable bool) {
	s, ok := findSerializer(nameOrType)
	return s.contentType, ok && s.parse != nil
}

// Accepted reports whether content of that type may be read under accept, a list of names and content
// types (nil: json). Kombu always lets application/data and application/text pass, and takes a missing
// type for application/data.
func Accepted(contentType string, accept []string) bool {
	switch contentType {
	case "", "application/data", "application/text":
		return true
	}
	if accept == nil {
		accept = []string{"json"}
	}
	if slices.Contains(accept, contentType) {
		return true
	}
	s, ok := findSerializer(contentType)
	return ok && s.contentType == contentType && slices.Contains(accept, s.name)
}

// Serialize encodes v by the named serializer: "json" (also ""), "msgpack", "yaml". Errors are
// *EncodeError; for an unknown or unsafe serializer it wraps ErrRefusedContent.
func Serialize(serializer string, v Value) (data []byte, contentType, contentEncoding string, err error) {
	if serializer == "" {
		serializer = "json"
	}
	s, ok := findSerializer(serializer)
	switch {
	case !ok:
		return nil, "", "", &EncodeError{Err: fmt.Errorf("no encoder for serializer %q: %w", clip(serializer), ErrRefusedContent)}
	case s.name == signedName:
		return nil, "", "", &EncodeError{Err: fmt.Errorf("serializer auth needs keys (Encoding.Seal): %w", ErrRefusedContent)}
	case s.append == nil:
		return nil, "", "", &EncodeError{Err: fmt.Errorf("serializer %q is not written, choose json: %w", s.name, ErrRefusedContent)}
	}
	if data, err = s.append(nil, v); err != nil {
		return nil, "", "", err
	}
	return data, s.contentType, s.encoding, nil
}

// Deserialize decodes data by content type or serializer name. An unknown or refused one wraps
// ErrRefusedContent; every error is a *DecodeError. Like Kombu it does not decode nothing: empty data
// comes back as empty bytes, as does data of a type without decoder that is always let through
// (application/data, application/text). With a Seal in l application/data is what it signed, and an error
// may wrap ErrUntrusted.
func Deserialize(contentType string, data []byte, l Limits) (Value, error) {
	s, ok := findSerializer(contentType)
	switch {
	case s.name == signedName && l.Seal != nil:
		return open(data, l)
	case contentType == signedName:
		return nil, &DecodeError{Part: "content_type", Err: fmt.Errorf("%w: signed content needs security_cert_store", ErrRefusedContent)}
	case contentType == "", contentType == "application/data", contentType == "application/text", contentType == "raw":
		return slices.Clone(data), nil
	case !ok:
		return nil, &DecodeError{Part: "content_type", Err: fmt.Errorf("unknown content type %q: %w", clip(contentType), ErrRefusedContent)}
	case s.parse == nil:
		return nil, &DecodeError{Part: "content_type", Err: fmt.Errorf("%w: %s", ErrRefusedContent, pickleAdvice)}
	case len(data) == 0:
		return []byte{}, nil
	}
	v, err := s.parse(data, l)
	if err != nil {
		if _, ok := errors.AsType[*DecodeError](err); !ok {
			err = &DecodeError{Part: s.name, Err: err}
		}
		return nil, err
	}
	return v, nil
}

const pickleAdvice = "pickle executes what it reads; set task_serializer to json where this was sent"
