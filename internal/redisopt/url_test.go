package redisopt

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type reached struct {
	Network, Addr, User, Password string
	DB                            int
	TLS                           bool
	Text                          string
}

func TestBrokerURLs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url  string
		want reached
	}{
		{"redis://", reached{Network: "tcp", Addr: "127.0.0.1:6379", Text: "redis://localhost:6379//"}},
		{"redis://h", reached{Network: "tcp", Addr: "h:6379", Text: "redis://h:6379//"}},
		{"redis://H:6380/3", reached{Network: "tcp", Addr: "h:6380", DB: 3, Text: "redis://h:6380/3"}},
		{"redis://h//3", reached{Network: "tcp", Addr: "h:6379", DB: 3, Text: "redis://h:6379//3"}},
		{"redis://:p%40%2F@h/0", reached{Network: "tcp", Addr: "h:6379", Password: "p@/", Text: "redis://:**@h:6379/0"}},
		{"redis://us%65r:p:w@h/0", reached{Network: "tcp", Addr: "h:6379", User: "user", Password: "p:w", Text: "redis://user:**@h:6379/0"}},
		{"redis://[::1]:7/1", reached{Network: "tcp", Addr: "[::1]:7", DB: 1, Text: "redis://::1:7/1"}},
		{"rediss://h/0", reached{Network: "tcp", Addr: "h:6379", TLS: true, Text: "rediss://h:6379/0"}},
		{"redis+socket:///tmp/r.sock?virtual_host=5", reached{Network: "unix", Addr: "/tmp/r.sock", DB: 5, Text: "redis+socket:///tmp/r.sock"}},
		{"redis+socket://:pw@/tmp/r.sock?db=4", reached{Network: "unix", Addr: "/tmp/r.sock", Password: "pw", Text: "redis+socket://:**@/tmp/r.sock"}},
		{"redis://h/0?heartbeat=3&login_method=x", reached{Network: "tcp", Addr: "h:6379", Text: "redis://h:6379/0"}},
	} {
		o, err := Broker(tt.url, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		s := o.Servers[0]
		got := reached{s.Network, s.Addr, s.Username, s.Password, o.DB, s.TLS != nil, o.String()}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.url, d)
		}
	}
}

func TestRefusedURLsNameThePart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"unix:///x", `scheme "unix"`},
		{"localhost", "no scheme"},
		{"redis://h/x", `database "x"`},
		{"redis://h:99999/0", `the port is not a number`},
		{"redis://h/0?socket_timeout=5", `query key "socket_timeout"`},
		{"redis://a/0;redis://b/1", "entry 2: database 1"},
		{"sentinel://a", "master_name"},
		{"rediss://h/0?ssl_cert_reqs=maybe", `"ssl_cert_reqs": "maybe"`},
		{"rediss://h/0?ssl_ca_certs=/nonexistent.pem", "ssl_ca_certs"},
		{"redis://h/0?credential_provider=a.B", "credential_provider"},
	} {
		_, err := Broker(tt.url, nil, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %s", tt.url, err, tt.want)
		}
	}
	for _, u := range []string{"redis://u:hush@h:x/0", "redis://u:hush@h/zero", "nope://u:hush@h/0", "redis://u:hush@h/0?a=b"} {
		if _, err := Broker(u, nil, nil); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error %v, want one without the password", u, err)
		}
	}
}

func TestFailoverListKeepsPortAndDatabaseButNotCredentials(t *testing.T) {
	t.Parallel()
	o, err := Broker("redis://u:p@a:7000/2;redis://b;redis://c:7001", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range o.Servers {
		got = append(got, s.Addr+" "+s.Username+" "+s.Password)
	}
	if d := cmp.Diff([]string{"a:7000 u p", "b:7000  ", "c:7001  "}, got); d != "" {
		t.Error(d)
	}
	if o.DB != 2 {
		t.Errorf("database %d, want 2", o.DB)
	}
	if got := o.Address(1); got != "redis://b:7000/2" {
		t.Errorf("second address %s", got)
	}
}

func TestSentinelList(t *testing.T) {
	t.Parallel()
	o, err := Broker("sentinel://:pw@a/3;sentinel://b:5", map[string]any{
		"master_name": "m", "min_other_sentinels": 1.0, "sentinel_kwargs": map[string]any{"password": "s"},
	}, map[string]any{"ssl_cert_reqs": "none"})
	if err != nil {
		t.Fatal(err)
	}
	s := o.Sentinel
	if d := cmp.Diff([]string{"a:26379", "b:5"}, s.Addrs); d != "" {
		t.Error(d)
	}
	if s.Master != "m" || s.MinOthers != 1 || s.Password != "s" || s.TLS != nil {
		t.Errorf("sentinel %+v", s)
	}
	if o.DB != 3 || o.Servers[0].Password != "pw" || o.Servers[0].TLS == nil {
		t.Errorf("data node: db %d, %+v", o.DB, o.Servers[0])
	}
}

func TestTLSChecksTheServerUnlessToldNotTo(t *testing.T) {
	t.Parallel()
	o, err := Broker("rediss://h/0", nil, nil)
	if err != nil || len(o.Warnings) != 0 || o.Servers[0].TLS.InsecureSkipVerify {
		t.Errorf("broker: %v, %+v", err, o)
	}
	o, err = Broker("rediss://h/0?ssl_cert_reqs=none", nil, nil)
	if err != nil || len(o.Warnings) != 1 || !o.Servers[0].TLS.InsecureSkipVerify {
		t.Errorf("broker, unchecked: %v, %+v", err, o)
	}
	for name, ssl := range map[string]map[string]any{
		"true":     {}, // broker_use_ssl = True
		"null":     {"ssl_cert_reqs": nil},
		"required": {"ssl_cert_reqs": 2},
	} {
		o, err = Broker("redis://h/0;redis://i/0", nil, ssl)
		if err != nil || len(o.Warnings) != 0 {
			t.Errorf("%s: %v, %+v", name, err, o)
			continue
		}
		for i, s := range o.Servers {
			if s.TLS == nil || s.TLS.InsecureSkipVerify {
				t.Errorf("broker_use_ssl %s: server %d is reached in the clear or unchecked", name, i)
			}
		}
	}
	if _, err := Results("rediss://h/0", nil, nil); err == nil {
		t.Error("results: accepted without ssl_cert_reqs")
	}
	for _, reqs := range []string{"CERT_REQUIRED", "required", "CERT_OPTIONAL", "optional"} {
		o, err := Results("rediss://h/0?ssl_cert_reqs="+reqs, nil, nil)
		if err != nil || o.Servers[0].TLS.InsecureSkipVerify || len(o.Warnings) != 0 {
			t.Errorf("%s: %v", reqs, err)
		}
	}
	if _, err := Results("redis://h/0?ssl_cert_reqs=none", nil, nil); err == nil {
		t.Error("results: ssl keys accepted with redis://")
	}
	o, err = Results("redis://h/0", nil, map[string]any{"ssl_cert_reqs": "CERT_NONE"})
	if err != nil || o.Servers[0].TLS == nil {
		t.Errorf("redis:// with redis_backend_use_ssl: %v", err)
	}
	o, err = Broker("rediss://h/0?ssl_check_hostname=False&ssl_cert_reqs=required", nil, nil)
	if err != nil || o.Servers[0].TLS.VerifyConnection == nil || len(o.Warnings) != 0 {
		t.Errorf("no host name check: %v", err)
	}
}

func TestResultURLQueryOverridesOptions(t *testing.T) {
	t.Parallel()
	o, err := Results("redis://h/1?db=7&socket_timeout=3&max_connections=4", map[string]any{"socket_timeout": 9, "socket_connect_timeout": "2.5"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.DB != 7 || o.SocketTimeout != 3*time.Second || o.ConnectTimeout != 2500*time.Millisecond || o.MaxConnections != 4 {
		t.Errorf("%+v", o)
	}
	o, err = Results("redis+socket:///r.sock?virtual_host=3&password=pw", nil, nil)
	if err != nil || o.DB != 3 || o.Servers[0].Password != "pw" {
		t.Errorf("socket: %v %+v", err, o)
	}
}

func FuzzBroker(f *testing.F) {
	for _, s := range []string{"redis://u:p@h:1/2?ssl_cert_reqs=none", "redis://a;b;redis://c/0", "redis+socket:///x?virtual_host=1", "redis://[::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, u string) {
		if strings.Contains(u, "ssl_c") || strings.Contains(u, "ssl_k") || strings.Contains(u, "%73") {
			return // would read files
		}
		if o, err := Broker(u, nil, nil); err == nil && len(o.Servers) == 0 {
			t.Errorf("%q: no server and no error", u)
		}
	})
}
