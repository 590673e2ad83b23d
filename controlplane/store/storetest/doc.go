// Package storetest is what every telemetry.Store must pass: one suite for all
// implementations, so that they cannot drift apart.
package storetest
