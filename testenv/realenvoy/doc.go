// Package realenvoy gives tests a real Envoy.
//
// [Binary] finds or installs one and fails the test, saying what to do, where
// none can be had. SEAWALL_ENVOY=off skips the test instead and counts it: each
// skipped scenario is one line in the file that SEAWALL_NOT_RUN names, so that
// `make test` can end with how many were not run.
//
// [Start] runs one process, unsupervised, to be killed, stopped and looked at;
// [Launch] runs one as `seawall up` does. Both listen on free loopback ports
// only, keep everything under the test's temporary folder, and leave no process
// behind, not even when the test binary is killed ([Start]).
package realenvoy
