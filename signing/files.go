package signing

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A certificate is what is known of one signer.
type certificate struct {
	id    string // the values of the issuer's name and the serial number, separated by spaces
	key   *rsa.PublicKey
	until time.Time
}

// expired is Celery's: the beginning is not looked at.
func (c *certificate) expired(now time.Time) bool { return !now.Before(c.until) }

// Bounds of what is read: keys and certificates are kilobytes.
const (
	maxFile  = 1 << 20
	maxStore = 10_000 // certificates
)

// readStore reads every certificate of a folder or of the files that a pattern names; hidden files are none of
// them, as in Python. "" is an empty store.
func readStore(path string, now time.Time) (map[string]*certificate, error) {
	store := map[string]*certificate{}
	if path == "" {
		return store, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "*")
	}
	files, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", path, err)
	}
	hidden := strings.HasPrefix(filepath.Base(path), ".")
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), ".") && !hidden {
			continue
		}
		c, err := readCertificate(file)
		if err != nil {
			return nil, err
		}
		switch {
		case c.expired(now):
			return nil, fmt.Errorf("%s: certificate %q has expired on %s", file, c.id, c.until.Format(time.DateTime))
		case store[c.id] != nil:
			return nil, fmt.Errorf("%s: certificate %q is there twice", file, c.id)
		case len(store) == maxStore:
			return nil, fmt.Errorf("more than %d certificates", maxStore)
		}
		store[c.id] = c
	}
	if len(store) == 0 {
		return nil, fmt.Errorf("%q holds no certificate: nobody's signature would count", path)
	}
	return store, nil
}

// readPEM reads the first block of a file. Errors never quote it.
func readPEM(file string) (*pem.Block, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes are no certificate or key", file, maxFile)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", file)
	}
	return block, nil
}

func readCertificate(file string) (*certificate, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	if block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: holds a %s, want a certificate", file, block.Type)
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: key of type %s, signed messages need RSA", file, parsed.PublicKeyAlgorithm)
	}
	id, err := identity(parsed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &certificate{id: id, key: key, until: parsed.NotAfter}, nil
}

// identity is Certificate.get_id of celery/security/certificate.py: the issuer's values as they stand in the
// certificate. pkix.Name would reorder them.
func identity(c *x509.Certificate) (string, error) {
	var names pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawIssuer, &names); err != nil || len(rest) > 0 {
		return "", errors.New("the issuer cannot be read")
	}
	var parts []string
	for _, set := range names {
		for _, attribute := range set {
			parts = append(parts, fmt.Sprint(attribute.Value))
		}
	}
	// Python joins the issuer's values first: an issuer without a name leaves the space.
	return strings.Join(parts, " ") + " " + c.SerialNumber.String(), nil
}
