package api

//go:generate go test -run TestProblemDocs . -update

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/filter/problem"
)

// The admin interface's own problem types; those of the data plane are in
// filter/problem.
var (
	typeNotFound         = problem.Type{Slug: "not-found", Title: "No such thing", Status: http.StatusNotFound, Meaning: "The path names no endpoint and no object of this control plane.", Action: "Look the path up in /api/v1/openapi.json; it lists every endpoint."}
	typeMethodNotAllowed = problem.Type{Slug: "method-not-allowed", Title: "Method not allowed", Status: http.StatusMethodNotAllowed, Meaning: "The endpoint exists, but not with this method.", Action: "Use a method that the Allow header of the answer lists."}
	typeBadQuery         = problem.Type{Slug: "bad-query", Title: "Bad query", Status: http.StatusBadRequest, Meaning: "A query parameter is unknown, doubled, malformed or out of range.", Action: "Correct the parameter that the detail names."}
	typeInvalid          = problem.Type{Slug: "invalid-request", Title: "Invalid request", Status: http.StatusBadRequest, Meaning: "The body or a header of the request is not what the endpoint wants.", Action: "Correct the member that the detail names."}
	typeMediaType        = problem.Type{Slug: "unsupported-media-type", Title: "Unsupported media type", Status: http.StatusUnsupportedMediaType, Meaning: "A write must say that it is JSON, which a form of a web page cannot.", Action: "Send content-type: application/json."}
	typeTooLarge         = problem.Type{Slug: "body-too-large", Title: "Body too large", Status: http.StatusRequestEntityTooLarge, Meaning: "The body is larger than the control plane reads.", Action: "Send less."}
	typePrecondition     = problem.Type{Slug: "changed", Title: "Changed meanwhile", Status: http.StatusPreconditionFailed, Meaning: "If-Match or If-None-Match does not hold: somebody else has changed it.", Action: "Look at it again, then repeat with its new ETag."}
	typeUnknownHost      = problem.Type{Slug: "unknown-host", Title: "Unknown Host", Status: http.StatusForbidden, Meaning: "The Host header is not one of the control plane's names, as when a web page reaches it through a name of its own (DNS rebinding).", Action: "Use 127.0.0.1 or localhost, or a name that the control plane is configured with."}
	typeCrossOrigin      = problem.Type{Slug: "cross-origin", Title: "Cross-origin write", Status: http.StatusForbidden, Meaning: "A browser sent a write on behalf of a page from another origin.", Action: "Send it from a page of the control plane itself, or with a client that is no browser."}
	typeNotReady         = problem.Type{Slug: "not-ready", Title: "Not ready", Status: http.StatusServiceUnavailable, Retryable: true, Meaning: "The control plane has not served an accepted policy yet.", Action: "Look at /api/v1/policy/diagnostics for what keeps the policies from being accepted."}
	typeUnavailable      = problem.Type{Slug: "unavailable", Title: "Temporarily unavailable", Status: http.StatusServiceUnavailable, Retryable: true, Meaning: "The control plane could not read what the answer needs, such as its telemetry store.", Action: "Try again; its log names the cause under the request id."}
	typeInternal         = problem.Type{Slug: "internal", Title: "Internal fault", Status: http.StatusInternalServerError, Meaning: "The control plane hit a fault of its own.", Action: "Please report what its log says under the request id."}
)

// problemTypes is the registry that the pages show: the data plane's types and
// our own, sorted by slug.
func problemTypes() []problem.Type {
	all := append(problem.Types(),
		typeNotFound, typeMethodNotAllowed, typeBadQuery, typeInvalid, typeMediaType, typeTooLarge, typePrecondition, typeUnknownHost, typeCrossOrigin, typeNotReady, typeUnavailable, typeInternal)
	slices.SortFunc(all, func(a, b problem.Type) int { return strings.Compare(a.Slug, b.Slug) })
	return all
}

// ProblemType is an entry of the registry as the API lists it.
type ProblemType struct {
	Type      string `json:"type" doc:"URL that documents of this type carry."`
	Slug      string `json:"slug" doc:"Its last part."`
	Title     string `json:"title" doc:"The type in a few words."`
	Status    int    `json:"status" doc:"HTTP status that it comes with."`
	Retryable bool   `json:"retryable" doc:"The same request may succeed later."`
	GRPC      int    `json:"grpcStatus,omitempty" doc:"The grpc-status that gRPC callers get instead; absent where they never meet it."`
	Meaning   string `json:"meaning" doc:"What happened."`
	Action    string `json:"action" doc:"What can be done."`
}

func listedProblemTypes(base string) []ProblemType {
	return each(problemTypes(), func(t problem.Type) ProblemType {
		return ProblemType{base + t.Slug, t.Slug, t.Title, t.Status, t.Retryable, t.GRPC, t.Meaning, t.Action}
	})
}

// problemError is an error that knows its problem type.
type problemError struct {
	kind   problem.Type
	detail string
}

func (e *problemError) Error() string { return e.detail }

func problemf(kind problem.Type, format string, args ...any) *problemError {
	return &problemError{kind: kind, detail: fmt.Sprintf(format, args...)}
}

// problemWriter maps errors to problem documents, in this one place.
type problemWriter struct {
	typeBase string
	log      *slog.Logger
}

// write answers r with err. What is not a problemError is the Source's fault,
// not the caller's: the caller learns that it may try again, the log the rest.
func (p problemWriter) write(w http.ResponseWriter, r *http.Request, err error) {
	id := requestID(r.Context())
	var known *problemError
	if !errors.As(err, &known) {
		p.log.Error("admin request failed", "requestId", id, "method", r.Method, "path", r.URL.Path, "error", err)
		known = problemf(typeUnavailable, "the control plane could not read what the answer needs; its log has the cause under this request id")
	}
	t := known.kind
	doc := problem.Document{Type: p.typeBase + t.Slug, Title: t.Title, Status: t.Status, Detail: known.detail, Instance: id, Retryable: &t.Retryable}
	h := w.Header()
	h.Set("Content-Type", problem.ContentType)
	if t.Status == http.StatusServiceUnavailable {
		doc.RetryAfter = 1
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(t.Status)
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(append(problem.AppendJSON(nil, &doc), '\n'))
}
