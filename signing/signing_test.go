package signing

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/protocol"
)

const (
	golden   = "testdata/cert.pem"
	password = "not a secret"
)

func ring(t *testing.T, cfg Config) *Keyring {
	t.Helper()
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWhatCelerySignedIsRead(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.signed")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d golden messages, %v", len(files), err)
	}
	for _, file := range files {
		digest := strings.TrimSuffix(filepath.Base(file), ".signed")
		t.Run(digest, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			k := ring(t, Config{Store: golden, Digest: digest})
			v, err := protocol.Deserialize("application/data", data, protocol.Limits{Seal: k})
			if err != nil {
				t.Fatal(err)
			}
			if got := protocol.Repr(v); !strings.HasPrefix(got, "[[1, 'zwei'], {'x': None}, {") {
				t.Errorf("read %s", got)
			}
			for _, other := range []string{"sha224", "sha256", "sha384", "sha512"} {
				if other == digest {
					continue
				}
				if _, _, err := ring(t, Config{Store: golden, Digest: other}).Open(data); !errors.Is(err, protocol.ErrUntrusted) {
					t.Errorf("as %s: %v", other, err)
				}
			}
		})
	}
}

func TestKeysInEveryFormOfOpenSSL(t *testing.T) {
	t.Parallel()
	id, err := os.ReadFile("testdata/id.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, pass := range map[string]string{
		"key-pkcs8": "", "key-pkcs1": "", "key-pkcs8-encrypted": password, "key-pkcs1-encrypted": password,
	} {
		cfg := Config{Key: "testdata/" + name + ".pem", KeyPassword: pass, Certificate: golden, Store: "testdata/c*.pem"}
		k := ring(t, cfg)
		if k.signer != string(id) {
			t.Errorf("%s: we are %q, Celery says %q", name, k.signer, id)
		}
		sealed, err := k.Seal("application/json", "utf-8", []byte(`["x\u0000\u0001"]`))
		if err != nil {
			t.Fatal(err)
		}
		if kind, body, err := k.Open(sealed); err != nil || kind != "application/json" || string(body) != `["x\u0000\u0001"]` {
			t.Errorf("%s: %q %q %v", name, kind, body, err)
		}
		if printed := fmt.Sprintf("%v %+v %#v", k, k, k); strings.Contains(printed, k.key.D.String()) {
			t.Errorf("%s: the key is printed", name)
		}
		for _, wrong := range []string{"", "wrong", password} {
			if wrong == pass {
				continue
			}
			cfg.KeyPassword = wrong
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "security_key") || strings.Contains(err.Error(), password) {
				t.Errorf("%s with password %q: %v", name, wrong, err)
			}
		}
	}
}

func TestWhatDoesNotCount(t *testing.T) {
	t.Parallel()
	ca := testservers.NewAuthority(t)
	mine, known, stranger := ca.IssueRSA("mine", day, ""), ca.IssueRSA("known", day, ""), ca.IssueRSA("stranger", day, "")
	folder := t.TempDir()
	for _, c := range []testservers.Certificate{mine, known} {
		link(t, c.Cert, folder)
	}
	if err := os.Mkdir(filepath.Join(folder, "..data"), 0o700); err != nil { // of a mounted secret
		t.Fatal(err)
	}
	k := ring(t, Config{Key: mine.Key, Certificate: mine.Cert, Store: folder})
	body := []byte(`[[], {}, {}]`)
	seal := func(c testservers.Certificate) []byte {
		data, err := ring(t, Config{Key: c.Key, Certificate: c.Cert, Store: folder}).Seal("application/json", "utf-8", body)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := seal(known)
	if _, _, err := k.Open(good); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	parts := func(data []byte) [][]byte {
		raw, err := base64.StdEncoding.DecodeString(string(data))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.SplitN(raw, separator, 5)
	}
	pack := func(p [][]byte) []byte {
		return []byte(base64.StdEncoding.EncodeToString(bytes.Join(p, separator)))
	}
	change := func(i int, to []byte) []byte {
		p := parts(good)
		p[i] = to
		return pack(p)
	}
	thief := *k // claims to be known and has another key
	thief.signer = ring(t, Config{Key: known.Key, Certificate: known.Cert, Store: folder}).signer
	stolen, err := thief.Seal("application/json", "utf-8", body)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.SignPSS(rand.Reader, k.key, k.hash, k.sum(body), &rsa.PSSOptions{SaltLength: 20, Hash: k.hash})
	if err != nil {
		t.Fatal(err)
	}
	old := parts(seal(mine))
	old[1] = []byte(base64.StdEncoding.EncodeToString(short))
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not signed"},
		{"json", body, "not signed"},
		{"base64 of json", []byte(base64.StdEncoding.EncodeToString(body)), "not signed"},
		{"another body", change(4, []byte(`[["evil"], {}, {}]`)), "does not fit"},
		{"a byte more", change(4, append(bytes.Clone(body), ' ')), "does not fit"},
		{"no body", change(4, nil), "does not fit"},
		{"no signature", change(1, nil), "does not fit"},
		{"signature of zeros", change(1, []byte(base64.StdEncoding.EncodeToString(make([]byte, 256)))), "does not fit"},
		{"signature of a megabyte", change(1, []byte(base64.StdEncoding.EncodeToString(make([]byte, 1<<20)))), "does not fit"},
		{"signature in no base64", change(1, []byte("%%%")), "no base64"},
		{"signer in no base64", change(0, []byte("%%%")), "no base64"},
		{"no signer", change(0, nil), "unknown signer"},
		{"unknown signer", seal(stranger), "unknown signer"},
		{"a known name and another key", stolen, "does not fit"},
		{"a salt that Python refuses", pack(old), "does not fit"},
		{"cut", good[:len(good)/2], ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := k.Open(tt.data)
			if !errors.Is(err, protocol.ErrUntrusted) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want ErrUntrusted with %q", err, tt.want)
			}
			if len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
	t.Run("expired while we run", func(t *testing.T) {
		later := *k
		later.now = func() time.Time { return time.Now().Add(2 * day) }
		if _, _, err := later.Open(good); !errors.Is(err, protocol.ErrUntrusted) || !strings.Contains(err.Error(), "has expired") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a pickle, properly signed", func(t *testing.T) {
		data, err := k.Seal("application/x-python-serialize", "binary", []byte("\x80\x04N."))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protocol.Deserialize("application/data", data, protocol.Limits{Seal: k}); !errors.Is(err, protocol.ErrRefusedContent) {
			t.Errorf("%v", err)
		}
	})
	t.Run("signed twice", func(t *testing.T) {
		data, err := k.Seal("application/data", "utf-8", good)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protocol.Deserialize("application/data", data, protocol.Limits{Seal: k}); !errors.Is(err, protocol.ErrRefusedContent) {
			t.Errorf("%v", err)
		}
	})
}

const day = 24 * time.Hour

func link(t *testing.T, file, folder string) {
	t.Helper()
	if err := os.Link(file, filepath.Join(folder, filepath.Base(file))); err != nil {
		t.Fatal(err)
	}
}

func TestMistakesInTheConfigurationNameTheSetting(t *testing.T) {
	t.Parallel()
	ca := testservers.NewAuthority(t)
	mine, other, ec := ca.IssueRSA("mine", day, ""), ca.IssueRSA("other", day, ""), ca.Issue("ec", day, "")
	expired := ca.IssueRSA("expired", time.Minute, "")
	twice := t.TempDir()
	link(t, mine.Cert, twice)
	text, err := os.ReadFile(mine.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(twice, "again.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Key: mine.Key, Certificate: mine.Cert, Store: mine.Cert}
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"digest":                 {func(c *Config) { c.Digest = "md5" }, `security_digest "md5"`},
		"key without cert":       {func(c *Config) { c.Certificate = "" }, "belong together"},
		"key of another":         {func(c *Config) { c.Key = other.Key }, "is not the key of"},
		"key that is a cert":     {func(c *Config) { c.Key = mine.Cert }, "security_key: "},
		"cert that is a key":     {func(c *Config) { c.Certificate = mine.Key }, "security_certificate: "},
		"no RSA":                 {func(c *Config) { c.Key, c.Certificate = ec.Key, ec.Cert }, "need RSA"},
		"no file":                {func(c *Config) { c.Key = "/nonexistent" }, "security_key: open /nonexistent"},
		"a device":               {func(c *Config) { c.Key = "/dev/zero" }, "not a regular file"},
		"password of a bare key": {func(c *Config) { c.KeyPassword = "x" }, "is not encrypted"},
		"expired in the store":   {func(c *Config) { c.Store = expired.Cert }, "has expired"},
		"our own expired":        {func(c *Config) { c.Key, c.Certificate = expired.Key, expired.Cert }, "security_certificate"},
		"twice in the store":     {func(c *Config) { c.Store = twice }, "is there twice"},
		"a key in the store":     {func(c *Config) { c.Store = filepath.Dir(mine.Cert) }, "security_cert_store: "},
		"an empty store":         {func(c *Config) { c.Store = t.TempDir() }, "holds no certificate"},
		"a pattern for nothing":  {func(c *Config) { c.Store = "/nonexistent/*.pem" }, "holds no certificate"},
	} {
		cfg := good
		tt.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if k := ring(t, Config{Store: mine.Cert}); k != nil {
		if _, err := k.Seal("application/json", "utf-8", nil); err == nil {
			t.Error("signed without a key")
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, err := New(Config{Store: golden})
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"sha256", "sha512"} {
		data, err := os.ReadFile("testdata/" + name + ".signed")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	sha256, err := os.ReadFile("testdata/sha256.signed")
	if err != nil {
		f.Fatal(err)
	}
	_, body, err := k.Open(sha256)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, got, err := k.Open(data)
		switch {
		case err != nil && !errors.Is(err, protocol.ErrUntrusted):
			t.Errorf("%v does not wrap ErrUntrusted", err)
		case err == nil && !bytes.Equal(got, body):
			t.Errorf("%q counts as signed", got)
		}
		_, _ = protocol.Deserialize("application/data", data, protocol.Limits{Seal: k})
	})
}
