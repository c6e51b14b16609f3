package redisbroker

import "time"

// SetHealing changes how often bindings are written again by connections made from now on.
func SetHealing(t *Transport, every time.Duration) { t.set.heal = every }
