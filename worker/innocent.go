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

// tired reports whether a message that is to wait for its eta has come back often.
func (in *intake) tired(j *job) bool {
	return j.delivery.Count >= max(2, min(renewAt, mostDeliveries(&in.w.cfg, j.delivery)))
}

// renew puts the message, untouched, at the end of its queue as a new one, which has no count yet. It reports false when
// the message is still ours.
func (in *intake) renew(j *job, why string) bool {
	attrs := append(messageAttrs(j), "count", j.delivery.Count)
	err := in.w.settler.attempt(in.settle, func(ctx context.Context) error { return j.delivery.Receipt.Move(ctx, j.delivery.Queue) })
	if err != nil {
		in.w.log.Warn(why+", and cannot be made new", append(attrs, "err", err)...)
		return false
	}
	in.w.log.Info(why+"; it was put into its queue as a new one", attrs...)
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
