package dial

import (
	"fmt"
	"strings"

	"github.com/stalkworker/stalk/internal/pytls"
	"github.com/stalkworker/stalk/transports/rabbitmq"
)

// rabbitTLS reads broker_use_ssl as py-amqp does: true, or ssl arguments by their Python names. The broker's
// certificate and name are checked unless cert_reqs is CERT_NONE: py-amqp checks the name only when it is told
// one (server_hostname), we check the URL's host then.
func rabbitTLS(v any) (*rabbitmq.TLS, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		if !v {
			return nil, nil
		}
		return &rabbitmq.TLS{}, nil
	case map[string]any:
		if len(v) == 0 { // false to Python
			return nil, nil
		}
		t := &rabbitmq.TLS{}
		for key, value := range v {
			if value == nil {
				continue
			}
			if err := rabbitTLSArgument(t, key, value); err != nil {
				return nil, fmt.Errorf("dial: broker_use_ssl: %w", err)
			}
		}
		return t, nil
	}
	return nil, fmt.Errorf("dial: broker_use_ssl is a %T, want true, false or a mapping", v)
}

func rabbitTLSArgument(t *rabbitmq.TLS, key string, value any) (err error) {
	texts := map[string]*string{"ca_certs": &t.CAFile, "certfile": &t.CertFile, "keyfile": &t.KeyFile, "server_hostname": &t.ServerName}
	if into := texts[key]; into != nil {
		text, ok := value.(string)
		if !ok {
			return fmt.Errorf("%s is a %T, want text", key, value)
		}
		*into = text
		return nil
	}
	switch key {
	case "cert_reqs":
		check, err := pytls.CertReqs(value)
		t.Insecure = !check
		if err != nil {
			return fmt.Errorf("cert_reqs: %w", err)
		}
	case "tls_minimum_version", "ssl_version":
		if t.MinVersion, err = pytls.Version(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	default:
		hint := ""
		if plain, found := strings.CutPrefix(key, "ssl_"); found {
			hint = fmt.Sprintf("; RabbitMQ's spelling is %q", plain)
		}
		return fmt.Errorf("%q is not one of ca_certs, certfile, keyfile, cert_reqs, server_hostname, ssl_version, tls_minimum_version%s", key, hint)
	}
	return nil
}
