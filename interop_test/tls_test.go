package interop_test

import (
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// One settings file for both sides: servers with TLS that demand a certificate of whoever comes.
func TestCelerysTLSSettingsServeBothSides(t *testing.T) {
	for _, name := range []string{"redis", "rabbitmq"} {
		t.Run(name, func(t *testing.T) {
			need(t)
			t.Parallel()
			ca := testservers.NewAuthority(t)
			own, me := ca.Issue("server", 24*time.Hour, "127.0.0.1", "localhost"), ca.Issue("me", 24*time.Hour)
			store := testservers.RedisTLS(t, own, ca.File)
			files := map[string]any{"ssl_ca_certs": ca.File, "ssl_certfile": me.Cert, "ssl_keyfile": me.Key, "ssl_cert_reqs": "required"}
			s := setup{name: name, broker: "rediss://" + store.TLSAddr + "/0", backend: "rediss://" + store.TLSAddr + "/1"}.
				with("redis_backend_use_ssl", files).with("broker_use_ssl", files)
			if name == "rabbitmq" {
				server := testservers.RabbitMQWith(t, testservers.RabbitMQOptions{TLS: &own, ClientCA: ca.File})
				s.broker = "amqps://guest:guest@" + server.TLSAddr + "//"
				s = s.with("broker_use_ssl", map[string]any{
					"ca_certs": ca.File, "certfile": me.Cert, "keyfile": me.Key, "cert_reqs": 2, "server_hostname": "localhost",
				})
			}
			queue := unique("tls")
			w := s.stalk(t, queue)
			s.python(t, queue).run(`
				assert [add.apply_async((i,), queue=Q).get(timeout=60) for i in range(5)] == [1, 2, 3, 4, 5]
				assert app.control.inspect(timeout=60, destination=[W]).ping() == {W: {"ok": "pong"}}
			`, map[string]any{"W": w.name + "@test"})
			w.stop()
		})
	}
}
