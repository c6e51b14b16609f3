// Package isolate runs handlers in child processes of the same program (handlers.Options.Isolate): a child can be killed
// at a hard time limit, may use so much memory and no more, and takes only its own task with it when it crashes.
//
// A program that serves such handlers calls Serve at the start of its main, as command.Main does by itself; the worker
// makes a Pool. A child is started ahead, runs one task at a time, and stays for the next one. What it is told and
// what it answers goes through two pipes:
//
//	worker -> child   call (a task), cancel (why its context ends), reply (to a request)
//	child -> worker   hello, request (Report, Spawn, AddToChord), record (of Logger), result
//
// A frame is its length in four bytes, its kind in one, and one value (value.go). Arguments, results, progress and the
// errors of package handlers cross as they are; an error of the handler's own crosses as its text, its Python exception,
// and what the predicates of Options said of it (failure.go). The end of a pipe is the end of the other side: a child
// never outlives its worker. docs/isolation.md is the manual. Nobody implements an interface of this package.
package isolate
