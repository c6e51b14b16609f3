package testservers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// StartRabbitMQ starts one RabbitMQ node, and the Erlang port mapper it registers with, on free loopback
// ports, and waits until an AMQP handshake succeeds (the port opens earlier). User and password are guest.
// The caller owns it and closes it. The virtual hosts named are there from the start, beside "/".
func StartRabbitMQ(ctx context.Context, vhosts ...string) (*Server, error) {
	return StartRabbitMQWith(ctx, RabbitMQOptions{VHosts: vhosts})
}

// RabbitMQOptions are what a node is to have beside its defaults.
type RabbitMQOptions struct {
	VHosts []string
	Users  []RabbitMQUser
	// TLS is shown on a second port, Server.TLSAddr; ClientCA, when given, is whose certificates are demanded there.
	TLS      *Certificate
	ClientCA string
	// Settings are more lines of rabbitmq.conf.
	Settings []string

	// Of a node of a cluster.
	mapper int    // port of the port mapper, which is not the node's; 0: it has its own
	cookie string // "": the node makes one
	join   string // name of the node to join
}

// The port in the name keeps two nodes apart that share one port mapper by mistake.
func nodeName(port int) string { return fmt.Sprintf("stalk%d@localhost", port) }

// A RabbitMQUser may do in "/" what three patterns say: configure, write, read.
type RabbitMQUser struct{ Name, Password, Configure, Write, Read string }

// StartRabbitMQWith is StartRabbitMQ with options.
func StartRabbitMQWith(ctx context.Context, o RabbitMQOptions) (*Server, error) {
	// Not the wrapper in /usr/sbin: that changes user and folder, and writes to the system's own node.
	root := os.Getenv(envRabbitRoot)
	server, err := lookup(root, "rabbitmq-server", "/usr/lib/rabbitmq/bin")
	if err != nil {
		return nil, err
	}
	epmd, err := lookup(root, "epmd")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	if o.mapper != 0 {
		ports[2] = o.mapper
	}
	dir, err := os.MkdirTemp("", "stalk-rabbitmq-")
	if err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	s := &Server{dir: dir, root: root, Addr: "127.0.0.1:" + strconv.Itoa(ports[0])}
	s.URL = "amqp://guest:guest@" + s.Addr + "//"
	if o.TLS != nil {
		s.TLSAddr = "127.0.0.1:" + strconv.Itoa(ports[3])
	}
	env, err := rabbitEnvironment(dir, ports, o)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.env = env
	s.start = func(ctx context.Context) error {
		if o.mapper == 0 {
			p, err := runMapper(ctx, dir, epmd, env, ports[2])
			if p != nil {
				s.procs = append(s.procs, p)
			}
			if err != nil {
				return err
			}
		}
		p, err := run(dir, server, env)
		if err != nil {
			return err
		}
		s.procs = append(s.procs, p)
		return poll(ctx, p, func(ctx context.Context) (err error) {
			s.Version, err = openAMQP(ctx, s.Addr)
			return err
		})
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// runMapper starts Erlang's port mapper in the foreground. It comes before the node, which would start one as a daemon
// that outlives it.
func runMapper(ctx context.Context, dir string, epmd program, env []string, port int) (*process, error) {
	p, err := run(dir, epmd, env, "-port", strconv.Itoa(port), "-address", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	return p, poll(ctx, p, func(ctx context.Context) error { return dial(ctx, port) })
}

// Ctl runs rabbitmqctl against a RabbitMQ node and returns what it prints. It takes about half a second, seconds on a
// busy machine. ("eval", "application:set_env(rabbit, consumer_timeout, 3000).") changes a setting of the running node,
// most of them for connections or channels opened later.
func (s *Server) Ctl(ctx context.Context, args ...string) (string, error) {
	ctl, err := lookup(s.root, "rabbitmqctl", "/usr/lib/rabbitmq/bin")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := ctl.command(ctx, s.dir, append([]string{"--quiet"}, args...))
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("testservers: rabbitmqctl %q: %w\n%s", args, err, out)
	}
	return string(out), nil
}

// rabbitEnvironment sets everything a node would otherwise take from the system.
func rabbitEnvironment(dir string, ports []int, o RabbitMQOptions) ([]string, error) {
	config := filepath.Join(dir, "rabbitmq.conf")
	definitions, err := rabbitDefinitions(o)
	if err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	files := map[string]string{
		filepath.Join(dir, "enabled_plugins"): "[].\n",
		// A small disk is no reason to stop a test broker from taking messages.
		config: "disk_free_limit.absolute = 20MB\nvm_memory_high_watermark.absolute = 1GB\n" +
			"load_definitions = " + filepath.Join(dir, "definitions.json") + "\n" + o.tls(ports[3]) + o.joining() + strings.Join(append(o.Settings, ""), "\n"),
		filepath.Join(dir, "definitions.json"): definitions,
	}
	if o.cookie != "" {
		if err := os.WriteFile(filepath.Join(dir, ".erlang.cookie"), []byte(o.cookie), 0o400); err != nil {
			return nil, fmt.Errorf("testservers: %w", err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("testservers: %w", err)
		}
	}
	return append(os.Environ(),
		"RABBITMQ_NODENAME="+nodeName(ports[0]),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", ports[0]),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", ports[1]),
		fmt.Sprintf("ERL_EPMD_PORT=%d", ports[2]),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "enabled_plugins"),
		"RABBITMQ_CONFIG_FILE="+config,
		"RABBITMQ_CONF_ENV_FILE="+filepath.Join(dir, "none"), // not /etc/rabbitmq/rabbitmq-env.conf
		"HOME="+dir, // the Erlang cookie
		// Two schedulers; and a table of ports that does not follow a container's file limit of 2^30,
		// which would cost hundreds of megabytes.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 +Q 65536 -kernel inet_dist_use_interface {127,0,0,1}",
		// The script becomes the Erlang machine: one process to signal, whose SIGTERM is an orderly stop.
		"RUNNING_UNDER_SYSTEMD=1",
	), nil
}

// joining are the lines for a node that joins another one when it boots for the first time.
func (o RabbitMQOptions) joining() string {
	if o.join == "" {
		return ""
	}
	return "cluster_formation.peer_discovery_backend = classic_config\ncluster_formation.classic_config.nodes.1 = " + o.join + "\n"
}

// tls are the lines of rabbitmq.conf for the second port.
func (o RabbitMQOptions) tls(port int) string {
	if o.TLS == nil {
		return ""
	}
	lines := fmt.Sprintf("listeners.ssl.1 = 127.0.0.1:%d\nssl_options.certfile = %s\nssl_options.keyfile = %s\n", port, o.TLS.Cert, o.TLS.Key)
	if o.ClientCA != "" {
		lines += fmt.Sprintf("ssl_options.cacertfile = %s\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n", o.ClientCA)
	}
	return lines
}

// rabbitDefinitions is what the node imports when it boots: guest, who may do everything everywhere, and the users
// asked for. It would make guest and "/" by itself, but not with definitions at hand.
func rabbitDefinitions(o RabbitMQOptions) (string, error) {
	type object = map[string]any
	user := func(name, password, tags string) object {
		salt := []byte{1, 2, 3, 4} // of a password everybody knows
		hash := sha256.Sum256(append(bytes.Clone(salt), password...))
		return object{
			"name": name, "tags": tags, "hashing_algorithm": "rabbit_password_hashing_sha256",
			"password_hash": base64.StdEncoding.EncodeToString(append(salt, hash[:]...)),
		}
	}
	users := []object{user("guest", "guest", "administrator")}
	var hosts, permissions []object
	for _, name := range append([]string{"/"}, o.VHosts...) {
		hosts = append(hosts, object{"name": name})
		permissions = append(permissions, object{"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"})
	}
	for _, u := range o.Users {
		users = append(users, user(u.Name, u.Password, ""))
		permissions = append(permissions, object{"user": u.Name, "vhost": "/", "configure": u.Configure, "write": u.Write, "read": u.Read})
	}
	text, err := json.Marshal(object{"users": users, "vhosts": hosts, "permissions": permissions})
	return string(text), err
}

// openAMQP answers whether the broker speaks, and what it is: it sends the protocol header and wants a
// Connection.Start (class 10, method 10) on channel 0. By then the node has booted; earlier, the port accepts and
// hangs up.
func openAMQP(ctx context.Context, addr string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if _, err := c.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return "", err
	}
	head := make([]byte, 11)
	if _, err := io.ReadFull(c, head); err != nil {
		return "", err
	}
	size := binary.BigEndian.Uint32(head[3:])
	if head[0] != 1 || size < 4 || size > 64<<10 || !bytes.Equal(head[7:], []byte{0, 10, 0, 10}) {
		return "", fmt.Errorf("testservers: no AMQP 0-9-1 broker at %s", addr)
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(c, body); err != nil {
		return "", err
	}
	return strings.TrimSpace(serverProperty(body, "product") + " " + serverProperty(body, "version")), nil
}

// serverProperty finds a text in the table of a Connection.Start. The name stands before it with its length, and
// the type S and a length of four bytes between them.
func serverProperty(body []byte, name string) string {
	_, rest, ok := bytes.Cut(body, append(append([]byte{byte(len(name))}, name...), 'S'))
	if !ok || len(rest) < 4 {
		return ""
	}
	n := int(binary.BigEndian.Uint32(rest))
	return string(rest[4:min(4+n, len(rest))])
}

func dial(ctx context.Context, port int) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return c.Close()
}
