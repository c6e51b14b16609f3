package redisbroker

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
)

var _ transports.BindingLister = (*conn)(nil)

// mostTables bounds how many exchanges Bindings tells of.
const mostTables = 10_000

// Bindings reads the tables that Kombu's clients keep, those of mailboxes and replies among them. It scans all
// keys of the database.
func (c *conn) Bindings(ctx context.Context) ([]transports.Binding, error) {
	var out []transports.Binding
	err := c.administer(ctx, "bindings", func(ctx context.Context) error {
		prefix, _ := c.t.set.bindingKeys("")
		keys := map[string]bool{}
		for cursor := uint64(0); len(keys) < mostTables; {
			found, next, err := c.main.Scan(ctx, cursor, escapeGlob(prefix)+"*", 1000).Result()
			if err != nil {
				return err
			}
			for _, k := range found {
				keys[k] = true
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		for key := range keys {
			members, err := c.main.SMembers(ctx, key).Result()
			if redis.HasErrorPrefix(err, "WRONGTYPE") {
				continue // a key of somebody else
			}
			if err != nil {
				return err
			}
			for _, m := range members {
				if parts := strings.Split(m, c.t.set.sep); len(parts) == 3 {
					out = append(out, transports.Binding{Queue: parts[2], Exchange: strings.TrimPrefix(key, prefix), RoutingKey: parts[0]})
				}
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b transports.Binding) int {
		return strings.Compare(a.Queue+"\x00"+a.Exchange+"\x00"+a.RoutingKey, b.Queue+"\x00"+b.Exchange+"\x00"+b.RoutingKey)
	})
	return out, err
}

// escapeGlob makes Redis take s as it is in a pattern.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
