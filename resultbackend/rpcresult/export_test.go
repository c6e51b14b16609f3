package rpcresult

import "github.com/stalkworker/stalk/resultbackend"

// MaxExpected is how many replies are kept.
const MaxExpected = maxExpected

// Waiting reports whether somebody waits for the task.
func Waiting(r resultbackend.Replies, taskID string) bool {
	p := r.(*replies)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.expected[taskID]
	return e != nil && e.waiting > 0
}
