// Package dial turns broker and result URLs into the driver that serves them. It is the one place that
// knows every driver: a new one is a package and a case here.
//
// It reads Celery's URLs and option mappings and builds settings only; no connection is made.
package dial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/stalkworker/stalk/internal/pytls"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
	"github.com/stalkworker/stalk/resultbackend/rpcresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/rabbitmq"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// BrokerOptions are Celery's settings around broker_url. The zero value is Celery's default.
type BrokerOptions struct {
	Transport      map[string]any  // broker_transport_options
	SSL            any             // broker_use_ssl: nil, a boolean, or a mapping
	Heartbeat      time.Duration   // of RabbitMQ; 0: 10 s
	ConnectTimeout time.Duration   // 0: 4 s
	Failover       string          // broker_failover_strategy; "": round-robin
	DelayQueueType string          // broker_native_delayed_delivery_queue_type; "": quorum
	Node           string          // shown to RabbitMQ's operators
	Limits         protocol.Limits // what reading an envelope may cost, on Redis
	Logger         *slog.Logger    // for what a driver does in the background; nil: discard
}

// Broker returns the transport of a broker URL, or of a failover list separated by ";".
func Broker(url string, o BrokerOptions) (transports.Transport, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	switch scheme := scheme(url); scheme {
	case "amqp", "amqps", "pyamqp", "":
		tls, err := rabbitTLS(o.SSL)
		if err != nil {
			return nil, err
		}
		if tls != nil && tls.Insecure {
			log.Warn(pytls.Unchecked)
		}
		return ok(rabbitmq.New(rabbitmq.Config{
			URL: url, TLS: tls, Heartbeat: o.Heartbeat, ConnectTimeout: o.ConnectTimeout, Name: o.Node,
			FailoverStrategy: o.Failover, Options: o.Transport, DelayQueueType: o.DelayQueueType,
			Notify: func(queue string, err error) {
				if err == nil {
					log.Info("queue is being consumed again", "queue", queue)
					return
				}
				level := slog.LevelWarn
				if errors.Is(err, transports.ErrRefused) { // somebody must act: it will not be otherwise by itself
					level = slog.LevelError
				}
				log.Log(context.Background(), level, "queue cannot be consumed yet; trying again", "queue", queue, "err", err)
			},
		}))
	case "redis", "rediss", "redis+socket", "sentinel":
		ssl, err := mapping("broker_use_ssl", o.SSL)
		if err != nil {
			return nil, err
		}
		return ok(redisbroker.New(redisbroker.Config{URL: url, Options: o.Transport, SSL: ssl, Limits: o.Limits, Warn: log.Warn, Alarm: log.Error}))
	default:
		return nil, fmt.Errorf("dial: broker URL scheme %q is not one of amqp, amqps, pyamqp, redis, rediss, redis+socket, sentinel", scheme)
	}
}

// ok keeps a nil driver from becoming a non-nil interface.
func ok[T transports.Transport](t T, err error) (transports.Transport, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ResultOptions are Celery's settings around result_backend. The zero value is Celery's default.
type ResultOptions struct {
	Transport      map[string]any       // result_backend_transport_options
	SSL            map[string]any       // redis_backend_use_ssl
	Expires        *time.Duration       // result_expires; nil: a day; 0: for ever
	FailureExpires *time.Duration       // result_failure_expires; nil: Expires
	ChordExpires   *time.Duration       // result_chord_expires; nil: Expires
	JoinTimeout    time.Duration        // result_chord_join_timeout; 0: 3 s
	Persistent     bool                 // result_persistent, of rpc
	Encoding       protocol.Encoding    // result_serializer, result_compression and timezone
	Broker         transports.Transport // where rpc sends its replies
	Most           int                  // bytes of a stored result; 0: 128 MiB
}

// Results returns the backend of a result URL; nil, without error, for "" and "disabled://".
func Results(url string, o ResultOptions) (resultbackend.Backend, error) {
	switch scheme := scheme(url); scheme {
	case "", "disabled":
		if scheme == "" && url != "" && url != "disabled" {
			return Results(url+"://", o) // "rpc" alone, as Celery allows
		}
		return nil, nil
	case "redis", "rediss", "redis+socket", "sentinel":
		b, err := redisresult.New(redisresult.Config{
			URL: url, Options: o.Transport, TLS: o.SSL, Expires: o.Expires, FailureExpires: o.FailureExpires,
			ChordExpires: o.ChordExpires, JoinTimeout: o.JoinTimeout, Encoding: o.Encoding, Most: o.Most,
		})
		if err != nil {
			return nil, err
		}
		return b, nil
	case "rpc", "amqp":
		if o.Broker == nil {
			return nil, fmt.Errorf("dial: rpc:// needs a broker to send its replies through")
		}
		cfg := rpcresult.Config{Transport: o.Broker, Persistent: o.Persistent, Encoding: o.Encoding, Most: o.Most}
		if o.Expires != nil && *o.Expires > 0 {
			cfg.Expires = *o.Expires
		}
		b, err := rpcresult.New(cfg)
		if err != nil {
			return nil, err
		}
		return b, nil
	default:
		return nil, fmt.Errorf("dial: result URL scheme %q is not one of redis, rediss, redis+socket, sentinel, rpc, disabled; "+
			"for another store let a Python worker run the tasks whose results are read", scheme)
	}
}

// scheme is the part before "://" in lower case; "" when there is none.
func scheme(url string) string {
	s, _, found := strings.Cut(url, "://")
	if !found {
		return ""
	}
	return strings.ToLower(s)
}

func mapping(name string, v any) (map[string]any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		if len(v) == 0 { // false to Python
			return nil, nil
		}
		return v, nil
	case bool:
		if !v {
			return nil, nil
		}
		return map[string]any{}, nil
	}
	return nil, fmt.Errorf("dial: %s is %v, want a mapping", name, v)
}
