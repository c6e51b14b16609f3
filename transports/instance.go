package transports

// An Instancer is a Transport of a broker that may have forgotten its latest writes when it comes back: a Redis that
// was restarted from its disk, or whose replica took its place. Instance names the server process that the latest
// Connect has reached; it is settled before anything can be done over that connection. Another name than before means
// that what was published, acknowledged or, where the results are kept there, stored shortly before may be undone.
// A server that does not tell who it is gets another name with each connection.
//
// Brokers that keep what they have confirmed are no Instancers. Instance is safe for concurrent use.
type Instancer interface {
	Instance() string
}

// Instance is the name of the broker's instance, and always "" for one that keeps what it has confirmed.
func Instance(t Transport) string {
	if i, ok := t.(Instancer); ok {
		return i.Instance()
	}
	return ""
}
