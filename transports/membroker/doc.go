// Package membroker is a message broker in memory: a Transport for tests of whatever stands above
// transports, and the reference that the suite in transporttest is read against. It is no substitute
// for a broker in production: nothing is kept beyond the process.
//
// It behaves as RabbitMQ does where brokers differ: a returned message goes back to its old place, an
// unsettled one returns when its connection ends, priorities (x-max-priority) are higher first, a
// rejected message goes to x-dead-letter-exchange. Not modelled: AutoDelete, Exclusive, x-expires,
// message expiry. Deliveries are counted (see Broker.Counting).
//
// It starts no goroutine and uses no network and no clock of its own: everything that waits waits on a
// channel, so inside a testing/synctest bubble (the Broker made inside it too) time and blocking are
// exact. Faults happen when a test asks for them: Cut, Fail, Lose, Delay.
package membroker
