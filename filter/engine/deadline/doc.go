// Package deadline works out how much time a call has left: the least of what
// the policy gives it and what its caller does, read from grpc-timeout or from
// a header of whole milliseconds.
//
// Times to go are in ns. Headers come from clients: each function is total,
// and what cannot be read gives no limit.
package deadline
