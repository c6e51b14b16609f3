package membroker_test

import (
	"fmt"
	"testing"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
	"github.com/stalkworker/stalk/transports/transporttest"
)

// Not parallel: the suite looks for goroutines left behind.
func TestSuite(t *testing.T) {
	transporttest.Run(t, func(*testing.T) transporttest.Broker {
		b := membroker.New()
		n := 0
		return transporttest.Broker{
			Transport:   func() transports.Transport { return b },
			Name:        func() string { n++; return fmt.Sprintf("q%d", n) },
			Order:       transporttest.HighFirst,
			Counts:      true,
			HeaderOrder: true,
			Cut:         b.Cut,
		}
	})
}
