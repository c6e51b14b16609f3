package interop_test

import (
	"net/url"
	"testing"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
)

// through returns the setup whose workers reach the broker through a proxy; Python clients do not.
func (s setup) through(t *testing.T) (setup, *faultproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(s.broker)
	if err != nil {
		t.Fatal(err)
	}
	p := faultproxy.New(t, u.Host)
	s.broker = p.Through(t, s.broker)
	return s, p
}
