package redisopt

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

// Broker reads a broker URL by Kombu's rules (one URL, or a failover or Sentinel list separated by
// ";"), its broker_transport_options and its broker_use_ssl. Either may be nil; an ssl that is not nil asks for
// TLS, with the server checked, also when it is empty. Transport options that
// are not about connecting are left alone; an unknown query key is an error, as in Python.
func Broker(rawURL string, transport, ssl map[string]any) (*Options, error) {
	o, err := (&reading{text: rawURL, opts: transport, ssl: ssl}).options()
	if err != nil {
		return nil, fmt.Errorf("redisopt: broker url: %w", err)
	}
	return o, nil
}

// Results reads a result_backend URL by Celery's rules, its result_backend_transport_options and its
// redis_backend_use_ssl. Either may be nil. Query keys override the options.
func Results(rawURL string, transport, ssl map[string]any) (*Options, error) {
	o, err := (&reading{text: rawURL, opts: transport, ssl: ssl, results: true}).options()
	if err != nil {
		return nil, fmt.Errorf("redisopt: result url: %w", err)
	}
	return o, nil
}

// A reading is one call of Broker or Results.
type reading struct {
	text    string
	opts    map[string]any
	ssl     map[string]any
	results bool
	out     Options
	query   map[string]string // what overrides opts, lower precedence first
}

func (r *reading) options() (*Options, error) {
	var entries []entry
	for _, text := range strings.Split(r.text, ";") {
		e, err := splitURL(text, len(entries) > 0)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	r.out.scheme = entries[0].scheme
	r.query = map[string]string{}
	for i, e := range entries {
		if e.unix() && len(entries) > 1 {
			return nil, fmt.Errorf("entry %d: a unix socket cannot be in a list", i+1)
		}
		if i > 0 && (e.scheme == "sentinel") != (r.out.scheme == "sentinel") && e.scheme != "" {
			return nil, fmt.Errorf("entry %d: scheme %q in a list of %q", i+1, e.scheme, r.out.scheme)
		}
	}
	if err := r.servers(entries); err != nil {
		return nil, err
	}
	if r.out.scheme == "sentinel" {
		if err := r.sentinel(entries); err != nil {
			return nil, err
		}
	}
	return &r.out, r.limits()
}

// servers makes one Server of each entry. Kombu keeps port and path of the entry before when an entry
// has none, and forgets user and password.
func (r *reading) servers(entries []entry) error {
	port, path, secure := "", "", map[string]any(nil)
	for i, e := range entries {
		where := ""
		if len(entries) > 1 {
			where = fmt.Sprintf("entry %d: ", i+1)
		}
		if e.scheme == "" { // a bare host of a list: all else is the first entry's
			e.scheme, e.user, e.password = entries[0].scheme, entries[0].user, entries[0].password
			e.port, e.path = cmp.Or(e.port, entries[0].port), entries[0].path
		}
		sslOpts, err := r.keys(&e)
		if err != nil {
			return fmt.Errorf("%s%w", where, err)
		}
		port, path = cmp.Or(e.port, port), cmp.Or(e.path, path)
		if sslOpts == nil {
			sslOpts = secure
		}
		if i == 0 {
			if len(sslOpts) == 0 {
				sslOpts = r.ssl
			}
			secure = sslOpts
		}
		s := Server{Network: "tcp", Username: e.user, Password: e.password, host: e.host, port: port, path: path}
		dbText := path
		if e.unix() {
			s.Network, s.Addr = "unix", "/"+e.path
			dbText = e.query["virtual_host"]
			if r.results && e.query["password"] != "" {
				s.Password = e.query["password"]
			}
		} else {
			s.Addr = net.JoinHostPort(cmp.Or(e.host, "127.0.0.1"), cmp.Or(port, strconv.Itoa(defaultPort(e.scheme))))
		}
		if r.results && e.query["db"] != "" {
			dbText = e.query["db"]
		}
		db, err := database(dbText)
		if err != nil {
			return fmt.Errorf("%s%w", where, err)
		}
		if i > 0 && db != r.out.DB && !(r.out.scheme == "sentinel" && r.results) {
			return fmt.Errorf("%sdatabase %d, but the first entry has %d", where, db, r.out.DB)
		}
		if i == 0 {
			r.out.DB = db
		}
		if s.TLS, err = r.tls(e.scheme, sslOpts, r.ssl != nil); err != nil {
			return fmt.Errorf("%s%w", where, err)
		}
		r.out.Servers = append(r.out.Servers, s)
	}
	return nil
}

// database reads the path or virtual_host: "" and "/" are 0, one leading slash may be left.
func database(text string) (int, error) {
	text = strings.TrimPrefix(text, "/")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("database %s is not a number", pyurl.Shown(text))
	}
	return n, nil
}

// Query keys beside ssl_*. The value says whether it is used; the others are accepted because Python
// accepts them and mean nothing here.
var (
	brokerKeys = map[string]bool{"heartbeat": false, "connect_timeout": true, "login_method": false, "insist": false}
	socketKeys = map[string]bool{
		"virtual_host": true, "db": false, "password": false, "username": false,
		"socket_timeout": true, "socket_read_size": false, "encoding": false, "encoding_errors": false, "decode_responses": false,
		"health_check_interval": false, "retry_on_timeout": false, "client_name": true, "max_connections": true,
	}
	resultKeys = map[string]bool{
		"virtual_host": true, "db": true, "password": true, "username": false,
		"socket_timeout": true, "socket_connect_timeout": true, "socket_keepalive": false, "socket_read_size": false,
		"retry_on_timeout": false, "retry_on_error": false, "health_check_interval": false, "max_connections": true,
		"client_name": true, "protocol": false, "encoding": false, "encoding_errors": false, "decode_responses": false,
		"timeout": false,
	}
)

// keys checks the query, takes its ssl_* keys out and returns them; nil when there was none.
func (r *reading) keys(e *entry) (map[string]any, error) {
	known := brokerKeys
	switch {
	case r.results:
		known = resultKeys
	case e.unix():
		known = socketKeys
	}
	var ssl map[string]any
	for k, v := range e.query {
		if strings.HasPrefix(k, "ssl_") {
			if r.results && e.scheme == "redis" {
				return nil, fmt.Errorf("query key %q needs the scheme rediss", k)
			}
			if ssl == nil {
				ssl = map[string]any{}
			}
			if r.results { // Celery decodes these twice: they are documented as percent-encoded
				if u, err := url.PathUnescape(v); err == nil {
					v = u
				}
			}
			ssl[k] = v
			delete(e.query, k)
			continue
		}
		if k == "credential_provider" {
			return nil, fmt.Errorf("query key %q names a Python class and cannot be used here", k)
		}
		used, ok := known[k]
		if !ok {
			return nil, fmt.Errorf("unknown query key %s", pyurl.Shown(k))
		}
		if used {
			r.query[k] = v
		}
	}
	return ssl, nil
}

func (r *reading) sentinel(entries []entry) error {
	first := r.out.Servers[0]
	first.Addr = ""
	s := &Sentinel{}
	for _, server := range r.out.Servers {
		s.Addrs = append(s.Addrs, server.Addr)
	}
	r.out.Servers = []Server{first}
	var err error
	if s.Master, err = textOption(r.opts, "master_name"); err != nil {
		return err
	}
	if s.Master == "" {
		return errors.New("transport option \"master_name\" is required by sentinel")
	}
	if s.MinOthers, err = intOption(r.opts, "min_other_sentinels"); err != nil {
		return err
	}
	if raw, ok := r.opts["sentinel_kwargs"]; ok && raw != nil {
		kw, ok := mapOf(raw)
		if !ok {
			return fmt.Errorf("transport option \"sentinel_kwargs\" is a %T, want a mapping", raw)
		}
		if s.Username, err = textOption(kw, "username"); err != nil {
			return fmt.Errorf("sentinel_kwargs: %w", err)
		}
		if s.Password, err = textOption(kw, "password"); err != nil {
			return fmt.Errorf("sentinel_kwargs: %w", err)
		}
		if s.Timeout, err = secondsOption(kw, "socket_timeout"); err != nil {
			return fmt.Errorf("sentinel_kwargs: %w", err)
		}
		if on, _ := kw["ssl"].(bool); on {
			sub := map[string]any{}
			for k, v := range kw {
				if strings.HasPrefix(k, "ssl_") {
					sub[k] = v
				}
			}
			if s.TLS, err = tlsConfig(sub); err != nil {
				return fmt.Errorf("sentinel_kwargs: %w", err)
			}
			r.warnUnchecked(s.TLS)
		}
	}
	r.out.Sentinel = s
	return nil
}

// limits reads timeouts and sizes: query before options before defaults.
func (r *reading) limits() error {
	merged := map[string]any{}
	for k, v := range r.opts {
		merged[k] = v
	}
	for k, v := range r.query {
		merged[k] = v
	}
	connect, err := secondsOption(merged, "socket_connect_timeout")
	if err != nil {
		return err
	}
	if connect == 0 {
		if connect, err = secondsOption(merged, "connect_timeout"); err != nil {
			return err
		}
	}
	r.out.ConnectTimeout = cmp.Or(connect, DefaultConnectTimeout)
	socket, err := secondsOption(merged, "socket_timeout")
	if err != nil {
		return err
	}
	r.out.SocketTimeout = cmp.Or(socket, DefaultSocketTimeout)
	file, err := textOption(r.opts, "password_file")
	if err != nil {
		return err
	}
	for i := range r.out.Servers {
		r.out.Servers[i].PasswordFile = file
	}
	if r.out.MaxConnections, err = intOption(merged, "max_connections"); err != nil {
		return err
	}
	r.out.ClientName, err = textOption(merged, "client_name")
	return err
}

// An entry is one URL of a list, split and percent-decoded as kombu.utils.url does it.
type entry struct {
	scheme, user, password, host, port, path string
	query                                    map[string]string
}

func (e entry) unix() bool { return e.scheme == "redis+socket" }

var schemes = map[string]bool{"redis": true, "rediss": true, "redis+socket": true, "sentinel": true}

// splitURL never quotes more than one part of the text: the whole of it holds a password.
func splitURL(text string, bare bool) (e entry, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		if !bare {
			return e, errors.New("no scheme")
		}
		scheme, rest = "", text
	}
	e.scheme = strings.ToLower(scheme)
	if e.scheme != "" && !schemes[e.scheme] {
		return e, fmt.Errorf("scheme %q is not one of redis, rediss, redis+socket, sentinel", scheme)
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return e, errors.New("query is not readable")
	}
	e.query = map[string]string{}
	for k, v := range values {
		if last := v[len(v)-1]; last != "" { // parse_qsl drops empty values, dict() keeps the last
			e.query[k] = last
		}
	}
	authority, path, _ := strings.Cut(rest, "/")
	host := authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		host = authority[at+1:]
		if e.user, err = decode("user", user); err != nil {
			return e, err
		}
		if e.password, err = decode("password", password); err != nil {
			return e, err
		}
	}
	if e.path, err = decode("path", path); err != nil {
		return e, err
	}
	return e, e.address(host)
}

func (e *entry) address(host string) (err error) {
	if strings.HasPrefix(host, "[") {
		inner, after, ok := strings.Cut(host[1:], "]")
		if !ok || (after != "" && after[0] != ':') {
			return fmt.Errorf("host %q is no IPv6 address", host)
		}
		host, e.port = inner, strings.TrimPrefix(after, ":")
	} else {
		host, e.port, _ = strings.Cut(host, ":")
	}
	if e.port != "" {
		if n, err := strconv.ParseUint(e.port, 10, 16); err != nil {
			return errors.New("the port is not a number below 65536 (not shown: it may be part of a password that is not percent-encoded)")
		} else if n == 0 {
			e.port = "" // falsy in Python: the default
		}
	}
	e.host, err = decode("host", strings.ToLower(host))
	return err
}

// decode is Python's unquote, of a part of bounded length.
func decode(part, text string) (string, error) {
	if len(text) > 4096 {
		return "", fmt.Errorf("%s is longer than 4096 bytes", part)
	}
	return pyurl.Unquote(text), nil
}

// seconds bounds a configured duration: none is negative, none overflows.
func seconds(f float64) (time.Duration, bool) {
	if !(f >= 0 && f <= 1e9) {
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}
