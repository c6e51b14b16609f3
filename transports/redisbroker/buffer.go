package redisbroker

import "slices"

// A buffer holds what was taken and not yet received, the oldest first.
type buffer struct {
	all  []delivery
	head int // of what is in it
}

func (b *buffer) len() int { return len(b.all) - b.head }

func (b *buffer) push(d delivery) {
	if b.head > 0 && len(b.all) == cap(b.all) {
		b.all = slices.Delete(b.all, 0, b.head)
		b.head = 0
	}
	b.all = append(b.all, d)
}

// pop is the next; there must be one.
func (b *buffer) pop() delivery {
	d := b.all[b.head]
	b.all[b.head] = delivery{}
	if b.head++; b.head == len(b.all) {
		b.all, b.head = b.all[:0], 0
	}
	return d
}

// remove takes out what which accepts, asked from the newest to the oldest, and returns it in that order.
func (b *buffer) remove(which func(*lease) bool) []*lease {
	var out []*lease
	for i := len(b.all) - 1; i >= b.head; i-- {
		if which(b.all[i].l) {
			out = append(out, b.all[i].l)
		}
	}
	if len(out) > 0 {
		b.all = slices.DeleteFunc(b.all, func(d delivery) bool { return d.l == nil || slices.Contains(out, d.l) })
		b.head = 0
	}
	return out
}
