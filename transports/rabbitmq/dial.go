package rabbitmq

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/internal/pytls"
)

var tlsNames = pytls.Names{CA: "ca_certs", Cert: "certfile", Key: "keyfile", Reqs: "cert_reqs", Host: "server_hostname"}

// config reads the files that o names. A nil o is nil.
func (o *TLS) config() (*tls.Config, error) {
	if o == nil {
		return nil, nil
	}
	c, err := pytls.Files{CA: o.CAFile, Cert: o.CertFile, Key: o.KeyFile}.Config(!o.Insecure, tlsNames)
	if err != nil {
		return nil, fmt.Errorf("rabbitmq: TLS: %w", err)
	}
	c.ServerName = o.ServerName
	c.MinVersion = max(o.MinVersion, tls.VersionTLS12)
	return c, nil
}

// frameMax is what we offer; RabbitMQ offers the same.
const frameMax = 131072

// open makes one AMQP connection. role is shown beside the node's name in the management pages.
func (t *Transport) open(ctx context.Context, a address, role string) (*amqp.Connection, *socket, error) {
	timeout := t.cfg.ConnectTimeout
	if a.timeout > 0 {
		timeout = a.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sock, err := t.dial(ctx, a)
	if err != nil {
		return nil, nil, connectError(a.String(), err, false)
	}
	_ = sock.SetDeadline(time.Now().Add(timeout)) // the driver takes it off when the handshake is over
	hurry := context.AfterFunc(ctx, func() { _ = sock.SetDeadline(time.Now()) })

	properties := t.properties(role)
	mended := newSocket(sock)
	c, err := amqp.Open(mended, amqp.Config{
		SASL:       a.mechanisms(properties),
		Vhost:      a.vhost,
		Heartbeat:  t.heartbeat(a),
		FrameSize:  frameMax,
		Properties: properties,
		Locale:     "en_US",
	})
	if inTime := hurry(); err == nil && !inTime {
		err = context.Cause(ctx)
	}
	if err == nil {
		mended.in.most.Store(int64(min(cmp.Or(c.Config.FrameSize, frameMax), frameMax)))
		return c, mended, nil
	}
	_ = mended.Close() // ends the driver's goroutines
	capabilities, _ := c.Properties["capabilities"].(amqp.Table)
	saysWhy, _ := capabilities[authenticationFailureClose].(bool)
	return nil, nil, connectError(a.String(), err, saysWhy)
}

func (t *Transport) dial(ctx context.Context, a address) (net.Conn, error) {
	var d net.Dialer
	sock, err := d.DialContext(ctx, "tcp", a.dial())
	switch {
	case err != nil:
		return nil, err
	case !a.secure:
		return pytls.Plain(sock, "amqps"), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.tls != nil {
		cfg = t.tls.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = a.host
	}
	return pytls.Handshake(ctx, sock, cfg, tlsNames)
}

func (t *Transport) heartbeat(a address) time.Duration {
	if a.heartbeat != nil {
		return *a.heartbeat
	}
	return t.cfg.Heartbeat
}

func (t *Transport) properties(role string) amqp.Table {
	p := amqp.Table{"product": "Stalk", "platform": "Go", "connection_name": t.cfg.Name + " " + role}
	if more, ok := t.cfg.Options["client_properties"].(map[string]any); ok {
		for k, v := range more {
			if text, ok := v.(string); ok && len(k) <= maxShort && k != "capabilities" {
				p[k] = text
			}
		}
	}
	return p
}

// authenticationFailureClose is the capability by which a broker answers wrong credentials with a close
// frame and its reason, instead of hanging up as if the network had failed.
const authenticationFailureClose = "authentication_failure_close"

// mechanisms are the logins to try, in Kombu's order.
func (a address) mechanisms(properties amqp.Table) []amqp.Authentication {
	plain := login{"PLAIN", func() string { return "\x00" + a.user + "\x00" + a.password }, properties}
	amqplain := login{"AMQPLAIN", (&amqp.AMQPlainAuth{Username: a.user, Password: a.password}).Response, properties}
	external := login{"EXTERNAL", (&amqp.ExternalAuth{}).Response, properties}
	switch strings.ToUpper(a.login) {
	case "PLAIN":
		return []amqp.Authentication{plain}
	case "AMQPLAIN":
		return []amqp.Authentication{amqplain}
	case "EXTERNAL":
		return []amqp.Authentication{external}
	}
	return []amqp.Authentication{plain, amqplain}
}

// login is a SASL mechanism. It also announces authentication_failure_close: the driver writes the
// capabilities itself and leaves that one out, but asks for Response between filling the table and sending it.
type login struct {
	mechanism  string
	response   func() string
	properties amqp.Table
}

func (l login) Mechanism() string { return l.mechanism }

func (l login) Response() string {
	if capabilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		capabilities[authenticationFailureClose] = true
	}
	return l.response()
}

// String keeps the password out of anything that prints a Config.
func (l login) String() string   { return l.mechanism }
func (l login) GoString() string { return l.mechanism }
