package worker

import (
	"context"

	"github.com/stalkworker/stalk/transports"
)

// Where the broker counts deliveries, what comes back too often is set aside: it may be what ends workers. But a
// message also comes back when a worker is restarted that had not begun with it, or when a connection breaks, and
// that must not be held against it. What a worker gives back unbegun is returned (transports.Return), which does not
// count; and what waits for its eta, which takes long and cannot have harmed anybody, is made new before its count
// becomes a danger.

// renewAt is the delivery from which on a message that is to wait is made new. Half of the default limit: until the
// next chance it may come back as often again.
const renewAt = 8

// renew puts a message that is to wait for its eta, and has come back often, into its queue as a new one. It reports
// false when the message is still ours.
func (in *intake) renew(j *job) bool {
	if j.delivery.Count < min(renewAt, mostDeliveries(&in.w.cfg, j.delivery)) || j.delivery.Count < 2 {
		return false
	}
	if err := in.w.settler.attempt(in.settle, func(ctx context.Context) error { return j.delivery.Receipt.Move(ctx, j.delivery.Queue) }); err != nil {
		in.w.log.Warn("a message that is to wait has come back often and cannot be made new", append(taskAttrs(j.task), "count", j.delivery.Count, "err", err)...)
		return false
	}
	in.w.log.Info("a message that is to wait has come back often; it was put into its queue as a new one", append(taskAttrs(j.task), "count", j.delivery.Count)...)
	in.release(j)
	in.leave(j)
	return true
}

// mostDeliveries is how often a task may be delivered and run. The delivery after these is the last one that the
// broker makes where its own limit is the lower one, and is needed to set the message aside.
func mostDeliveries(cfg *Config, d *transports.Delivery) int {
	if d.Limit > 0 {
		return min(cfg.Deliveries, d.Limit)
	}
	return cfg.Deliveries
}

// goesBack reports whether the step returns the message to its queue.
func goesBack(s step) bool {
	reject, ok := s.(rejectStep)
	_, returned := s.(returnStep)
	return returned || ok && reject.requeue
}
