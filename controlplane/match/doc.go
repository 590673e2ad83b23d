// Package match answers, from policies alone, what becomes of one request:
// which edge takes it, which service and route, why the routes before did not,
// which guards look at it and with which settings.
//
//	answer, err := match.Ask(model, set, source, match.Request{Method: "GET", URL: "http://payments.local/v1/charges"})
//
// The route is found by ir.MatchRoute in the compiled model, after
// ir.NormalizePath, so the answer is Envoy's. It imports policy, compile and ir.
package match
