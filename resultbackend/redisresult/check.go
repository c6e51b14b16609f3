package redisresult

import (
	"context"
	"fmt"

	"github.com/stalkworker/stalk/internal/redisopt"
	"github.com/stalkworker/stalk/resultbackend"
)

var _ resultbackend.Checker = (*Backend)(nil)

// Check asks the server what it is. A node of a Redis Cluster stores results until one belongs to another node, and can
// complete no chord.
func (b *Backend) Check(ctx context.Context) error {
	info, err := b.client.Info(ctx, "server").Result()
	if redisopt.OfCluster(info, err) {
		return fmt.Errorf("redisresult: %s: %w: %w", b.address, resultbackend.ErrUnfit, redisopt.ErrCluster)
	}
	if err != nil {
		return b.failed(ctx, err)
	}
	return nil
}
