// Package alert decides what is alerted, and tells Alertmanager and webhooks.
//
// Conditions and Next are pure: the first says what is wrong now, the second
// which alerts are pending, firing or resolved after it. An alert fires once its
// condition has held for as long as its rule wants, and ends only when it has
// not held for Rule.Keep, so that one that comes and goes does not ring twice.
// What cannot be judged, because telemetry is stale, neither begins nor ends.
//
// Keeper looks every few seconds, keeps the alerts over restarts, and hands them
// to Alertmanagers and Webhooks, which never make it wait. Rules is also what
// package render writes Prometheus rules from, so that both say the same.
package alert
