package dial_test

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/internal/pytls"
	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

const day = 24 * time.Hour

// A trial is one set of Celery's TLS settings and how connecting with it ends: want "" is a connection, else part
// of the error.
type trial struct {
	name, url string
	ssl       any
	want      string
	warned    bool
	patience  int // socket_connect_timeout; 0: half a minute, for the machine may be busy
}

func (tt trial) connect(t *testing.T) (warned bool, err error) {
	t.Helper()
	var log bytes.Buffer
	defer func() {
		warned = strings.Contains(log.String(), pytls.Unchecked)
		if strings.Contains(log.String(), "hunter2") || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is shown: %s %v", log.String(), err)
		}
	}()
	tr, err := dial.Broker(tt.url, dial.BrokerOptions{
		SSL: tt.ssl, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Transport: map[string]any{"socket_connect_timeout": cmp.Or(tt.patience, 30), "socket_timeout": 30},
	})
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := tr.Connect(ctx)
	if err == nil {
		err = c.Close()
	}
	return false, err
}

func (tt trial) run(t *testing.T) {
	t.Run(tt.name, func(t *testing.T) {
		t.Parallel()
		warned, err := tt.connect(t)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%v, want a connection", err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v, want an error with %q", err, tt.want)
		}
		if warned != tt.warned {
			t.Errorf("warned %v, want %v", warned, tt.warned)
		}
	})
}

type mapping = map[string]any

func TestTLSToARealRedis(t *testing.T) {
	t.Parallel()
	ours, strange := testservers.NewAuthority(t), testservers.NewAuthority(t)
	me, stranger := ours.Issue("me", day), strange.Issue("stranger", day)
	good := testservers.RedisTLS(t, ours.Issue("good", day, "127.0.0.1"), "", "--requirepass", "hunter2")
	strict := testservers.RedisTLS(t, ours.Issue("strict", day, "127.0.0.1"), ours.File)
	elsewhere := testservers.RedisTLS(t, ours.Issue("elsewhere", day, "else.test"), "")
	expired := testservers.RedisTLS(t, ours.Issue("expired", time.Minute, "127.0.0.1"), "")
	at := "rediss://:hunter2@" + good.TLSAddr
	for _, tt := range []trial{
		{name: "an unknown authority, by default", url: at, want: "unknown authority (ssl_ca_certs)"},
		{name: "the authority in the URL", url: at + "?ssl_ca_certs=" + ours.File},
		{name: "the authority in broker_use_ssl", url: at, ssl: mapping{"ssl_ca_certs": ours.File}},
		{name: "TLS by broker_use_ssl alone", url: strings.Replace(at, "rediss", "redis", 1), ssl: mapping{"ssl_ca_certs": ours.File, "ssl_cert_reqs": "CERT_REQUIRED"}},
		{name: "broker_use_ssl true", url: strings.Replace(at, "rediss", "redis", 1), ssl: true, want: "unknown authority (ssl_ca_certs)"},
		{name: "another authority", url: at, ssl: mapping{"ssl_ca_certs": strange.File}, want: "unknown authority (ssl_ca_certs)"},
		{name: "no checks", url: at + "?ssl_cert_reqs=none", warned: true},
		{name: "no checks by Python's constant", url: at, ssl: mapping{"ssl_cert_reqs": 0}, warned: true},
		{name: "another host", url: "rediss://" + elsewhere.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File}, want: `not for "127.0.0.1" (ssl_check_hostname)`},
		{name: "any host", url: "rediss://" + elsewhere.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File, "ssl_check_hostname": false}},
		{name: "any host, of an unknown authority", url: "rediss://" + elsewhere.TLSAddr, ssl: mapping{"ssl_ca_certs": strange.File, "ssl_check_hostname": false}, want: "unknown authority (ssl_ca_certs)"},
		{name: "expired", url: "rediss://" + expired.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File}, want: "has expired"},
		{name: "expired, of any host", url: "rediss://" + expired.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File, "ssl_check_hostname": "False"}, want: "has expired"},
		{name: "expired, no checks", url: "rediss://" + expired.TLSAddr, ssl: mapping{"ssl_cert_reqs": "none"}, warned: true},
		{name: "our certificate is demanded", url: "rediss://" + strict.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File}, want: "refuses our certificate or version of TLS (ssl_certfile)"},
		{name: "our certificate", url: "rediss://" + strict.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File, "ssl_certfile": me.Cert, "ssl_keyfile": me.Key}},
		{name: "a certificate of nobody they know", url: "rediss://" + strict.TLSAddr, ssl: mapping{"ssl_ca_certs": ours.File, "ssl_certfile": stranger.Cert, "ssl_keyfile": stranger.Key}, want: "refuses our certificate or version of TLS (ssl_certfile)"},
		{name: "TLS to a plain port", url: "rediss://" + good.Addr, want: "speak TLS", patience: 2},
		{name: "plain to a port with TLS", url: "redis://" + good.TLSAddr, want: "use rediss://"},
		{name: "no such file", url: at, ssl: mapping{"ssl_ca_certs": "/nonexistent"}, want: "ssl_ca_certs: open /nonexistent"},
		{name: "a file without certificates", url: at, ssl: mapping{"ssl_ca_certs": me.Key}, want: "ssl_ca_certs: "},
		{name: "a key without its certificate", url: at, ssl: mapping{"ssl_keyfile": me.Key}, want: "ssl_keyfile is given without ssl_certfile"},
		{name: "a key of another", url: at, ssl: mapping{"ssl_certfile": me.Cert, "ssl_keyfile": stranger.Key}, want: "ssl_certfile"},
		{name: "RabbitMQ's spelling", url: at, ssl: mapping{"ca_certs": ours.File}, want: `Redis's spelling is "ssl_ca_certs"`},
		{name: "something else than cert_reqs", url: at, ssl: mapping{"ssl_cert_reqs": "perhaps"}, want: `"ssl_cert_reqs": "perhaps"`},
	} {
		tt.run(t)
	}
}

func TestTLSToARealRabbitMQ(t *testing.T) {
	t.Parallel()
	ours, strange := testservers.NewAuthority(t), testservers.NewAuthority(t)
	me, stranger := ours.Issue("me", day), strange.Issue("stranger", day)
	own := ours.Issue("broker", day, "127.0.0.1", "broker.test")
	s := testservers.RabbitMQWith(t, testservers.RabbitMQOptions{
		TLS: &own, ClientCA: ours.File,
		Users: []testservers.RabbitMQUser{{Name: "u", Password: "hunter2", Configure: ".*", Write: ".*", Read: ".*"}},
	})
	at := "amqps://u:hunter2@" + s.TLSAddr + "//"
	mine := func(more mapping) mapping {
		m := mapping{"ca_certs": ours.File, "certfile": me.Cert, "keyfile": me.Key}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	for _, tt := range []trial{
		{name: "an unknown authority, by default", url: at, want: "unknown authority (ca_certs)"},
		{name: "broker_use_ssl true", url: strings.Replace(at, "amqps", "amqp", 1), ssl: true, want: "unknown authority (ca_certs)"},
		{name: "authority and our certificate", url: at, ssl: mine(nil)},
		{name: "TLS by broker_use_ssl alone", url: strings.Replace(at, "amqps", "amqp", 1), ssl: mine(mapping{"cert_reqs": "ssl.CERT_REQUIRED"})},
		{name: "a name that the certificate has", url: at, ssl: mine(mapping{"server_hostname": "broker.test"})},
		{name: "the URL's host, as Kombu spells it", url: at, ssl: mine(mapping{"server_hostname": nil})},
		{name: "another host", url: at, ssl: mine(mapping{"server_hostname": "else.test"}), want: `not for "else.test" (server_hostname)`},
		{name: "another authority", url: at, ssl: mine(mapping{"ca_certs": strange.File}), want: "unknown authority (ca_certs)"},
		{name: "no checks", url: at, ssl: mine(mapping{"ca_certs": nil, "cert_reqs": 0}), warned: true},
		{name: "our certificate is demanded", url: at, ssl: mapping{"ca_certs": ours.File}, want: "refuses our certificate or version of TLS (certfile)"},
		{name: "a certificate of nobody they know", url: at, ssl: mine(mapping{"certfile": stranger.Cert, "keyfile": stranger.Key}), want: "refuses our certificate or version of TLS (certfile)"},
		{name: "at least TLS 1.3", url: at, ssl: mine(mapping{"tls_minimum_version": "TLSv1_3"})},
		{name: "TLS 1.0", url: at, ssl: mine(mapping{"ssl_version": 3}), want: "want TLSv1_2"},
		{name: "TLS to a plain port", url: "amqps://u:hunter2@" + s.Addr + "//", ssl: mine(nil), want: "the port does not speak TLS"},
		{name: "plain to a port with TLS", url: "amqp://u:hunter2@" + s.TLSAddr + "//", want: "use amqps://"},
		{name: "Redis's spelling", url: at, ssl: mapping{"ssl_ca_certs": ours.File}, want: `RabbitMQ's spelling is "ca_certs"`},
		{name: "wrong password", url: "amqps://u:hunter22@" + s.TLSAddr + "//", ssl: mine(nil), want: "credentials refused"},
	} {
		tt.run(t)
	}
}

// A result store is reached under the same rules; Celery refuses a rediss:// that does not say what to check.
func TestTLSOfTheResultStore(t *testing.T) {
	t.Parallel()
	ours := testservers.NewAuthority(t)
	s := testservers.RedisTLS(t, ours.Issue("store", day, "127.0.0.1"), "")
	for _, tt := range []struct {
		name, url string
		ssl       mapping
		want      string
		warnings  int
	}{
		{"checked", "rediss://" + s.TLSAddr + "?ssl_cert_reqs=required&ssl_ca_certs=" + ours.File, nil, "", 0},
		{"by redis_backend_use_ssl", "redis://" + s.TLSAddr, mapping{"ssl_cert_reqs": "CERT_REQUIRED", "ssl_ca_certs": ours.File}, "", 0},
		{"not said", "rediss://" + s.TLSAddr, nil, "needs ssl_cert_reqs", 0},
		{"unknown authority", "rediss://" + s.TLSAddr + "?ssl_cert_reqs=required", nil, "unknown authority (ssl_ca_certs)", 0},
		{"no checks", "rediss://" + s.TLSAddr + "?ssl_cert_reqs=none", nil, "", 1},
		{"plain to a port with TLS", "redis://" + s.TLSAddr, nil, "use rediss://", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := dial.Results(tt.url, dial.ResultOptions{SSL: tt.ssl})
			if err == nil {
				defer b.Close()
				if w := b.(interface{ Warnings() []string }).Warnings(); len(w) != tt.warnings {
					t.Errorf("warnings %q, want %d", w, tt.warnings)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err = b.Store(ctx, resultbackend.Record{Result: protocol.Result{TaskID: "x", Status: protocol.Success}})
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
