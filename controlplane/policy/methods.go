package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// methods is the IANA registry of HTTP methods, without CONNECT (a tunnel has
// no request to guard), PRI and *.
var methods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE",
	"MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "ORDERPATCH", "PROPFIND",
	"PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE",
	"UPDATEREDIRECTREF", "VERSION-CONTROL",
}

// safeMethods and idempotentMethods are RFC 9110's; what is in neither is
// retried only with an idempotency key.
var (
	safeMethods       = []string{"GET", "HEAD", "OPTIONS", "TRACE"}
	idempotentMethods = append([]string{"PUT", "DELETE"}, safeMethods...)
)

// IdempotentMethod reports whether two requests with this method do what one
// does, so that a retry needs no idempotency key.
func IdempotentMethod(method string) bool { return slices.Contains(idempotentMethods, method) }

// IdempotentMethods are all of those, sorted.
func IdempotentMethods() []string { return slices.Sorted(slices.Values(idempotentMethods)) }

func methodFormat(s string) (string, *flaw) {
	if slices.Contains(methods, s) {
		return s, nil
	}
	if s == "CONNECT" {
		return s, &flaw{diag.BadMethod, "CONNECT opens a tunnel, in which there is no request to guard", ""}
	}
	hint := diag.DidYouMean(strings.ToUpper(s), methods)
	return s, &flaw{diag.BadMethod, fmt.Sprintf("%q is not an HTTP method", clip(s)), hint}
}
