// Package problem holds the problem documents (RFC 9457) that the data plane
// answers with, the registry of their types, and the parser that Go clients of
// any service use.
//
//	if doc, ok := problem.FromResponse(resp); ok && doc.IsRetryable() {
//		wait(doc.RetryAfter)
//	}
//
// IsValidation and RateLimit tell the other two cases that a client can act on.
//
// It is a leaf that the filter links: it imports jsonlite, and, outside the
// filter, net/http.
package problem
