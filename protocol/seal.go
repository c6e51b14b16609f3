package protocol

import (
	"errors"
	"fmt"
)

// A Seal is the keys of signed messages, Celery's serializer "auth": what Serialize wrote, in an envelope that says who
// signed it. Package signing has the one there is. It must be safe for concurrent use.
type Seal interface {
	// Seal signs body, which is contentType in encoding, and returns the envelope.
	Seal(contentType, encoding string, body []byte) ([]byte, error)
	// Open returns what was sealed. Its errors wrap ErrUntrusted.
	Open(envelope []byte) (contentType string, body []byte, err error)
}

// ErrUntrusted: a signed message whose signature does not count here.
var ErrUntrusted = errors.New("signature is not trusted")

// The serializer of signed messages.
const (
	signedName    = "auth"
	signedContent = "application/data"
)

// inner is the serializer of what is signed.
const inner = "json"

// Serialize is the function of that name for e.Serializer, which may also be "auth": then e.Seal signs.
func (e Encoding) Serialize(v Value) (data []byte, contentType, contentEncoding string, err error) {
	if e.Serializer != signedName {
		return Serialize(e.serializer(), v)
	}
	if e.Seal == nil {
		return nil, "", "", &EncodeError{Err: fmt.Errorf("serializer auth signs what it writes and has no keys (security_key, security_certificate): %w", ErrRefusedContent)}
	}
	data, contentType, contentEncoding, err = Serialize(inner, v)
	if err != nil {
		return nil, "", "", err
	}
	if data, err = e.Seal.Seal(contentType, contentEncoding, data); err != nil {
		return nil, "", "", &EncodeError{Err: err}
	}
	return data, signedContent, "utf-8", nil
}

// open checks and decodes a signed document. What is inside may be anything that is read here, but not signed again;
// a pickle is refused whoever signed it.
func open(data []byte, l Limits) (Value, error) {
	contentType, body, err := l.Seal.Open(data)
	if err != nil {
		return nil, &DecodeError{Part: "signature", Err: err}
	}
	l.Seal = nil
	if _, usable := ContentType(contentType); !usable && contentType != "application/x-python-serialize" {
		return nil, &DecodeError{Part: "signed content_type", Err: fmt.Errorf("%w: %q; json, msgpack and yaml are read", ErrRefusedContent, clip(contentType))}
	}
	return Deserialize(contentType, body, l)
}
