package main

import (
	"testing"

	"github.com/stalkworker/stalk/dial"
)

// A decorator that hides what a driver can do panics in faithful. Here it is noticed without a server, at least for
// what is made without a connection.
func TestTheDecoratorsHideNothing(t *testing.T) {
	t.Setenv("SOAK_STRICT", "1")
	for _, url := range []string{"redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"} {
		broker, err := dial.Broker(url, dial.BrokerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tapTransport(broker, &points{})
		for _, results := range []string{"redis://127.0.0.1:1/0", "rpc://"} {
			store, err := dial.Results(results, dial.ResultOptions{Broker: broker})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			tapBackend(store, &points{})
		}
	}
}

type plain struct{}

func (plain) One() {}

type able struct{ plain }

func (able) Two() {}

func TestFaithfulFindsWhatIsHidden(t *testing.T) {
	t.Setenv("SOAK_STRICT", "1")
	defer func() {
		if recover() == nil {
			t.Error("a decorator without Two passes")
		}
	}()
	faithful(able{}, plain{})
}
