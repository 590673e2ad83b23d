// Package scenario runs scripts against a data plane and compares what
// happened with what the script and its recorded trace say. One script runs in
// any World: the wazero host in virtual time (with one worker and with several,
// and the trace must be the same), and whatever else implements World.
//
// A scenario is a txtar archive: a description, then the files
//
//	plan.json   a contract.Plan; what is left out gets a default (see Fill)
//	script      steps, one a line
//	trace       what happened, written by `go test -update`
//	*.json      other plans, pushed by name; *.raw are pushed as they are
//
// The script:
//
//	workers 1 2                                                  # run with each of these
//	envoy: yes                                                   # also in a real Envoy, in real time; or
//	envoy: 20x                                                   # so many times faster: the script's times and the plan's are divided
//	attempts: yes                                                # the filter is in the upstream chain too
//	retry payments/charge retries=2 on=503,reset backoff=100ms perTry=1s
//	mask retry-after                                             # re-opened breakers have jitter
//	at 0s: 5x POST payments/charge upstream=503 -> 503
//	at 1s: worker=1 POST payments/charge -> 503 breaker-open retry-after=59
//	at 1s: POST payments/charge upstream=503,hang,200 -> 200 calls=3 key=made   # an answer for each try; 503:7 has a Retry-After
//	at 2s: hold=slow GET payments/charge                         # stays in flight
//	at 3s: push next.json -> ack
//	at 3s: release slow upstream=200 -> 200
//	at 4s: telemetry down                                        # up | down | 503 | 400 | hang | lost (arrives, the answer does not)
//	at 5s: trap worker=0
//	at 6s: clock -1h                                             # the wall clock steps
//	at 9s: expect breaker payments/charge open
//	at 9s: expect count payments/charge 5xx=5 breaker-open=1
//	at 9s: expect attempts payments/charge n=12                   # tries that were sent, in all
//	at 9s: expect counter panics=0
//	at 9s: hold=a GET payments/x header=x-deadline-ms:500
//	at 9s: expect held a waiting                                 # waiting | upstream | answered
//	at 9s: expect sent a x-seawall-deadline-ms=400               # a header as the upstream sees it
//	at 9s: expect pool payments/db granted=3 full=1 timedOut=0   # also held, waiting, limit
//
// Without worker= the requests of a script go to the workers in turn; a
// worker's number is taken modulo the number of workers. In every run the
// runner also checks that a batch once sent never changes, that sequence
// numbers have no gap, and that each request is counted exactly once, unless a
// trap step may have lost some.
//
// In a RealTime world steps are as far apart as the script says, or farther:
// time stands still while a step runs, as in virtual time. What is expected is
// waited for, and judged by what happened when; breakers by their events,
// counts once all that was before has been told. Decisions, their order, events
// and counts are compared exactly, a Retry-After to a second.
package scenario
