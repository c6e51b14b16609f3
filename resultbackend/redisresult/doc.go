// Package redisresult keeps results in Redis exactly as Celery's redis backend does, so that AsyncResult
// in any process reads them and is woken by them.
//
//	key       [global_keyprefix]celery-task-meta-<task id>      string, the result document
//	channel   the same name                                     each document, when it is stored
//	key       [global_keyprefix]celery-taskset-meta-<group id>  a chord while it runs: chords.go
//
// One script reads the old record, decides, stores and publishes, so SUCCESS is never overwritten, not
// even by two writers at once; usually a store is one round trip. Where scripts are forbidden, WATCH
// does the same in three. Chords need scripts, as they do for Celery 5.7.
//
// A stored record that cannot be read (foreign bytes, another serializer) is not SUCCESS: it is
// overwritten. Celery keeps such a record and loses the new result; we would rather tell the caller.
package redisresult
