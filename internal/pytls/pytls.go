// Package pytls is TLS as Celery's settings ask for it: it reads the arguments of Python's ssl module
// (cert_reqs, ssl_version, file names), and says of a handshake that failed which of them to look at.
//
// Nothing here leaves a certificate unchecked unless a setting says so by name. It knows neither Redis nor
// RabbitMQ; how they spell the settings is in Names.
package pytls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Unchecked is the line to log of a connection whose server is not checked.
const Unchecked = "TLS without certificate checks: whoever answers is believed, and may read and change what is sent; give a CA and cert_reqs required"

// Files are the certificates of one configuration, each empty when not given.
type Files struct {
	CA, CAData string // of the authorities to believe instead of the system's: a file, or PEM text
	Cert, Key  string // ours; a certificate alone holds its key
}

// Names are how the settings are spelled, for errors.
type Names struct{ CA, Cert, Key, Reqs, Host string }

// Config makes the configuration; the certificate of the server is checked unless check is false. Errors name
// the setting and never quote a file's content.
func (f Files) Config(check bool, n Names) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !check}
	pem := []byte(f.CAData)
	if f.CA != "" {
		file, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.CA, err)
		}
		pem = append(append(pem, '\n'), file...)
	}
	if len(pem) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %q holds no certificate", n.CA, f.CA)
		}
	}
	switch {
	case f.Cert == "" && f.Key != "":
		return nil, fmt.Errorf("%s is given without %s", n.Key, n.Cert)
	case f.Cert != "":
		key, at := f.Key, n.Key
		if key == "" {
			key, at = f.Cert, n.Cert
		}
		for name, file := range map[string]string{n.Cert: f.Cert, at: key} { // LoadX509KeyPair does not say which
			if _, err := os.Stat(file); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		pair, err := tls.LoadX509KeyPair(f.Cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Cert, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// AnyHost keeps the chain checked and lets the certificate be of any host, as check_hostname false does.
func AnyHost(cfg *tls.Config) {
	if cfg.InsecureSkipVerify {
		return
	}
	roots := cfg.RootCAs
	cfg.InsecureSkipVerify = true // the chain is verified below, only the name is not
	cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("pytls: the server sent no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

// CertReqs reads cert_reqs: the names that Kombu accepts and Python's constants, as text or number. CERT_OPTIONAL
// is CERT_REQUIRED to a client.
func CertReqs(v any) (check bool, err error) {
	if text, ok := v.(string); ok {
		switch strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(text, "ssl."), "CERT_")) {
		case "none", "0":
			return false, nil
		case "required", "optional", "1", "2":
			return true, nil
		}
		return false, fmt.Errorf("%q is not one of CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE, required, optional, none", text)
	}
	switch fmt.Sprint(v) {
	case "0":
		return false, nil
	case "1", "2":
		return true, nil
	}
	return false, fmt.Errorf("%v (%T) is not one of CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE", v, v)
}

// Version reads the least version of TLS: a tls_minimum_version (TLSv1_2, 771), or an ssl_version
// (PROTOCOL_TLSv1_2, PROTOCOL_TLS_CLIENT, or their numbers 5, 2 and 16). What is older than 1.2 is refused.
func Version(v any) (uint16, error) {
	switch name := fmt.Sprint(v); strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(name, "ssl."), "TLSVersion."), "PROTOCOL_") {
	case "TLSv1_2", "TLSv1.2", "771", "5", "TLS", "TLS_CLIENT", "SSLv23", "2", "16":
		return tls.VersionTLS12, nil
	case "TLSv1_3", "TLSv1.3", "772":
		return tls.VersionTLS13, nil
	default:
		return 0, fmt.Errorf("%q, want TLSv1_2 or TLSv1_3", name)
	}
}

// Handshake makes sock a TLS connection within ctx and closes it otherwise. Its errors, and those of a server that
// refuses us after the handshake, name the setting to look at.
func Handshake(ctx context.Context, sock net.Conn, cfg *tls.Config, n Names) (net.Conn, error) {
	c := tls.Client(sock, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = sock.Close()
		return nil, explain(err, cfg.ServerName, n)
	}
	return &conn{Conn: c, names: n}, nil
}

// conn explains alerts: with TLS 1.3 a server refuses our certificate only after our side of the handshake is over.
type conn struct {
	net.Conn
	names Names
}

func (c *conn) Read(p []byte) (int, error) {
	got, err := c.Conn.Read(p)
	if isAlert(err) {
		err = explain(err, "", c.names)
	}
	return got, err
}

// Write finds a connection broken by the alert that nobody has read yet: it is why.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		return n, nil
	}
	if !isAlert(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.SetReadDeadline(time.Now().Add(alertWait)) // the connection is of no other use any more
		if _, why := c.Conn.Read(make([]byte, 1)); isAlert(why) {
			err = why
		}
	}
	if isAlert(err) {
		err = explain(err, "", c.names)
	}
	return n, err
}

const alertWait = 100 * time.Millisecond

// Plain returns sock, and has its first Read say so when the port wants TLS, or seems to; scheme is the one that has
// TLS ("amqps").
func Plain(sock net.Conn, scheme string) net.Conn { return &plain{Conn: sock, scheme: scheme} }

type plain struct {
	net.Conn
	scheme string
	heard  bool // written by the first Read alone
}

// SyscallConn lets a pool look whether the server has hung up.
func (c *plain) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.New("pytls: no file behind the connection")
}

func (c *plain) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.heard {
		return n, err
	}
	const alert, handshake = 0x15, 0x16 // neither begins anything that Redis or RabbitMQ says
	switch {
	case n > 0 && (p[0] == alert || p[0] == handshake):
		return 0, fmt.Errorf("the port speaks TLS: use %s://", c.scheme)
	case n > 0:
		c.heard = true
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		c.heard = true
		return n, &explained{fmt.Sprintf("the server hung up before its first word (if the port wants TLS, use %s://)", c.scheme), err}
	}
	return n, err
}

// isAlert reports whether the peer ended the connection with an alert of TLS.
func isAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}

func explain(err error, host string, n Names) error {
	var what string
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		what = fmt.Sprintf("the server's certificate is not for %q (%s)", host, n.Host)
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		what = fmt.Sprintf("the server's certificate is of an unknown authority (%s)", n.CA)
	} else if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		what = "the server's certificate is not valid"
		if e.Reason == x509.Expired {
			what = "the server's certificate has expired or is not valid yet"
		}
	} else if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		what = "the port does not speak TLS"
	} else if isAlert(err) {
		what = fmt.Sprintf("the server refuses our certificate or version of TLS (%s)", n.Cert)
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		what = "no answer in time: does the port speak TLS?"
	} else {
		what = "handshake"
	}
	return &explained{"TLS: " + what, err}
}

// An explained error has its cause in a list, which errors.Is and As read: go-redis takes off one layer of an error
// that it meets while it connects, and would take the explanation.
type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string   { return fmt.Sprintf("%s: %v", e.text, e.cause) }
func (e *explained) Unwrap() []error { return []error{e.cause} }
