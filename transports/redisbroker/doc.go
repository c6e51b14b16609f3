// Package redisbroker is Celery's Redis broker as Kombu lays it out, shared with Python workers and
// clients on the same keys, and stricter than they are about losing messages.
//
//	Q, Q sep 3, Q sep 6, Q sep 9   lists, one per priority step; LPUSH to send, right end is next
//	unacked                        hash: field -> [envelope, exchange, routing key], the stash
//	unacked_index                  sorted set: field -> time of delivery, renewed while it is ours
//	unacked_mutex                  lock of whoever sweeps
//	_kombu.binding.E               set of "key sep pattern sep queue"; _kombu.binding_permanent.E beside it
//	/{db}.E[/key]                  pub/sub channel of a fanout exchange
//
// A message is popped and stashed by one script, under a field of its own. While it is ours its index
// score is renewed, so nobody's sweep takes it; when we die, anybody's sweep returns it after the
// visibility timeout. A broken connection returns nothing: the leases stay with the Transport and its
// next Conn renews them. What each step of a script protects against is said in scripts.go.
//
// Where an ACL forbids scripts, taking falls back to transactions that watch the list, one message at a time. It is
// reported once through Config.Warn.
//
// Nothing here is meant to be implemented by others; the contract is package transports.
package redisbroker
