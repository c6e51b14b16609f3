// Package signing is Celery's serializer "auth": messages signed with RSA keys whose certificates the reader knows
// (celery/security). A Keyring signs what a worker or client writes and checks what it reads; it is given to them
// as protocol.Encoding.Seal and protocol.Limits.Seal.
//
// What is signed is the serialized body alone: arguments, callbacks, chain and chord of a task. Its headers are not,
// so whoever can write to the broker may change a task's name, id or time, or send a message again; docs/security.md
// says more. Certificates are compared and looked at for expiry, not verified against an authority: being in the store
// is being trusted, as with Celery.
package signing

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the digests that can be named
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A Config names the files, as Celery's settings security_* do.
type Config struct {
	Key         string // security_key: our private key, PEM; "": nothing can be signed
	KeyPassword string // security_key_password
	Certificate string // security_certificate: of Key, PEM
	Store       string // security_cert_store: whose signatures count: a folder, or a pattern of files; "": nobody's
	Digest      string // security_digest: sha256 (also for ""), sha224, sha384, sha512, sha512_224, sha512_256
}

// A Keyring signs and checks. It is safe for concurrent use and reads its files once, in New.
type Keyring struct {
	key    *rsa.PrivateKey // nil: nothing can be signed
	signer string          // id of our certificate
	store  map[string]*certificate
	hash   crypto.Hash
	now    func() time.Time // tests have another
}

var _ protocol.Seal = (*Keyring)(nil)

var digests = map[string]crypto.Hash{
	"sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
	"sha512_224": crypto.SHA512_224, "sha512_256": crypto.SHA512_256,
}

// New reads the files. As with Celery, a certificate in the store that has expired is an error, and so is one that
// is there twice. Errors name the setting.
func New(cfg Config) (*Keyring, error) {
	k := &Keyring{now: time.Now}
	hash, ok := digests[strings.ToLower(cmp.Or(cfg.Digest, "sha256"))]
	var errs []error
	if !ok {
		errs = append(errs, fmt.Errorf("signing: security_digest %q, want sha224, sha256, sha384, sha512, sha512_224 or sha512_256", cfg.Digest))
	}
	k.hash = hash
	if (cfg.Key == "") != (cfg.Certificate == "") {
		errs = append(errs, errors.New("signing: security_key and security_certificate belong together: one of them is missing"))
	} else if cfg.Key != "" {
		errs = append(errs, k.identify(cfg))
	}
	var err error
	if k.store, err = readStore(cfg.Store, k.now()); err != nil {
		errs = append(errs, fmt.Errorf("signing: security_cert_store: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return k, nil
}

// identify reads who we are.
func (k *Keyring) identify(cfg Config) error {
	c, err := readCertificate(cfg.Certificate)
	if err != nil {
		return fmt.Errorf("signing: security_certificate: %w", err)
	}
	key, err := readKey(cfg.Key, cfg.KeyPassword)
	switch {
	case err != nil:
		return fmt.Errorf("signing: security_key: %w", err)
	case !key.PublicKey.Equal(c.key):
		return fmt.Errorf("signing: security_key is not the key of security_certificate %q", c.id)
	case c.expired(k.now()):
		return fmt.Errorf("signing: security_certificate %q has expired on %s", c.id, c.until.Format(time.DateTime))
	}
	k.key, k.signer = key, c.id
	return nil
}

// The layout, all of it in base64:
//
//	b64(signer) 00 01 b64(signature) 00 01 content type 00 01 content encoding 00 01 body
//
// The signature is RSA-PSS over body, with the longest salt that fits.
var separator = []byte{0, 1}

// Seal signs body, which was serialized as contentType in encoding.
func (k *Keyring) Seal(contentType, encoding string, body []byte) ([]byte, error) {
	if k.key == nil {
		return nil, errors.New("signing: nothing can be signed without security_key and security_certificate")
	}
	signature, err := rsa.SignPSS(rand.Reader, k.key, k.hash, k.sum(body), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: k.hash})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	b64 := base64.StdEncoding
	packed := bytes.Join([][]byte{
		[]byte(b64.EncodeToString([]byte(k.signer))), []byte(b64.EncodeToString(signature)), []byte(contentType), []byte(encoding), body,
	}, separator)
	return b64.AppendEncode(nil, packed), nil
}

// Open checks what Seal made, here or in Python, and returns the body, which is still serialized. An error wraps
// protocol.ErrUntrusted and says why.
func (k *Keyring) Open(data []byte) (contentType string, body []byte, err error) {
	b64 := base64.StdEncoding
	packed, err := b64.AppendDecode(nil, data)
	if err != nil {
		return "", nil, untrusted("it is not signed: no base64")
	}
	parts := bytes.SplitN(packed, separator, 5)
	if len(parts) != 5 {
		return "", nil, untrusted("it is not signed: %d parts of 5", len(parts))
	}
	signer, err1 := b64.AppendDecode(nil, parts[0])
	signature, err2 := b64.AppendDecode(nil, parts[1])
	if err1 != nil || err2 != nil {
		return "", nil, untrusted("signer or signature is no base64")
	}
	c := k.store[string(signer)]
	if c == nil {
		return "", nil, untrusted("unknown signer %s: no such certificate in security_cert_store", clip(signer))
	}
	if c.expired(k.now()) {
		return "", nil, untrusted("the certificate of %s has expired on %s", clip(signer), c.until.Format(time.DateTime))
	}
	body = parts[4]
	// Of the longest salt only, as Python's verify wants it.
	salt := (c.key.N.BitLen()-1+7)/8 - 2 - k.hash.Size()
	if salt < 0 {
		return "", nil, untrusted("the key of %s is too short for security_digest", clip(signer))
	}
	if rsa.VerifyPSS(c.key, k.hash, k.sum(body), signature, &rsa.PSSOptions{SaltLength: salt, Hash: k.hash}) != nil {
		return "", nil, untrusted("the signature of %s does not fit: body changed, another key, or another security_digest", clip(signer))
	}
	return string(parts[2]), body, nil
}

func (k *Keyring) sum(body []byte) []byte {
	h := k.hash.New()
	h.Write(body)
	return h.Sum(nil)
}

func untrusted(format string, args ...any) error {
	return fmt.Errorf("%w: %s", protocol.ErrUntrusted, fmt.Sprintf(format, args...))
}

// clip shortens and quotes what a stranger wrote.
func clip(s []byte) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// String keeps keys out of anything that prints a configuration.
func (k *Keyring) String() string { return "keys of " + k.signer }

// GoString is String.
func (k *Keyring) GoString() string { return k.String() }
