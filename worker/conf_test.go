package worker

import (
	"strings"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

func TestAddressesLoseTheirPasswords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"amqp://me:p@ss/w0rd@host:1//", "amqp://me:********@host:1//"},
		{"redis://h/0", "redis://h/0"},
		{"redis://:secret@h/0;redis://h2?password=x&a=b", "redis://:********@h/0;redis://h2?a=b&password=%2A%2A%2A%2A%2A%2A%2A%2A"},
		{"redis://:se;cr,et@h:1/0", "redis://:********@h:1/0"},
		{"sentinel://:secret@h1:26379;h2:26379/0", "sentinel://:********@h1:26379;h2:26379/0"},
		{"sentinel://:secret@h1:1;sentinel://:secret@h2:1/0", "sentinel://:********@h1:1;sentinel://:********@h2:1/0"},
		{"amqp://u:secret@a//,amqp://u:secret@b//", "amqp://u:********@a//,amqp://u:********@b//"},
		{"cache+memcached://u:secret@s1:11211;v:secret@s2:11211/", "cache+memcached://u:********@s1:11211;v:********@s2:11211/"},
		{"redis://user:secret@localhost:6379?a=1;b=2", "redis://user:********@localhost:6379?********"},
		{"azureblockblob://DefaultEndpointsProtocol=https;AccountName=x;AccountKey=secret==;SharedAccessSignature=secret", "azureblockblob://DefaultEndpointsProtocol=https;AccountName=x;AccountKey=********;SharedAccessSignature=********"},
		{"redis://h?x=secret:secret@y", "redis://h?x=secret:********@y"},
		{"rpc://", "rpc://"},
		{"nothing of the kind", "nothing of the kind"},
	} {
		got := withoutPasswords(tt.text)
		if got != tt.want {
			t.Errorf("withoutPasswords(%q) = %q, want %q", tt.text, got, tt.want)
		}
		if strings.Contains(got, "secret") && !strings.Contains(tt.want, "secret") {
			t.Errorf("%q shows a secret", got)
		}
	}
}

func FuzzAddressesLoseTheirPasswords(f *testing.F) {
	f.Add("user", "a;b", "host/0?x=1")
	f.Fuzz(func(t *testing.T, user, password, rest string) {
		if strings.ContainsAny(user, ":@/?;,=") || strings.ContainsAny(password, "?") || strings.Contains(password, "://") ||
			strings.ContainsAny(rest, "@:") || len(password) < 4 || strings.Contains(user+":"+mask+"@"+rest, password) {
			t.Skip()
		}
		if got := withoutPasswords("redis://" + user + ":" + password + "@" + rest); strings.Contains(got, password) {
			t.Errorf("the password %q is in %q", password, got)
		}
	})
}

func TestConfWithDefaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			c.Settings = protocol.ObjectOf(arg("result_expires", int64(60)), arg("my_own", "x"), arg("broker_url", "redis://:secret@h"))
		})
		c := r.client()
		c.want("conf", `{"result_expires": 60, "my_own": "x", "broker_url": "redis://:********@h", "include": null, "deprecated_settings": null}`, arg("with_defaults", false))
		got := c.ask("conf", arg("with_defaults", true))
		v, err := protocol.ParseJSON([]byte(got), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		all := v.(*protocol.Object)
		for name, want := range map[string]string{
			"result_expires": "60", "my_own": "'x'", "broker_url": "'redis://:********@h'", "task_default_queue": "'celery'", "include": "[]",
			"redis_password": "'********'", "task_publish_retry_policy": "{'max_retries': 3, 'interval_start': 0, 'interval_max': 1, 'interval_step': 0.2}",
			"result_backend_max_retries": "inf", "worker_prefetch_multiplier": "4", "deprecated_settings": "None",
		} {
			if value, ok := all.Get(name); !ok || protocol.Repr(value) != want {
				t.Errorf("%s = %s, want %s", name, protocol.Repr(value), want)
			}
		}
		if all.Len() < 200 {
			t.Errorf("only %d settings", all.Len())
		}
	})
}
