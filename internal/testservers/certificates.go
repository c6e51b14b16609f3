package testservers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// An Authority issues certificates for one test, as files in a folder that goes with it.
type Authority struct {
	File string // its own certificate

	t      testing.TB
	folder string
	cert   *x509.Certificate
	key    crypto.Signer
	serial atomic.Int64
}

// A Certificate is what one side shows: two PEM files.
type Certificate struct{ Cert, Key string }

// NewAuthority makes an authority nobody knows.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, folder: t.TempDir()}
	a.serial.Store(1)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.File = a.issue("ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority " + rand.Text()[:8]}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, key)
	return a
}

// Issue makes a certificate for hosts (names and addresses) that is valid from an hour ago for the time given: less
// than an hour is expired. It serves both sides of a connection.
func (a *Authority) Issue(name string, valid time.Duration, hosts ...string) Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.certify(name, valid, key, hosts)
}

// IssueRSA is Issue with an RSA key of 2048 bits, which signed messages need.
func (a *Authority) IssueRSA(name string, valid time.Duration, hosts ...string) Certificate {
	a.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.certify(name, valid, key, hosts)
}

func (a *Authority) certify(name string, valid time.Duration, key crypto.Signer, hosts []string) Certificate {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotAfter:    time.Now().Add(valid - time.Hour),
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	c := Certificate{Cert: a.issue(name, template, key), Key: filepath.Join(a.folder, name+".key")}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(c.Key, "PRIVATE KEY", der)
	return c
}

// issue signs a certificate, the authority's own at first, and writes it to a file.
func (a *Authority) issue(name string, template *x509.Certificate, key crypto.Signer) (file string) {
	a.t.Helper()
	template.SerialNumber = big.NewInt(a.serial.Add(1))
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	file = filepath.Join(a.folder, name+".pem")
	a.write(file, "CERTIFICATE", der)
	return file
}

func (a *Authority) write(file, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}
