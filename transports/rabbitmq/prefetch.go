package rabbitmq

import (
	"cmp"
	"strconv"
)

// RabbitMQ fixes the prefetch of a consumer when it starts, and the global prefetch that could be
// changed later is refused for quorum queues. So one queue is consumed by several consumers on one
// channel whose prefetches add up to the window: widening adds a consumer, narrowing cancels the newest
// ones. Nothing fetched is given back or fetched twice, and an ETA task that comes and goes (window plus
// one, minus one) adds and cancels a small consumer. Until what a cancelled consumer had delivered is
// settled more may be fetched than the window says; Receive holds to the window always. And the window may be larger than
// AMQP can say of one consumer: whoever holds 70,000 tasks for their eta still gets those behind them.
//
// On a queue with x-single-active-consumer only the first consumer gets messages, so there the window
// does not grow; narrowing it to less than half starts another first one.

const (
	maxPrefetch  = 65535   // of one consumer, as AMQP has 16 bits for it
	maxWindow    = 1 << 20 // of all
	exactUpTo    = 8       // consumers; from there on each is at least a quarter of the sum, so that they stay few
	maxConsumers = 80
)

// plan says which of the newest consumers to cancel and with what prefetch to add one (0: none) so that
// the sum is right for the window. One that adds maxPrefetch may want another. It may be up to a quarter over it, and up to twice where exactly would
// mean to cancel a consumer that is mostly wanted.
func plan(sizes []int, window int) (cancel, add int) {
	window = min(max(window, 1), maxWindow)
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	for cancel < len(sizes)-1 && sum-sizes[len(sizes)-1-cancel] >= window {
		sum -= sizes[len(sizes)-1-cancel]
		cancel++
	}
	if sum >= 2*window && sum > window {
		return len(sizes), min(window, maxPrefetch)
	}
	if sum < window {
		add = window - sum
		if len(sizes)-cancel >= exactUpTo {
			add = max(add, sum/4)
		}
		add = min(add, maxPrefetch, maxWindow-sum)
	}
	return cancel, add
}

// tag names a consumer: {node}.{queue}, to help operators; n counts the ones of one channel.
func tag(node, queue string, n int) string {
	suffix := ""
	if n > 1 {
		suffix = "." + strconv.Itoa(n)
	}
	name := cmp.Or(node, "stalk") + "." + queue
	return name[:min(len(name), maxShort-len(suffix))] + suffix
}
