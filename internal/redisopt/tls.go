package redisopt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

const insecure = "TLS without certificate checks: ssl_cert_reqs is not set or says none"

// tls decides whether an entry is reached by TLS. Kombu connects "rediss" without checks when nothing
// says otherwise, with a warning; Celery's result backend refuses that.
func (r *reading) tls(scheme string, opts map[string]any) (*tls.Config, error) {
	if len(opts) == 0 {
		switch {
		case scheme != "rediss":
			return nil, nil
		case r.results:
			return nil, errors.New("rediss needs ssl_cert_reqs, in the URL or in redis_backend_use_ssl")
		}
		opts = map[string]any{"ssl_cert_reqs": "none"}
	}
	if scheme == "redis+socket" {
		return nil, errors.New("a unix socket takes no ssl_ options")
	}
	if r.results && scheme == "rediss" && opts["ssl_cert_reqs"] == nil {
		return nil, errors.New("rediss needs ssl_cert_reqs, in the URL or in redis_backend_use_ssl")
	}
	cfg, err := tlsConfig(opts)
	if err == nil && cfg.InsecureSkipVerify && cfg.VerifyConnection == nil && len(r.out.Warnings) == 0 {
		r.out.Warnings = append(r.out.Warnings, insecure)
	}
	return cfg, err
}

// tlsConfig reads redis-py's ssl_* arguments. An option that would change security and is not
// understood is an error, never ignored.
func tlsConfig(opts map[string]any) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	check, named := true, true
	var certFile, keyFile string
	var ca []byte
	for k, raw := range opts {
		text, isText := raw.(string)
		switch k {
		case "ssl_cert_reqs":
			var err error
			if check, err = certReqs(raw); err != nil {
				return nil, err
			}
		case "ssl_check_hostname":
			if b, ok := raw.(bool); ok {
				named = b
			} else if isText {
				named = strings.ToLower(text) != "false"
			} else if raw != nil {
				return nil, fmt.Errorf("option %q is a %T, want true or false", k, raw)
			}
		case "ssl_ca_certs", "ssl_ca_data":
			if raw == nil {
				continue
			}
			if !isText {
				return nil, fmt.Errorf("option %q is a %T, want text", k, raw)
			}
			pem := []byte(text)
			if k == "ssl_ca_certs" {
				var err error
				if pem, err = os.ReadFile(text); err != nil {
					return nil, fmt.Errorf("option %q: %w", k, err)
				}
			}
			ca = append(append(ca, pem...), '\n')
		case "ssl_certfile":
			certFile = text
		case "ssl_keyfile":
			keyFile = text
		case "ssl_min_version":
			v, ok := tlsVersion(raw)
			if !ok {
				return nil, fmt.Errorf("option %q is %v, want TLSv1_2 or TLSv1_3", k, raw)
			}
			cfg.MinVersion = v
		default:
			if raw != nil && raw != false {
				return nil, fmt.Errorf("option %q is not supported", k)
			}
		}
	}
	if ca != nil {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("option \"ssl_ca_certs\" holds no certificate")
		}
	}
	if certFile != "" {
		if keyFile == "" {
			keyFile = certFile
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("option \"ssl_certfile\": %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	switch {
	case !check:
		cfg.InsecureSkipVerify = true
	case !named:
		roots := cfg.RootCAs
		cfg.InsecureSkipVerify = true // the chain is verified below, only the name is not
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
	}
	return cfg, nil
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("redisopt: the server sent no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

// certReqs accepts the names Kombu accepts and Python's own constants.
func certReqs(raw any) (check bool, err error) {
	if f, ok := Number(raw); ok {
		switch f {
		case 0:
			return false, nil
		case 1, 2:
			return true, nil
		}
	}
	if raw == nil {
		return false, nil
	}
	if text, ok := raw.(string); ok {
		switch text {
		case "CERT_REQUIRED", "CERT_OPTIONAL", "required", "optional":
			return true, nil
		case "CERT_NONE", "none":
			return false, nil
		}
		return false, fmt.Errorf("ssl_cert_reqs %q is not one of CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE, required, optional, none", text)
	}
	return false, fmt.Errorf("ssl_cert_reqs is a %T, want text", raw)
}

func tlsVersion(raw any) (uint16, bool) {
	if f, ok := Number(raw); ok {
		v := uint16(f)
		return v, v == tls.VersionTLS12 || v == tls.VersionTLS13
	}
	switch raw {
	case "TLSv1_2", "TLSv1.2":
		return tls.VersionTLS12, true
	case "TLSv1_3", "TLSv1.3":
		return tls.VersionTLS13, true
	}
	return 0, false
}
