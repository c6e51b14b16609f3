// Package canvas is what Celery calls canvas: chains, groups and chords of tasks, what sending one
// publishes, and what the end of a task causes next. It is pure. It reads no clock, knows no network and
// starts no goroutine: it answers with effects, as values, and whoever asked performs them in order.
//
//	Signature ──Apply──────────────┐                          Send        a message, and the queue to declare
//	                               │                          ChordBegin  before anything of a chord is sent
//	Task ───────AfterSuccess───────┤                          ChordSize   just before its header's last message
//	  callbacks, chain             │        Env               ChordGrow   one part more
//	            AfterFailure───────┼──▶ NewID, Now, Routes ──▶ Part        a task of a header ended
//	  chord, chain, errbacks       │    Tasks, Parent ...      StoreFailure  this one will never run
//	            AfterRevoked───────┤
//	            Replace, AddToChord┤
//	Part ───────Body, ChordFailed──┘
//
// # One task's end
//
// A worker that has a value asks AfterSuccess and sends what it says; the children go into the task's own
// record, which is stored after that; then, if PartOf says so, the part is reported with the value. A worker
// that has a failure stores it first and then asks AfterFailure. The part that completes a chord, whichever
// task that was, leads to Body, or, when one of the parts failed, to ChordFailed:
//
//	success   AfterSuccess ▶ store SUCCESS with children ▶ PartOf ▶ (complete) Body, or ChordFailed
//	failure   store FAILURE ▶ AfterFailure: part ▶ the steps that will not run ▶ errbacks
//	revoked   store REVOKED ▶ AfterRevoked: the part alone
//	replaced  Replace: what takes the task's place, under its id; nothing is stored, no part
//
// Where the result store counts no parts (Env.NativeChords), no Part is reported; instead every chord begins
// with celery.chord_unlock, which polls (Unlock). Accumulate, ParseMap and ApplyBuiltin are the other tasks
// that every Celery worker serves.
//
// # How exact
//
// The functions are those of celery/canvas.py, celery/app/trace.py and celery/backends/base.py of Celery 5.7,
// ported with what they share and what they copy (see tree.go), because that decides what is published. The
// tests live through several hundred canvases, hand-written and random, that real Celery lived through
// before, and compare every message byte for byte but for ids and the look of argsrepr. On purpose different:
//
//   - Null args, kwargs and task_id, stamps without a value: Celery fails the task, here they are none.
//   - What Celery leaves PENDING for ever is failed: every member of a group or of a chain that will not run,
//     the innermost body of a chord as a body, and the chord around a chord whose header failed.
//   - A step that is a group reports its parts member by member, as they were counted.
//   - The members of a failed group body are not revoked: nothing was published that could be.
//   - Errbacks are messages unless Env.Errback claims them. Celery calls those it knows by name, and that take
//     more than the id, in its own process.
//   - Options nobody knows are left out of the message, where Celery would make them message properties.
//   - An eta or expires is written in the zone of the encoding, where Celery keeps the zone it came in.
//
// # Limits
//
// What a message holds is not trusted. Signatures may be nested 200 deep; one call reads, copies or writes at
// most 2,000,000 of them (a group of 200,000 fits) and publishes at most 512 MiB; one failure tells at
// most 200,000 steps; a tuple shows the last 100 steps of a line of parents. Past them the error wraps
// ErrTooLarge. What ought to be a signature and is none is a *SignatureError that names its place.
package canvas
