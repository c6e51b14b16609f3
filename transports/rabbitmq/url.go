package rabbitmq

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/internal/pyurl"
)

// An address is one URL of the list. An empty field was not in the URL.
type address struct {
	secure         bool // amqps
	host           string
	port           int
	user, password string
	vhost          string
	login          string
	heartbeat      *time.Duration // nil: as configured
	timeout        time.Duration  // 0: as configured
}

// parseURLs reads a failover list.
func parseURLs(first string, more []string) ([]address, error) {
	var texts []string
	for _, list := range append([]string{first}, more...) {
		for text := range strings.SplitSeq(list, ";") {
			if text != "" {
				texts = append(texts, text)
			}
		}
	}
	if len(texts) == 0 {
		texts = []string{"amqp://"}
	}
	var out []address
	var errs []error
	for i, text := range texts {
		a, err := parseURL(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("rabbitmq: broker URL %d: %w", i+1, err)) // its text may hold a password
			continue
		}
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

// parseURL reads one URL by Kombu's rules (its own, not RFC 3986's: "%" sequences that are none stay as
// they are, one slash before the virtual host is not part of it). "host" and "host:port" without a scheme are AMQP.
func parseURL(text string) (address, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "amqp", text
	}
	var a address
	switch strings.ToLower(scheme) {
	case "amqp", "pyamqp", "librabbitmq":
	case "amqps":
		a.secure = true
	default:
		return a, fmt.Errorf("scheme %q, want amqp, amqps or pyamqp", scheme)
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	a.vhost = pyurl.Unquote(path)
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		a.user, a.password = pyurl.Unquote(user), pyurl.Unquote(password)
		authority = authority[i+1:]
	}
	if err := a.parseHost(authority); err != nil {
		return a, err
	}
	return a, a.parseQuery(query)
}

func (a *address) parseHost(authority string) error {
	host, port := authority, ""
	if strings.HasPrefix(authority, "[") {
		end := strings.IndexByte(authority, ']')
		if end < 0 {
			return errors.New("host without its closing bracket")
		}
		host, port = authority[1:end], strings.TrimPrefix(authority[end+1:], ":")
	} else if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		host, port = authority[:i], authority[i+1:]
	}
	a.host = strings.ToLower(pyurl.Unquote(host))
	if port == "" {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return errors.New("the port is not a number from 0 to 65535 (not shown: it may be part of a password that is not percent-encoded)")
	}
	a.port = int(n)
	return nil
}

func (a *address) parseQuery(query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, value = unquotePlus(key), unquotePlus(value)
		if key == "" || value == "" {
			continue // Python's parse_qsl drops these
		}
		switch key {
		case "heartbeat", "connect_timeout":
			f, err := strconv.ParseFloat(value, 64)
			d, ok := seconds(f)
			if err != nil || !ok {
				return fmt.Errorf("%s %q, want seconds", key, value)
			}
			if key == "heartbeat" {
				a.heartbeat = &d
			} else {
				a.timeout = d
			}
		case "login_method":
			if err := checkLogin(value); err != nil {
				return err
			}
			a.login = value
		case "insist": // an AMQP 0-8 flag that no broker reads
		default:
			return fmt.Errorf("unknown parameter %s, want heartbeat, connect_timeout, login_method or insist", pyurl.Shown(key))
		}
	}
	return nil
}

func checkLogin(method string) error {
	switch strings.ToUpper(method) {
	case "PLAIN", "AMQPLAIN", "EXTERNAL":
		return nil
	}
	return fmt.Errorf("login_method %q, want PLAIN, AMQPLAIN or EXTERNAL", method)
}

func unquotePlus(s string) string { return pyurl.Unquote(strings.ReplaceAll(s, "+", " ")) }

// inherit fills port and virtual host from the address dialled before.
func (a *address) inherit(before address) {
	a.port = cmp.Or(a.port, before.port)
	a.vhost = cmp.Or(a.vhost, before.vhost)
}

func (a address) withDefaults(secure bool) address {
	a.secure = a.secure || secure
	port := 5672
	if a.secure {
		port = 5671
	}
	a.port = cmp.Or(a.port, port)
	a.host = cmp.Or(a.host, "localhost")
	a.vhost = cmp.Or(a.vhost, "/")
	a.user, a.password = cmp.Or(a.user, "guest"), cmp.Or(a.password, "guest")
	return a
}

// dial is where to connect to. As in Kombu, localhost is the IPv4 one: brokers in containers often listen there only.
func (a address) dial() string {
	host := a.host
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(a.port))
}

// String never holds the password.
func (a address) String() string {
	a = a.withDefaults(false)
	scheme := "amqp"
	if a.secure {
		scheme = "amqps"
	}
	// The virtual host is written as Kombu does it: its slashes stay.
	vhost := strings.ReplaceAll(url.PathEscape(a.vhost), "%2F", "/")
	return fmt.Sprintf("%s://%s:**@%s/%s", scheme, url.PathEscape(a.user), net.JoinHostPort(a.host, strconv.Itoa(a.port)), vhost)
}
