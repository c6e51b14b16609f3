package redisopt

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stalkworker/stalk/internal/pytls"
)

var tlsNames = pytls.Names{
	CA: "ssl_ca_certs", Cert: "ssl_certfile", Key: "ssl_keyfile", Reqs: "ssl_cert_reqs", Host: "ssl_check_hostname",
}

// tls decides whether an entry is reached by TLS; the server's certificate is checked unless ssl_cert_reqs is none.
// Kombu connects "rediss" without checks when nothing says otherwise; here that has to be said. Celery's result
// backend refuses a "rediss" that does not say either, and so do we. on: TLS whatever the scheme says.
func (r *reading) tls(scheme string, opts map[string]any, on bool) (*tls.Config, error) {
	if len(opts) == 0 && scheme != "rediss" && !on {
		return nil, nil
	}
	if scheme == "redis+socket" {
		return nil, errors.New("a unix socket takes no TLS")
	}
	if r.results && scheme == "rediss" && opts["ssl_cert_reqs"] == nil {
		return nil, errors.New("rediss needs ssl_cert_reqs, in the URL or in redis_backend_use_ssl")
	}
	cfg, err := tlsConfig(opts)
	if err == nil {
		r.warnUnchecked(cfg)
	}
	return cfg, err
}

func (r *reading) warnUnchecked(cfg *tls.Config) {
	if cfg.InsecureSkipVerify && cfg.VerifyConnection == nil && !slices.Contains(r.out.Warnings, pytls.Unchecked) {
		r.out.Warnings = append(r.out.Warnings, pytls.Unchecked)
	}
}

// tlsConfig reads redis-py's ssl_* arguments. An option that would change security and is not
// understood is an error, never ignored.
func tlsConfig(opts map[string]any) (*tls.Config, error) {
	check, named, least := true, true, uint16(tls.VersionTLS12)
	var files pytls.Files
	texts := map[string]*string{
		"ssl_ca_certs": &files.CA, "ssl_ca_data": &files.CAData, "ssl_certfile": &files.Cert, "ssl_keyfile": &files.Key,
	}
	for k, raw := range opts {
		if raw == nil {
			continue
		}
		if into := texts[k]; into != nil {
			text, ok := raw.(string)
			if !ok {
				return nil, fmt.Errorf("option %q is a %T, want text", k, raw)
			}
			*into = text
			continue
		}
		var err error
		switch k {
		case "ssl_cert_reqs":
			check, err = pytls.CertReqs(raw)
		case "ssl_check_hostname":
			switch v := raw.(type) {
			case bool:
				named = v
			case string:
				named = strings.ToLower(v) != "false"
			default:
				err = fmt.Errorf("%T, want true or false", raw)
			}
		case "ssl_min_version":
			least, err = pytls.Version(raw)
		default:
			if raw != false {
				err = errors.New("not supported" + prefixHint(k))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("option %q: %w", k, err)
		}
	}
	cfg, err := files.Config(check, tlsNames)
	if err != nil {
		return nil, fmt.Errorf("option %w", err)
	}
	cfg.MinVersion = cmp.Or(least, cfg.MinVersion)
	if !named {
		pytls.AnyHost(cfg)
	}
	return cfg, nil
}

// prefixHint points from RabbitMQ's spelling to that of Redis.
func prefixHint(key string) string {
	if slices.Contains([]string{"ca_certs", "certfile", "keyfile", "cert_reqs", "check_hostname"}, key) {
		return fmt.Sprintf("; Redis's spelling is %q", "ssl_"+key)
	}
	return ""
}
