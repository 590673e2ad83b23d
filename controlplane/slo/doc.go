// Package slo turns counts of requests into error budgets and burn rates.
//
// It is pure and a leaf: values in, values out, standard library only; no
// clock and no I/O. Package telemetry asks the store for sums and calls
// Evaluate; package compile makes Objectives from policies.
//
// Budgets are request-weighted: bad requests against allowed requests over the
// whole window, never an average of ratios, so a quiet night weighs what it
// served. Decisions (exhausted, firing, which step is reached) compare integers;
// floating point serves only for what is shown. Nothing here is ever NaN or
// infinite.
package slo
