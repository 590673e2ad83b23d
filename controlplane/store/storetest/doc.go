// Package storetest is what every store must pass: one suite per need for all
// implementations, so that they cannot drift apart.
package storetest
