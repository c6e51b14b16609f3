package rabbitmq

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// A certificate for 127.0.0.1 that is its own authority, as files.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"broker.test"},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// terminate takes TLS connections that show a certificate of ours and passes them on in the clear.
func terminate(t *testing.T, target, certFile, keyFile string) (addr string) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer in.Close()
				if in.(*tls.Conn).HandshakeContext(t.Context()) != nil {
					return
				}
				out, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer out.Close()
				wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
				_, _ = io.Copy(in, out)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

func TestTLS(t *testing.T) {
	s := startServer(t)
	cert, key := certificate(t)
	otherCert, otherKey := certificate(t)
	at := terminate(t, s.proxy.Addr(), cert, key)
	for _, tt := range []struct {
		name string
		url  string
		tls  TLS
		want error
	}{
		{"checked against the CA", "amqps://" + at, TLS{CAFile: cert, CertFile: cert, KeyFile: key}, nil},
		{"TLS asked for by the settings", "amqp://" + at, TLS{CAFile: cert, CertFile: cert, KeyFile: key}, nil},
		{"unchecked", "amqps://" + at, TLS{Insecure: true, CertFile: cert, KeyFile: key}, nil},
		{"another name", "amqps://" + at, TLS{CAFile: cert, ServerName: "broker.test", CertFile: cert, KeyFile: key}, nil},
		{"a name that is not its own", "amqps://" + at, TLS{CAFile: cert, ServerName: "else.test", CertFile: cert, KeyFile: key}, transports.ErrDisconnected},
		{"unknown authority", "amqps://" + at, TLS{CAFile: otherCert, CertFile: cert, KeyFile: key}, transports.ErrDisconnected},
		{"no certificate of ours", "amqps://" + at, TLS{CAFile: cert}, transports.ErrDisconnected},
		{"a wrong certificate of ours", "amqps://" + at, TLS{CAFile: cert, CertFile: otherCert, KeyFile: otherKey}, transports.ErrDisconnected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := s.transport(func(cfg *Config) { cfg.URL, cfg.TLS = tt.url, &tt.tls })
			c, err := tr.Connect(t.Context())
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
