package rabbitmq

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// What Kombu 5.7 makes of these URLs, as observed; only "h:5672" it misreads, and we do not.
func TestURLs(t *testing.T) {
	for _, tt := range []struct{ url, dial, user, password, vhost, shown string }{
		{"", "127.0.0.1:5672", "guest", "guest", "/", "amqp://guest:**@localhost:5672//"},
		{"amqp://", "127.0.0.1:5672", "guest", "guest", "/", "amqp://guest:**@localhost:5672//"},
		{"amqp://h", "h:5672", "guest", "guest", "/", "amqp://guest:**@h:5672//"},
		{"amqp://h/", "h:5672", "guest", "guest", "/", "amqp://guest:**@h:5672//"},
		{"amqp://h//", "h:5672", "guest", "guest", "/", "amqp://guest:**@h:5672//"},
		{"amqp://h/%2f", "h:5672", "guest", "guest", "/", "amqp://guest:**@h:5672//"},
		{"amqp://h/vh", "h:5672", "guest", "guest", "vh", "amqp://guest:**@h:5672/vh"},
		{"amqp://h//vh", "h:5672", "guest", "guest", "/vh", "amqp://guest:**@h:5672//vh"},
		{"amqp://h/a%2Fb", "h:5672", "guest", "guest", "a/b", "amqp://guest:**@h:5672/a/b"},
		{"amqps://h//", "h:5671", "guest", "guest", "/", "amqps://guest:**@h:5671//"},
		{"pyamqp://u:p%40@h:1/v", "h:1", "u", "p@", "v", "amqp://u:**@h:1/v"},
		{"amqp://u@h", "h:5672", "u", "guest", "/", "amqp://u:**@h:5672//"},
		{"amqp://:p@h", "h:5672", "guest", "p", "/", "amqp://guest:**@h:5672//"},
		{"amqp://u:p@[::1]:5673/v", "[::1]:5673", "u", "p", "v", "amqp://u:**@[::1]:5673/v"},
		{"amqp://u:a%b@h/100%", "h:5672", "u", "a%b", "100%", "amqp://u:**@h:5672/100%25"},
		{"amqp://u:p@ss@H", "h:5672", "u", "p@ss", "/", "amqp://u:**@h:5672//"},
		{"h", "h:5672", "guest", "guest", "/", "amqp://guest:**@h:5672//"},
		{"h:5673", "h:5673", "guest", "guest", "/", "amqp://guest:**@h:5673//"},
		{"amqp://localhost", "127.0.0.1:5672", "guest", "guest", "/", "amqp://guest:**@localhost:5672//"},
	} {
		t.Run(tt.url, func(t *testing.T) {
			tr, err := New(Config{URL: tt.url})
			if err != nil {
				t.Fatal(err)
			}
			a := tr.advance().withDefaults(false)
			if a.dial() != tt.dial || a.user != tt.user || a.password != tt.password || a.vhost != tt.vhost || tr.String() != tt.shown {
				t.Errorf("got %s %q %q %q %s", a.dial(), a.user, a.password, a.vhost, tr)
			}
		})
	}
}

func TestURLParameters(t *testing.T) {
	tr, err := New(Config{URL: "amqp://h//?heartbeat=30.5&connect_timeout=3&login_method=AMQPLAIN&insist=1&empty="})
	if err != nil {
		t.Fatal(err)
	}
	a := tr.advance()
	if tr.heartbeat(a) != 30500*time.Millisecond || a.timeout != 3*time.Second || len(a.mechanisms(nil)) != 1 {
		t.Errorf("got %+v", a)
	}
	for url, want := range map[string]string{
		"amqp://u:secret@h//?foo=1":            `"foo"`,
		"amqp://u:secret@h//?ssl_ca_certs=/x":  `"ssl_ca_certs"`,
		"amqp://u:secret@h//?heartbeat=nan":    "heartbeat",
		"amqp://u:secret@h//?heartbeat=-1":     "heartbeat",
		"amqp://u:secret@h//?connect_timeout=": "",
		"amqp://u:secret@h//?login_method=X":   "login_method",
		"amqp://u:secret@h:port":               "port",
		"amqp://u:secret@h:99999":              "port",
		"amqp://u:secret@[::1":                 "bracket",
		"redis://u:secret@h":                   "redis",
		"amqp://h;http://u:secret@h":           "URL 2",
	} {
		_, err := New(Config{URL: url})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", url, err)
		case want == "":
		case err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: %v, want an error about %s without the password", url, err, want)
		}
	}
}

// As Kombu: an address without port and virtual host has those of the one before, never its user.
func TestFailoverList(t *testing.T) {
	shown := func(cfg Config, n int) string {
		tr, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for range n {
			out = append(out, tr.advance().String())
		}
		return strings.Join(out, " ")
	}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "amqp://u:p@a:5673/v;amqp://b"}, "amqp://u:**@a:5673/v amqp://guest:**@b:5673/v amqp://u:**@a:5673/v"},
		{Config{URL: "amqp://a;amqp://x:y@b:99/w;c"}, "amqp://guest:**@a:5672// amqp://x:**@b:99/w amqp://guest:**@c:99/w amqp://guest:**@a:99/w"},
		{Config{URLs: []string{"amqp://a", "amqp://b:1"}}, "amqp://guest:**@a:5672// amqp://guest:**@b:1//"},
		{Config{URL: "a", URLs: []string{"b;c"}}, "amqp://guest:**@a:5672// amqp://guest:**@b:5672// amqp://guest:**@c:5672//"},
	} {
		if got := shown(tt.cfg, strings.Count(tt.want, " ")+1); got != tt.want {
			t.Errorf("got %s\nwant %s", got, tt.want)
		}
	}
	first, _, _ := strings.Cut(shown(Config{URL: "a;b;c", FailoverStrategy: "shuffle"}, 5), " ")
	if first != "amqp://guest:**@a:5672//" {
		t.Errorf("shuffle starts with %s", first)
	}
}

func TestConfigMistakes(t *testing.T) {
	for name, cfg := range map[string]Config{
		"strategy":  {FailoverStrategy: "best"},
		"heartbeat": {Heartbeat: -1},
		"option":    {Options: map[string]any{"heartbeat": "often"}},
		"login":     {Options: map[string]any{"login_method": "KERBEROS"}},
		"CA":        {TLS: &TLS{CAFile: "/nonexistent"}},
		"key":       {TLS: &TLS{CertFile: "/nonexistent"}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	tr, err := New(Config{Options: map[string]any{
		"confirm_publish": true, "heartbeat": 20, "connect_timeout": 1.5, "login_method": "PLAIN",
		"client_properties": map[string]any{"team": "x", "n": 5},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if tr.cfg.Heartbeat != 20*time.Second || tr.cfg.ConnectTimeout != 1500*time.Millisecond || tr.properties("r")["team"] != "x" {
		t.Errorf("%+v %v", tr.cfg, tr.properties("r"))
	}
	tr, _ = New(Config{URL: "amqp://h", TLS: &TLS{Insecure: true}})
	if a := tr.advance().withDefaults(tr.tls != nil); a.dial() != "h:5671" || !a.secure {
		t.Errorf("TLS on amqp://: %s", a)
	}
}

// What prints a Transport or its parts prints no password.
func TestPasswordsAreNotPrinted(t *testing.T) {
	tr, err := New(Config{URL: "amqp://u:secret@h//;amqp://u:secret@i//"})
	if err != nil {
		t.Fatal(err)
	}
	a := tr.advance().withDefaults(false)
	for _, m := range a.mechanisms(nil) {
		if text := fmt.Sprintf("%v %+v %#v", m, m, m); strings.Contains(text, "secret") {
			t.Error(text)
		}
	}
	if text := fmt.Sprintf("%v %s %+v %v", tr, tr, a, connectError(a.String(), io.EOF, false)); strings.Contains(text, "secret") {
		t.Error(text)
	}
}

func TestConnectErrors(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		saysWhy bool
		want    error
	}{
		{"login refused", &amqp.Error{Code: 403, Server: true}, true, transports.ErrCredentials},
		{"virtual host not allowed", &amqp.Error{Code: 530, Server: true}, true, transports.ErrCredentials},
		{"no such virtual host", &amqp.Error{Code: 530, Server: true, Reason: "NOT_ALLOWED - vhost connection limit (1) not found"}, true, transports.ErrCredentials},
		{"no connection left in the virtual host", &amqp.Error{Code: 530, Server: true, Reason: "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (0) is reached"}, true, transports.ErrDisconnected},
		{"no connection left for the user", &amqp.Error{Code: 530, Server: true, Reason: "NOT_ALLOWED - connection refused for user 'u': user connection limit (0) is reached"}, true, transports.ErrDisconnected},
		{"no connection left on the node", &amqp.Error{Code: 530, Server: true, Reason: "NOT_ALLOWED - connection refused: node connection limit (5) is reached"}, true, transports.ErrDisconnected},
		{"no common mechanism", amqp.ErrSASL, true, transports.ErrCredentials},
		{"an old broker hangs up", amqp.ErrCredentials, false, transports.ErrCredentials},
		{"the network fails after the login", amqp.ErrCredentials, true, transports.ErrDisconnected},
		{"the network fails at the virtual host", amqp.ErrVhost, true, transports.ErrDisconnected},
		{"shutdown", &amqp.Error{Code: 320, Server: true}, true, transports.ErrDisconnected},
		{"virtual host down", &amqp.Error{Code: 541, Server: true}, true, transports.ErrDisconnected},
		{"refused", io.EOF, false, transports.ErrDisconnected},
	} {
		if got := connectError("amqp://h", tt.err, tt.saysWhy); !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMappedErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want error
	}{
		{&amqp.Error{Code: 404, Server: true, Recover: true}, transports.ErrRefused},
		{&amqp.Error{Code: 406, Server: true, Recover: true}, transports.ErrRefused},
		{&amqp.Error{Code: 541, Server: true}, transports.ErrDisconnected},
		{amqp.ErrClosed, transports.ErrDisconnected},
		{io.EOF, transports.ErrDisconnected},
		{fmt.Errorf("x: %w", transports.ErrRefused), transports.ErrRefused},
	} {
		if got := mapped("x", tt.err); !errors.Is(got, tt.want) {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
	if mapped("x", nil) != nil {
		t.Error("nil is an error")
	}
}

func FuzzURL(f *testing.F) {
	f.Add("amqp://u:p@h:1/v?heartbeat=5")
	f.Add("h:5672")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := parseURL(text); err == nil {
			_ = a.String()
			_ = a.withDefaults(true).dial()
		}
	})
}
