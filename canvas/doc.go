// Package canvas is what Celery calls canvas: chains, groups and chords of tasks, what sending one
// publishes, and what the end of a task causes next. It is pure: it reads no clock, knows no network, starts
// no goroutine; it answers with effects, as values, and whoever asked performs them in order.
package canvas
